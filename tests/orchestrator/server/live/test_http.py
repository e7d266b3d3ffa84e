"""Live sessions over plain HTTP, and their adoption by a chat completion."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert

SESSIONS = "/v1/live/sessions"


async def make(doors: Any, **fields: Any) -> str:
    status, answer = await doors.post(SESSIONS, fields)
    assert status == 201, answer
    name: str = answer["id"]
    return name


async def ask(doors: Any, session: str, *messages: str, **fields: Any) -> tuple[int, Any]:
    roles = ("user", "assistant")
    said = [{"role": roles[n % 2], "content": text} for n, text in enumerate(messages)]
    headers = {"X-LiveMind-Session": session}
    body = {"messages": said, **fields}
    status, answer = await doors.post("/v1/chat/completions", body, headers=headers)
    return status, answer


async def test_session_created_without_body_has_the_defaults(serve: Any) -> None:
    async with serve() as doors, doors.http.post(doors.url + SESSIONS) as response:
        assert response.status == 201
        answer = await response.json()
        assert answer["object"] == "live.session"
        assert answer["revision"] == 0
        assert answer["speculation"] == "draft"


async def test_session_input_returns_revision_and_status(serve: Any) -> None:
    async with serve() as doors:
        session = await make(doors, speculation="prefill")
        path = f"{SESSIONS}/{session}/input"
        status, answer = await doors.ask("PUT", path, json={"text": "hello ", "revision": 3})
        assert status == 200
        assert answer["revision"] == 3
        assert {"route", "retrieval", "prefill", "draft", "response_running"} <= set(answer)


async def test_session_status_shows_the_prefill_that_went_on(serve: Any, eventually: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        session = await make(doors, speculation="prefill")
        path = f"{SESSIONS}/{session}"
        for text in ("one two three four ", "one two three four five six seven eight nine "):
            await doors.ask("PUT", path + "/input", json={"text": text})
            await asyncio.sleep(0.1)
        await eventually(lambda: expert.prefilled_tokens)
        _, answer = await doors.ask("GET", path)
        assert answer["prefill"]["expert"] == "fake"
        assert answer["prefill"]["tokens_ready"] > 0


async def test_session_revision_going_backwards_is_a_409(serve: Any) -> None:
    async with serve() as doors:
        path = f"{SESSIONS}/{await make(doors)}/input"
        await doors.ask("PUT", path, json={"text": "a", "revision": 2})
        status, answer = await doors.ask("PUT", path, json={"text": "b", "revision": 2})
        assert (status, answer["error"]["code"]) == (409, "revision_conflict")
        assert answer["error"]["param"] == "revision"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": "a", "speed": 1}, 400, "unknown_parameter"),
        ({}, 400, "missing_parameter"),
        ({"text": 1}, 400, "invalid_type"),
        ({"text": "x" * 300}, 413, "text_too_long"),
        ({"text": "a", "revision": True}, 400, "invalid_type"),
    ],
)
async def test_session_bad_input_is_refused_by_name(
    serve: Any, body: Any, status: int, code: str
) -> None:
    async with serve(max_text_chars=200) as doors:
        path = f"{SESSIONS}/{await make(doors)}/input"
        got, answer = await doors.ask("PUT", path, json=body)
        assert (got, answer["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "x"}, 404, "model_not_found"),
        ({"consensus": "vote"}, 400, "not_available"),
        ({"sampling": {"top_p": 0}}, 400, "invalid_value"),
        ({"voice": "x"}, 400, "unknown_parameter"),
    ],
)
async def test_session_bad_settings_open_nothing(
    serve: Any, fields: Any, status: int, code: str
) -> None:
    async with serve() as doors:
        got, answer = await doors.post(SESSIONS, fields)
        assert (got, answer["error"]["code"]) == (status, code)
        assert len(doors.state.registry) == 0


async def test_session_unknown_id_is_404_on_every_path(serve: Any) -> None:
    async with serve() as doors:
        for method, path in (
            ("GET", f"{SESSIONS}/sess_none"),
            ("DELETE", f"{SESSIONS}/sess_none"),
            ("PUT", f"{SESSIONS}/sess_none/input"),
            ("PATCH", f"{SESSIONS}/sess_none"),
        ):
            body = {"text": "a"} if method == "PUT" else {}
            status, answer = await doors.ask(method, path, json=body)
            assert (status, answer["error"]["code"]) == (404, "session_not_found")


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_with_a_lost_session_is_answered_without_it(
    serve: Any, body: Any, stream: bool
) -> None:
    async with serve() as doors:
        url, headers = doors.url + "/v1/chat/completions", {"X-LiveMind-Session": "sess_none"}
        request = body("hi there", stream=stream)
        async with doors.http.post(url, json=request, headers=headers) as response:
            assert response.status == 200
            assert response.headers["X-LiveMind-Session-Status"] == "lost"
            assert "HI" in await response.text()
        headers["X-LiveMind-Session"] = await make(doors, speculation="off")
        async with doors.http.post(url, json=request, headers=headers) as response:
            assert response.headers["X-LiveMind-Session-Status"] == "adopted"
        async with doors.http.post(url, json=request) as response:
            assert "X-LiveMind-Session-Status" not in response.headers


async def test_session_deleted_is_gone_and_its_response_cancelled(serve: Any, body: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors:
        session = await make(doors, speculation="off")
        request = body("one two", stream=True)
        headers = {"X-LiveMind-Session": session}
        async with doors.http.post(
            doors.url + "/v1/chat/completions", json=request, headers=headers
        ) as response:
            await response.content.readany()
            status, answer = await doors.ask("DELETE", f"{SESSIONS}/{session}")
            assert (status, answer["deleted"]) == (200, True)
            rest = (await response.read()).decode()
        event = json.loads(rest.strip().rpartition("data: ")[2])
        assert event["error"]["code"] == "cancelled"
        assert expert.running == 0
        assert (await doors.ask("GET", f"{SESSIONS}/{session}"))[0] == 404


async def test_session_adopted_answers_the_request_and_lives_on(serve: Any) -> None:
    async with serve() as doors:
        session = await make(doors, speculation="off", instructions="be brief")
        await doors.ask("PUT", f"{SESSIONS}/{session}/input", json={"text": "half a quest"})
        status, answer = await ask(doors, session, "a whole question")
        assert status == 200
        assert answer["choices"][0]["message"]["content"] == "A WHOLE QUESTION"
        _, shown = await doors.ask("GET", f"{SESSIONS}/{session}")
        assert shown["response_running"] is False
        assert shown["instructions"] == "be brief"


async def test_session_adopted_again_with_the_same_history_keeps_it(serve: Any) -> None:
    seen: list[Any] = []

    def remember(messages: Any) -> str:
        seen.append([(m.role, m.content) for m in messages])
        return "fine"

    async with serve(FakeExpert("fake", answer=remember)) as doors:
        session = await make(doors, speculation="off")
        await ask(doors, session, "first")
        await ask(doors, session, "first", "fine", "second")
        assert seen[1] == [("user", "first"), ("assistant", "fine"), ("user", "second")]


async def test_session_adopted_with_another_history_takes_the_requests(serve: Any) -> None:
    seen: list[Any] = []

    def remember(messages: Any) -> str:
        seen.append([(m.role, m.content) for m in messages])
        return "fine"

    async with serve(FakeExpert("fake", answer=remember)) as doors:
        session = await make(doors, speculation="off")
        await ask(doors, session, "first")
        await ask(doors, session, "edited", "fine", "second")
        assert seen[1] == [("user", "edited"), ("assistant", "fine"), ("user", "second")]
        await ask(doors, session, "alone")
        assert seen[2] == [("user", "alone")]


async def test_session_adopted_uses_its_sampling_unless_the_request_says(serve: Any) -> None:
    async with serve() as doors:
        session = await make(doors, speculation="off", sampling={"max_tokens": 2})
        _, answer = await ask(doors, session, "one two three")
        assert answer["choices"][0]["message"]["content"] == "ONE TWO"
        _, answer = await ask(doors, session, "one two three", max_tokens=1)
        assert answer["choices"][0]["message"]["content"] == "ONE"
        _, answer = await ask(doors, session, "one two three")
        assert answer["choices"][0]["message"]["content"] == "ONE TWO"


async def test_session_adopted_twice_at_once_answers_the_newer_request(
    serve: Any, body: Any
) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors:
        session = await make(doors, speculation="off")
        headers = {"X-LiveMind-Session": session}
        url = doors.url + "/v1/chat/completions"
        async with doors.http.post(url, json=body("a b", stream=True), headers=headers) as first:
            await first.content.readany()
            status, answer = await ask(doors, session, "c")
            assert (status, answer["choices"][0]["message"]["content"]) == (200, "C")
            rest = (await first.read()).decode()
        event = json.loads(rest.strip().rpartition("data: ")[2])
        assert event["error"]["code"] == "cancelled"
        assert expert.running == 0


async def test_session_adopted_client_that_vanishes_frees_the_slot_but_keeps_the_session(
    serve: Any, body: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors:
        session = await make(doors, speculation="off")
        headers = {"X-LiveMind-Session": session}
        url = doors.url + "/v1/chat/completions"
        async with doors.http.post(url, json=body("a b", stream=True), headers=headers) as first:
            await first.content.readany()
        await eventually(lambda: not expert.running)
        status, shown = await doors.ask("GET", f"{SESSIONS}/{session}")
        assert status == 200
        assert shown["response_running"] is False


async def test_session_of_a_socket_can_be_adopted_and_the_socket_sees_the_turn(
    serve: Any,
) -> None:
    async with serve() as doors, doors.live() as socket:
        session = socket.seen[0]["session"]["id"]
        await socket.send(type="input_text.append", text="hello")
        status, answer = await ask(doors, session, "hello")
        assert status == 200
        assert answer["choices"][0]["message"]["content"] == "HELLO"
        assert (await socket.until("response.done"))["status"] == "completed"


async def test_session_without_use_expires(serve: Any, eventually: Any) -> None:
    async with serve(session_idle_timeout_s=0.2) as doors:
        session = await make(doors)
        await eventually(lambda: not len(doors.state.registry))
        status, _ = await doors.ask("GET", f"{SESSIONS}/{session}")
        assert status == 404


async def test_session_of_another_key_cannot_be_found(serve: Any) -> None:
    async with serve(api_keys=["a", "b"]) as doors:
        mine = {"Authorization": "Bearer a"}
        other = {"Authorization": "Bearer b"}
        _, answer = await doors.post(SESSIONS, {}, headers=mine)
        path = f"{SESSIONS}/{answer['id']}"
        assert (await doors.ask("GET", path, headers=other))[0] == 404
        assert (await doors.ask("GET", path, headers=mine))[0] == 200


async def test_sessions_over_the_limit_are_429(serve: Any) -> None:
    async with serve(max_sessions=2) as doors:
        await make(doors)
        await make(doors)
        status, answer = await doors.post(SESSIONS, {})
        assert status == 429
        assert answer["error"]["type"] == "rate_limit_error"


async def test_session_adopted_with_the_drafted_text_gives_out_the_draft(
    serve: Any, body: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", ttft_s=0.05)
    async with serve(expert) as doors:
        session = await make(doors, speculation="draft")
        text = "one two three four five six?"
        await doors.ask("PUT", f"{SESSIONS}/{session}/input", json={"text": text})
        await eventually(lambda: expert.generated_tokens == 6)
        url, headers = doors.url + "/v1/chat/completions", {"X-LiveMind-Session": session}
        async with doors.http.post(url, json=body(text), headers=headers) as response:
            answer = await response.json()
            assert int(response.headers["X-LiveMind-Adopted-Tokens"]) >= 6
        assert answer["choices"][0]["message"]["content"] == text.upper()
        assert expert.generated_tokens == 6
