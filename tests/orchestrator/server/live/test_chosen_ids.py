"""Session ids that clients choose and balancers can read: path, header, Location, cookie."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert

SESSIONS = "/v1/live/sessions"
KEYS = {"api_keys": ["key-of-ann", "key-of-bob"], "api_keys_env": None}


async def put(doors: Any, name: str, text: str, **given: Any) -> tuple[int, Any, Any]:
    url = f"{doors.url}{SESSIONS}/{name}/input"
    async with doors.http.put(url, json={"text": text, **given.pop("body", {})}, **given) as answer:
        return answer.status, await answer.json(), answer.headers


async def test_input_of_a_chosen_id_opens_its_session_and_later_ones_find_it(serve: Any) -> None:
    async with serve() as doors:
        status, answer, headers = await put(doors, "call-7.a", "what ", body={"revision": 4})
        assert (status, answer["id"], answer["revision"]) == (201, "call-7.a", 4)
        assert headers["Location"] == f"{SESSIONS}/call-7.a"
        assert headers["X-LiveMind-Session"] == "call-7.a"
        status, answer, headers = await put(doors, "call-7.a", "what is ", body={"revision": 5})
        assert (status, answer["revision"]) == (200, 5)
        assert "Location" not in headers
        assert len(doors.state.registry) == 1
        chat = {"messages": [{"role": "user", "content": "what is it"}]}
        given = {"headers": {"X-LiveMind-Session": "call-7.a"}, "json": chat}
        async with doors.http.post(doors.url + "/v1/chat/completions", **given) as adopted:
            assert adopted.headers["X-LiveMind-Session-Status"] == "adopted"


@pytest.mark.parametrize(
    "name", ["x" * 129, "a%20b", "a%2Fb", "-a", ".a", "a;b", "%C3%BC", "a%00b"]
)
async def test_chosen_id_of_another_form_is_refused_by_name(serve: Any, name: str) -> None:
    async with serve() as doors:
        status, answer, _ = await put(doors, name, "hello")
        error = answer["error"]
        assert (status, error["param"], error["code"]) == (400, "id", "invalid_value")
        assert "128" in error["message"]
        assert len(doors.state.registry) == 0


@pytest.mark.parametrize("name", ["x" * 128, "a", "0", "A~b_c-d.e"])
async def test_chosen_id_within_the_limits_is_taken(serve: Any, name: str) -> None:
    async with serve() as doors:
        assert (await put(doors, name, "hello"))[0] == 201


async def test_bad_input_opens_no_session(serve: Any) -> None:
    async with serve() as doors:
        for body in ({"revision": -1}, {"speed": 1}, {"text": 7}):
            assert (await put(doors, "mine", "hello", body=body))[0] == 400
        assert len(doors.state.registry) == 0


async def test_settings_of_a_chosen_id_open_its_session(serve: Any) -> None:
    async with serve() as doors:
        given = {"json": {"instructions": "Be brief."}}
        async with doors.http.patch(f"{doors.url}{SESSIONS}/mine", **given) as answer:
            assert (answer.status, (await answer.json())["instructions"]) == (201, "Be brief.")


async def test_two_first_inputs_at_once_open_one_session(serve: Any) -> None:
    async with serve() as doors:
        found = await asyncio.gather(*(put(doors, "mine", "hello") for _ in range(8)))
        assert {status for status, _, _ in found} <= {200, 201}
        assert len(doors.state.registry) == 1


async def test_same_chosen_id_of_two_keys_is_two_sessions(serve: Any) -> None:
    async with serve(FakeExpert("fake"), **KEYS) as doors:
        for key, text in (("key-of-ann", "her words"), ("key-of-bob", "his")):
            headers = {"Authorization": f"Bearer {key}"}
            status, answer, _ = await put(doors, "call", text, headers=headers)
            assert (status, answer["revision"]) == (201, 1)
        assert sorted(live.session.text for live in doors.state.registry._by_id.values()) == [
            "her words",
            "his",
        ]


async def test_chosen_id_can_be_used_again_after_its_session_ended(serve: Any) -> None:
    async with serve() as doors:
        for _ in range(2):
            assert (await put(doors, "mine", "hello"))[0] == 201
            status, _ = await doors.ask("DELETE", f"{SESSIONS}/mine")
            assert status == 200


async def test_made_session_is_named_in_header_and_location_and_in_a_cookie_if_wanted(
    serve: Any,
) -> None:
    for cookie in (None, "lm_session"):
        async with serve(session_cookie=cookie) as doors:
            async with doors.http.post(doors.url + SESSIONS) as answer:
                name = (await answer.json())["id"]
                assert answer.headers["X-LiveMind-Session"] == name
                assert answer.headers["Location"] == f"{SESSIONS}/{name}"
                told = answer.headers.get("Set-Cookie", "")
                if cookie is None:
                    assert told == ""
                else:
                    assert told.startswith(f"lm_session={name}; HttpOnly; Path=/; SameSite=Lax")
                    assert "Secure" not in told
            if cookie is not None:
                forwarded = {"X-Forwarded-Proto": "https"}
                _, _, headers = await put(doors, "mine", "a", headers=forwarded)
                assert "Secure" in headers["Set-Cookie"]


async def test_id_that_only_the_server_makes_opens_nothing(serve: Any) -> None:
    async with serve() as doors:
        status, answer, _ = await put(doors, "sess_0123", "hello")
        assert (status, answer["error"]["code"]) == (404, "session_not_found")
