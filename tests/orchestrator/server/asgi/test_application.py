"""The application behind uvicorn: streams, sockets, bodies in pieces, leaving clients, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.server.asgi.application import AsgiApplication


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    text = await response.text()
    found = [line.removeprefix("data: ") for line in text.splitlines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in found]


async def test_chat_is_answered_whole_and_streamed(serve: Any, body: Any) -> None:
    async with serve(asgi=True) as doors:
        status, answer = await doors.chat("hello there")
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "HELLO THERE")
        url = f"{doors.url}/v1/chat/completions"
        async with doors.http.post(url, json=body("hello there", stream=True)) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert "X-Request-Id" in response.headers
            told = await events(response)
        assert told[-1] == "[DONE]"
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in told[:-1])
        assert text == "HELLO THERE"
        await doors.quiet()


async def test_stream_comes_piece_by_piece(serve: Any, body: Any) -> None:
    """The first word is here while the expert has not been let to write the second."""
    expert = FakeExpert("fake", token_s=30.0)
    async with serve(expert, asgi=True) as doors:
        url = f"{doors.url}/v1/chat/completions"
        async with doors.http.post(url, json=body("one two", stream=True)) as response:
            async with asyncio.timeout(10):
                first = await response.content.readuntil(b"\n\n")
            assert first.startswith(b"data: ")
            assert expert.running
        await doors.quiet()


async def test_socket_answers_a_live_turn_and_closes_with_its_code(serve: Any) -> None:
    async with serve(asgi=True, max_body_bytes=4096) as doors, doors.live() as socket:
        await socket.send(type="input_text.append", text="hello ", revision=1)
        await socket.send(type="input_text.commit", text="hello there", revision=2)
        done = await socket.until("response.output_text.done")
        assert done["text"] == "HELLO THERE"
        await socket.until("response.done")
        await socket.ws.send_str("x" * 5000)
        assert await socket.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await doors.quiet()


async def test_socket_takes_the_subprotocol_that_it_knows(serve: Any) -> None:
    async with (
        serve(asgi=True) as doors,
        doors.live(configure=False, protocols=("other", "livemind")) as socket,
    ):
        assert socket.ws.protocol == "livemind"


async def test_socket_that_is_refused_gets_the_error_as_an_answer(serve: Any) -> None:
    async with serve(asgi=True, api_keys=["k" * 32]) as doors:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        async with doors.http.get(f"{doors.url}/v1/live", headers=headers) as response:
            assert response.status == 401
            assert (await response.json())["error"]["code"] == "missing_api_key"


async def test_session_over_http_is_typed_and_asked(serve: Any, body: Any) -> None:
    async with serve(asgi=True) as doors:
        put = f"{doors.url}/v1/live/sessions/mine-1/input"
        for text in ("hello", "hello there"):
            async with doors.http.put(put, json={"text": text}) as response:
                assert response.status in (200, 201)
        headers = {"X-LiveMind-Session": "mine-1"}
        url = f"{doors.url}/v1/chat/completions"
        async with doors.http.post(url, json=body("hello there"), headers=headers) as response:
            assert response.headers["X-LiveMind-Session-Status"] == "adopted"
            assert (await response.json())["choices"][0]["message"]["content"] == "HELLO THERE"


async def test_body_in_pieces_without_a_length_is_read(serve: Any, body: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in json.dumps(body("hello there")).encode():
            yield bytes([byte])

    async with serve(asgi=True) as doors:
        headers = {"Content-Type": "application/json"}
        status, told = await doors.ask(
            "POST", "/v1/chat/completions", data=pieces(), headers=headers
        )
        assert (status, told["choices"][0]["message"]["content"]) == (200, "HELLO THERE")


async def test_body_over_the_limit_is_refused_before_it_is_all_sent(serve: Any) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536
            await asyncio.sleep(0)

    async with serve(asgi=True, max_body_bytes=100_000) as doors:
        url = f"{doors.url}/v1/chat/completions"
        headers = {"Content-Type": "application/json"}
        async with asyncio.timeout(20), aiohttp.ClientSession() as http:
            try:
                async with http.post(url, data=endless(), headers=headers) as response:
                    assert response.status == 413
            except aiohttp.ClientError:  # closed while more was being sent
                pass
        await doors.quiet()


async def test_slow_body_is_refused_in_time(serve: Any) -> None:
    async with serve(asgi=True, body_timeout_s=0.3) as doors:
        port = int(doors.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_client_that_leaves_frees_the_expert(
    serve: Any, body: Any, eventually: Any, stream: bool
) -> None:
    expert = FakeExpert("fake", token_s=30.0)
    async with serve(expert, asgi=True) as doors:
        port = int(doors.url.rsplit(":", 1)[1])
        told = json.dumps(body("one two", stream=stream)).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(told) + told
        )
        await eventually(lambda: expert.running)
        writer.close()
        await doors.quiet()


async def test_socket_that_is_cut_frees_the_expert(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=30.0)
    async with serve(expert, asgi=True) as doors, doors.live() as socket:
        await socket.send(type="input_text.commit", text="one two")
        await socket.until("response.created")
        assert socket.ws._response.connection is not None
        transport = socket.ws._response.connection.transport
        assert transport is not None
        transport.abort()
        await doors.quiet()


async def test_expert_that_fails_is_told_as_without_asgi(serve: Any, body: Any) -> None:
    expert = FakeExpert("fake")
    expert.refuse = ExpertUnavailable("fake", "gone")
    async with serve(expert, asgi=True) as doors:
        status, told = await doors.chat("one two three")
        assert status == 503
        assert told["error"]["code"]


async def test_slow_reader_holds_the_application_back() -> None:
    """What nobody reads does not pile up in the server: the handler waits."""
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            written += 65_536

    app = web.Application()
    app.router.add_get("/", endless)
    taken, gone, asked = 0, asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not asked.is_set():
            asked.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal taken
        taken += len(message.get("body", b""))
        if taken > 200_000:
            gone.set()
            await asyncio.Event().wait()

    async with running(app) as asgi:
        task = asyncio.create_task(asgi(http_scope(), receive, send))
        await gone.wait()
        for _ in range(200):
            await asyncio.sleep(0)
        assert written - taken <= 3 * 65_536
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def http_scope(**given: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "http_version": "1.1",
        **given,
    }


@asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[AsgiApplication]:
    """Run the lifespan of an application around this block."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[web.Application]:
        yield app

    asgi = AsgiApplication(opened)
    told: asyncio.Queue[Any] = asyncio.Queue()
    ends = asyncio.Event()
    begun = False

    async def receive() -> dict[str, Any]:
        nonlocal begun
        if begun:
            await ends.wait()
            return {"type": "lifespan.shutdown"}
        begun = True
        return {"type": "lifespan.startup"}

    life = asyncio.create_task(asgi({"type": "lifespan"}, receive, told.put))
    assert (await told.get())["type"] == "lifespan.startup.complete"
    try:
        yield asgi
    finally:
        ends.set()
        await life
        assert (await told.get())["type"] == "lifespan.shutdown.complete"


