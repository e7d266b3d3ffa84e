"""Who gets into a running server: pages of other origins, names, content types, keys, tickets."""

from __future__ import annotations

import asyncio
import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.errors import Overloaded, Unauthorized
from livemind.orchestrator.server.access.sockets import TICKET_S, Tickets

CHAT = "/v1/chat/completions"
PAGE = {"Origin": "https://page.example"}
RIGHT = {"Authorization": "Bearer right"}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    def entry(name: str, **given: Any) -> dict[str, Any]:
        return {"name": name, "sha256": sha256(name.encode()).hexdigest(), **given}

    file = tmp_path / "keys.json"
    keys = [
        entry("asker", scopes=["ask"]),
        entry("operator", scopes=["operate"]),
        entry("late", expires="2020-01-01"),
        entry("small", max_sessions=1, max_turns=1),
    ]
    file.write_text(json.dumps({"keys": keys}))
    return file


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def test_page_of_another_site_is_refused_at_every_door(serve: Any, body: Any) -> None:
    async with serve() as doors:
        assert (await doors.post(CHAT, body(), headers=PAGE))[0] == 403
        status, answer = await doors.ask("GET", "/stats", headers=PAGE)
        assert (status, answer["error"]["code"]) == (403, "origin_not_allowed")
        assert "server.allowed_origins" in answer["error"]["message"]
        for path in ("/v1/live", "/v1/realtime"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await doors.http.ws_connect(doors.url + path, headers=PAGE)
            assert refused.value.status == 403
        assert doors.experts["fake"].started == 0


async def test_other_name_for_the_server_is_refused_and_a_listed_one_is_not(serve: Any) -> None:
    async with serve(allowed_hosts=["ai.example"]) as doors:
        for host, status in (("rebound.example", 421), ("ai.example", 200), ("localhost", 200)):
            assert (await doors.ask("GET", "/v1/models", headers={"Host": host}))[0] == status


@pytest.mark.parametrize("kind", ["text/plain", "text/plain;charset=UTF-8", "multipart/form-data"])
async def test_body_that_is_not_called_json_is_refused(serve: Any, body: Any, kind: str) -> None:
    async with serve() as doors:
        data = json.dumps(body()).encode()
        for path in (CHAT, "/v1/completions", "/v1/live/sessions"):
            given = {"Content-Type": kind}
            status, answer = await doors.ask("POST", path, data=data, headers=given)
            assert (status, answer["error"]["code"]) == (415, "unsupported_content_type")


async def test_page_that_is_listed_asks_reads_and_talks(serve: Any, body: Any) -> None:
    async with serve(allowed_origins=["https://page.example"]) as doors:
        asks = {**PAGE, "Access-Control-Request-Method": "POST"}
        asks["Access-Control-Request-Headers"] = "authorization,content-type,x-stainless-os"
        async with doors.http.options(doors.url + CHAT, headers=asks) as may:
            assert may.status == 204
            assert may.headers["Access-Control-Allow-Origin"] == "https://page.example"
            allowed = may.headers["Access-Control-Allow-Headers"]
            assert allowed == asks["Access-Control-Request-Headers"]
        for stream in (False, True):
            async with doors.http.post(
                doors.url + CHAT, json=body(stream=stream), headers=PAGE
            ) as answer:
                assert answer.status == 200
                assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"
                assert "Origin" in answer.headers["Vary"]
                await answer.read()
        async with doors.http.get(doors.url + "/nowhere", headers=PAGE) as missing:
            assert missing.headers["Access-Control-Allow-Origin"] == "https://page.example"
        async with doors.live(headers=PAGE) as socket:
            await socket.send(type="input_text.commit", text="a")
            await socket.until("response.done")


async def test_page_with_a_key_opens_a_socket_by_subprotocol(serve: Any) -> None:
    async with serve(api_keys=["right"]) as doors:
        async with doors.live(protocols=["livemind", "livemind-key.right"]) as socket:
            assert socket.ws.protocol == "livemind"
        url = doors.url + "/v1/realtime?model=auto"
        named = ["realtime", "openai-insecure-api-key.right"]
        async with doors.http.ws_connect(url, protocols=named) as realtime:
            assert realtime.protocol == "realtime"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await doors.http.ws_connect(url, protocols=["realtime", "livemind-key.wrong"])
        assert refused.value.status == 401


async def test_ticket_opens_one_socket_and_no_second(serve: Any) -> None:
    async with serve(api_keys=["right"]) as doors:
        assert (await doors.post("/v1/live/tickets"))[0] == 401
        status, given = await doors.post("/v1/live/tickets", headers=RIGHT)
        assert (status, given["expires_in_s"]) == (200, TICKET_S)
        url = f"{doors.url}/v1/live?ticket={given['ticket']}"
        async with doors.http.ws_connect(url) as socket:
            assert (await socket.receive_json())["type"] == "session.created"
        for again in (url, f"{doors.url}/v1/live?ticket=x", f"{doors.url}/v1/live?ticket="):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await doors.http.ws_connect(again)
            assert refused.value.status == 401
        other = f"/v1/models?ticket={given['ticket']}"
        assert (await doors.ask("GET", other))[0] == 401


def test_tickets_expire_and_are_bounded_per_key() -> None:
    tickets = Tickets()
    old = tickets.issue("a", 0.0)
    with pytest.raises(Unauthorized):
        tickets.take(old, TICKET_S)
    for _ in range(1000):
        tickets.issue("a", 100.0)
    with pytest.raises(Overloaded):
        tickets.issue("a", 100.0)
    assert tickets.take(tickets.issue("b", 100.0), 101.0) == "b"
    tickets.issue("a", 100.0 + TICKET_S)


async def test_key_may_do_what_its_scopes_say(serve: Any, key_file: Path) -> None:
    async with serve(api_keys_file=key_file) as doors:
        for name, models, stats in (("asker", 200, 403), ("operator", 403, 200)):
            assert (await doors.ask("GET", "/v1/models", headers=bearer(name)))[0] == models
            assert (await doors.ask("GET", "/stats", headers=bearer(name)))[0] == stats
            text, headers = {"prompt": "x"}, bearer(name)
            assert (await doors.post("/tokenize", text, headers=headers))[0] == models
        _, answer = await doors.ask("GET", "/stats", headers=bearer("asker"))
        assert answer["error"]["code"] == "missing_scope"
        assert "'operate'" in answer["error"]["message"]
        _, answer = await doors.ask("GET", "/v1/models", headers=bearer("late"))
        assert answer["error"]["code"] == "expired_api_key"


async def test_keys_of_the_environment_count(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEMIND_API_KEYS", "one, two")
    async with serve() as doors:
        assert (await doors.ask("GET", "/v1/models"))[0] == 401
        for name in ("one", "two"):
            assert (await doors.ask("GET", "/v1/models", headers=bearer(name)))[0] == 200


async def test_keys_are_read_again_and_sessions_of_removed_ones_end(
    serve: Any, key_file: Path
) -> None:
    async with (
        serve(api_keys_file=key_file) as doors,
        doors.live(headers=bearer("asker")) as socket,
    ):
        kept = json.loads(await asyncio.to_thread(key_file.read_text))["keys"][1:]
        await asyncio.to_thread(key_file.write_text, '{"keys": ')
        assert not await doors.state.reload_keys()
        assert (await doors.ask("GET", "/v1/models", headers=bearer("asker")))[0] == 200
        await asyncio.to_thread(key_file.write_text, json.dumps({"keys": kept}))
        assert await doors.state.reload_keys()
        assert (await doors.ask("GET", "/v1/models", headers=bearer("asker")))[0] == 401
        await socket.closed()
        assert not len(doors.state.registry)


async def test_answer_that_breaks_after_its_beginning_is_not_answered_twice(
    serve: Any, body: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(FakeExpert("fake", answer=lambda messages: "one two three")) as doors:
        from livemind.orchestrator.server.sse import EventStream

        sent = EventStream.send
        count = 0

        async def breaks(self: EventStream, *payloads: object) -> None:
            nonlocal count
            count += 1
            if count > 1:
                raise RuntimeError("a fault of ours")
            await sent(self, *payloads)

        monkeypatch.setattr(EventStream, "send", breaks)
        caplog.set_level(logging.ERROR)
        got, broke = b"", False
        try:
            async with doors.http.post(doors.url + CHAT, json=body(stream=True)) as answer:
                async for block in answer.content.iter_any():
                    got += block
        except aiohttp.ClientError:
            broke = True
        assert broke
        assert b"HTTP/1.1" not in got
        assert b"internal" not in got
        assert "RuntimeError" in caplog.text
        monkeypatch.undo()
        assert (await doors.chat())[0] == 200
        await asyncio.sleep(0)


async def test_page_that_points_its_name_here_gets_numbers_alone_where_there_are_keys(
    serve: Any, body: Any
) -> None:
    async with serve(api_keys=["sesame"]) as doors:
        named = {"Host": "there.example", "Origin": "http://there.example"}
        status, told = await doors.ask("GET", "/health", headers=named)
        assert (status, set(told)) == (200, {"status", "models_loaded", "models_available"})
        for method, path in (("GET", "/v1/models"), ("GET", "/stats"), ("POST", CHAT)):
            given = {"json": body()} if method == "POST" else {}
            assert (await doors.ask(method, path, headers=named, **given))[0] == 401