async def asked(app: web.Application, scope: dict[str, Any], *parts: bytes) -> list[Any]:
    """Return what one request is answered."""
    messages = [
        {"type": "http.request", "body": part, "more_body": place + 1 < len(parts)}
        for place, part in enumerate(parts or (b"",))
    ]
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        told.append(message)

    async with running(app) as asgi, asyncio.timeout(10):
        await asgi(scope, receive, send)
    return told


def echo() -> web.Application:
    async def tell(request: web.Request) -> web.Response:
        body = await request.text()
        told = [request.method, request.path_qs, request.scheme, request.remote, body]
        return web.json_response(told, headers={"Server": "ours"})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", tell)
    return app


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"path": "/a b", "raw_path": b"/a%20b", "query_string": b"x=%20"}, "/a%20b?x=%20"),
        ({"path": "/é", "raw_path": None}, "/%C3%A9"),
        ({"path": "/under/x", "raw_path": b"/under/x", "root_path": "/under"}, "/x"),
        ({"path": "/under", "raw_path": b"/under", "root_path": "/under"}, "/"),
        ({"path": "/underneath", "raw_path": b"/underneath", "root_path": "/under"}, "/underneath"),
    ],
)
async def test_path_and_query_arrive_as_they_were_sent(given: dict[str, Any], path: str) -> None:
    told = await asked(echo(), http_scope(**given))
    assert json.loads(told[1]["body"])[1] == path


async def test_scheme_and_client_are_those_of_the_server_before_it() -> None:
    told = await asked(echo(), http_scope(scheme="https", client=["192.0.2.7", 5]))
    assert json.loads(told[1]["body"])[2:4] == ["https", "192.0.2.7"]
    names = [name for name, _ in told[0]["headers"]]
    assert not {b"server", b"date", b"connection", b"transfer-encoding"} & {*names}


async def test_http2_body_without_a_length_is_read() -> None:
    scope = http_scope(method="POST", http_version="2")
    told = await asked(echo(), scope, b"one ", b"two")
    assert json.loads(told[1]["body"])[4] == "one two"


async def test_head_has_no_body() -> None:
    told = await asked(echo(), http_scope(method="HEAD"))
    assert [message.get("body") for message in told] == [None, b""]
    assert told[0]["status"] == 200


async def test_header_that_is_none_is_refused_with_the_envelope() -> None:
    told = await asked(echo(), http_scope(headers=[(b"host", b"x"), (b"bad name", b"1")]))
    assert told[0]["status"] == 400
    assert json.loads(told[1]["body"])["error"]["code"] == "invalid_http"


async def test_answer_that_breaks_off_is_an_error_of_the_call() -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        raise ConnectionResetError

    app = web.Application()
    app.router.add_get("/", broken)
    with pytest.raises(ConnectionResetError):
        await asked(app, http_scope())


async def test_start_that_fails_is_told_to_the_server() -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[web.Application]:
        raise ExpertUnavailable("fake", "no model there")
        yield

    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    await AsgiApplication(opened)({"type": "lifespan"}, receive, send)
    assert told[0]["type"] == "lifespan.startup.failed"
    assert "no model there" in told[0]["message"]


@pytest.mark.parametrize("kind", ["http", "other"])
async def test_call_without_a_start_or_of_another_kind_is_an_error(kind: str) -> None:
    async def never(message: Any = None) -> Any:
        pytest.fail("nothing is to be asked or told")

    asgi = AsgiApplication(lambda: pytest.fail("not to be opened"))
    with pytest.raises((RuntimeError, ValueError)):
        await asgi(http_scope(type=kind), never, never)
