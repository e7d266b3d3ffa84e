"""The servers of a remote expert: which is asked and when again, what failures become, secrets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import httpx
import pytest

from livemind.backends.base import (
    Chunk,
    GenerationParams,
    Message,
    Priority,
)
from livemind.backends.errors import (
    ExpertError,
    ExpertOverloaded,
    ExpertTimeout,
    ExpertUnavailable,
    PromptRejected,
)
from livemind.backends.remote import http as remote_http
from livemind.backends.remote.affinity import affinity_key, ranked
from livemind.backends.remote.expert import RemoteExpert
from livemind.backends.remote.http import RemoteServers
from livemind.backends.spec import ExpertSpec

from .scripted import (
    STOPPED,
    Answer,
    Servers,
    Stream,
    VirtualRun,
    answer,
    check,
    delta,
    now,
    sse,
    started,
)


def test_start_model_not_served_says_what_is(virtual_run: VirtualRun) -> None:
    with pytest.raises(ExpertUnavailable, match="one serves m, not 'other'"):
        virtual_run(started(Servers(sse(STOPPED)), model="other"))


def test_start_one_of_two_servers_is_enough_none_is_not(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(STOPPED))
    servers.models = httpx.ConnectError("refused")
    with pytest.raises(ExpertUnavailable, match="one, two: cannot be reached"):
        virtual_run(started(servers, "one", "two"))


def test_api_key_comes_from_the_environment_and_shows_nowhere(
    virtual_run: VirtualRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("THE_KEY", "sk-very-secret")
    refused = httpx.Response(401, json={"error": {"message": "wrong key sk-very-secret"}})
    servers = Servers(refused)

    async def then(expert: RemoteExpert) -> None:
        assert servers.headers[0]["authorization"] == "Bearer sk-very-secret"
        with pytest.raises(ExpertUnavailable, match="refuses the API key") as caught:
            await answer(expert)
        assert "secret" not in f"{caught.value!r} {expert!r} {vars(expert)!r}"

    check(virtual_run, servers, then, api_key_env="THE_KEY")
    assert "secret" not in caplog.text
    monkeypatch.delenv("THE_KEY")
    with pytest.raises(ExpertUnavailable, match="THE_KEY is not set"):
        virtual_run(started(servers, api_key_env="THE_KEY"))


def test_base_url_credentials_are_not_shown(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(STOPPED))
    servers.models = httpx.ConnectError("refused")
    with pytest.raises(ExpertUnavailable) as caught:
        virtual_run(started(servers, "me:hidden@one:81"))
    assert caught.value.message == "one:81: cannot be reached"


def busy(after: str) -> httpx.Response:
    return httpx.Response(503, headers={"retry-after": after}, json={"error": {"message": "busy"}})


def test_generate_busy_server_is_asked_again_after_the_time_it_names(
    virtual_run: VirtualRun,
) -> None:
    async def then(expert: RemoteExpert) -> None:
        began = now()
        assert (await answer(expert))[0].text == "ok"
        assert 7 <= now() - began <= 7 * 1.25

    servers = Servers(busy("7"), sse(delta("ok"), STOPPED))
    check(virtual_run, servers, then)
    assert len(servers.asked) == 2


def test_generate_server_stays_busy_gives_up_with_its_retry_after(virtual_run: VirtualRun) -> None:
    async def then(expert: RemoteExpert) -> None:
        with pytest.raises(ExpertOverloaded) as caught:
            await answer(expert)
        assert caught.value.retry_after_s == 7
        assert now() < 30

    servers = Servers(busy("7"))
    check(virtual_run, servers, then)
    assert len(servers.asked) == 3


def test_generate_wait_longer_than_the_timeout_is_not_begun(virtual_run: VirtualRun) -> None:
    async def then(expert: RemoteExpert) -> None:
        began = now()
        with pytest.raises(ExpertOverloaded):
            await answer(expert)
        assert now() == began

    check(virtual_run, Servers(busy("50")), then, timeout_s=20)


@pytest.mark.parametrize("failure", ["refused", "busy"])
def test_generate_first_server_down_the_next_one_answers_at_once(
    virtual_run: VirtualRun, failure: str
) -> None:
    first, second = (
        url.removeprefix("http://") for url in ranked(["http://one", "http://two"], "s")
    )
    down: Answer = httpx.ConnectError("refused") if failure == "refused" else busy("9")
    servers = Servers(by_host={first: [down], second: [sse(delta("ok"), STOPPED)]})

    async def then(expert: RemoteExpert) -> None:
        began = now()
        affinity_key.set("s")
        assert (await answer(expert))[0].text == "ok"
        assert now() == began

    check(virtual_run, servers, then, "one", "two")
    assert [host for host, _, _ in servers.asked] == [first, second]


def test_generate_session_stays_on_its_server_and_sessions_spread(virtual_run: VirtualRun) -> None:
    hosts = ("one", "two", "three")
    served: dict[str, list[Answer]] = {
        host: [sse(delta("x"), STOPPED) for _ in range(50)] for host in hosts
    }
    servers = Servers(by_host=served)

    async def then(expert: RemoteExpert) -> None:
        for session in range(12):
            affinity_key.set(f"session-{session}")
            for _ in range(2):
                await answer(expert)

    check(virtual_run, servers, then, *hosts)
    asked = [host for host, _, _ in servers.asked]
    assert asked[0::2] == asked[1::2]
    assert set(asked) == set(hosts)


def test_ranked_a_node_leaves_only_its_own_keys_move() -> None:
    for key in map(str, range(50)):
        before, after = ranked(["a", "b", "c"], key), ranked(["a", "b"], key)
        assert [node for node in before if node != "c"] == after


def test_generate_connection_breaks_in_mid_answer_is_not_retried(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("Hel"), done=False, error=aiohttp.ClientPayloadError("reset")))
    seen: list[str] = []

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render([Message("user", "Hi")], open_turn=False)
        stream = expert.generate(
            prompt, GenerationParams(), priority=Priority.FOREGROUND, request_id="r"
        )
        with pytest.raises(ExpertUnavailable, match="the connection broke"):
            seen.extend([chunk.text async for chunk in _copy(stream, seen)])

    check(virtual_run, servers, then)
    assert seen == ["Hel"]
    assert len(servers.asked) == 1


async def _copy(stream: AsyncIterator[Chunk], seen: list[str]) -> AsyncIterator[Chunk]:
    async for chunk in stream:
        seen.append(chunk.text)
        yield chunk


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (sse(delta("x"), done=False), ExpertUnavailable, "the answer broke off"),
        (sse({"error": {"message": "boom", "code": 500}}), ExpertUnavailable, "one: boom"),
        (sse({"error": {"message": "bad", "code": 400}}), PromptRejected, "bad"),
        (sse([1]), ExpertUnavailable, "expected form"),
        (sse({"choices": [5]}), ExpertUnavailable, "expected form"),
        (sse({"choices": [{"delta": {"content": 5}}]}), ExpertUnavailable, "expected form"),
        (
            sse({"choices": [{"delta": {"content": "a"}, "token_ids": ["b"]}]}),
            ExpertUnavailable,
            "expected form",
        ),
        (
            httpx.Response(200, stream=Stream([b'data: {"usage":' + b"[" * 100_000 + b"\n"])),
            ExpertUnavailable,
            "not JSON",
        ),
        (
            httpx.Response(200, stream=Stream([b"data: {nonsense\n\n"])),
            ExpertUnavailable,
            "not JSON",
        ),
        (
            httpx.Response(200, stream=Stream([b"data: " + b"x" * 100_000] * 12)),
            ExpertUnavailable,
            "a line of more than",
        ),
        (
            httpx.Response(200, stream=Stream([b": ping\n" * 100_000] * 100)),
            ExpertUnavailable,
            "more than 67108864 bytes",
        ),
        (httpx.Response(500, text="<html>"), ExpertUnavailable, "one answered 500"),
        (httpx.Response(404, json={"message": "no model"}), ExpertUnavailable, "answered 404"),
        (httpx.Response(405, text="no"), ExpertUnavailable, "answered 405"),
        (httpx.Response(418, text="teapot"), ExpertUnavailable, "answered 418"),
        (httpx.Response(422, json={"message": "no top_k"}), PromptRejected, "no top_k"),
        (httpx.ReadTimeout("slow"), ExpertTimeout, "no answer in time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_generate_servers_fault_becomes_the_right_error(
    virtual_run: VirtualRun, response: Answer, error: type[ExpertError], message: str
) -> None:
    async def then(expert: RemoteExpert) -> None:
        with pytest.raises(error, match=message):
            await answer(expert)

    stream = response.stream if isinstance(response, httpx.Response) else None
    check(virtual_run, Servers(response), then)
    assert not isinstance(stream, Stream) or stream.closed


def test_generate_refusal_names_the_field(virtual_run: VirtualRun) -> None:
    refusal = {"error": {"message": "min_p is unknown", "param": "min_p", "code": "unknown"}}

    async def then(expert: RemoteExpert) -> None:
        with pytest.raises(PromptRejected) as caught:
            await answer(expert)
        assert (caught.value.param, caught.value.code) == ("min_p", "unknown")

    check(virtual_run, Servers(httpx.Response(400, json=refusal)), then)


def test_generate_prompt_too_long_for_the_server_has_the_common_code(
    virtual_run: VirtualRun,
) -> None:
    refusal = {"error": {"message": "This model's maximum context length is 8 tokens", "code": 400}}

    async def then(expert: RemoteExpert) -> None:
        with pytest.raises(PromptRejected) as caught:
            await answer(expert)
        assert caught.value.code == "context_length_exceeded"

    check(virtual_run, Servers(httpx.Response(400, json=refusal)), then)


def test_generate_closed_stream_lets_go_of_the_connection(virtual_run: VirtualRun) -> None:
    response = sse(delta("a"), delta("b"), STOPPED)
    sent = response.stream
    assert isinstance(sent, Stream)

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render([Message("user", "Hi")], open_turn=False)
        stream = expert.generate(
            prompt, GenerationParams(), priority=Priority.FOREGROUND, request_id="r"
        )
        await anext(stream)
        assert not sent.closed
        await stream.aclose()
        assert sent.closed

    check(virtual_run, Servers(response), then)


async def test_generate_no_free_connection_ends_within_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a real client: requests beyond its connections wait for one, but not for ever."""
    monkeypatch.setattr(remote_http, "MAX_CONNECTIONS", 1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    servers = RemoteServers(ExpertSpec("e", kind="remote", base_urls=(url,), timeout_s=0.2))
    servers.open()
    try:
        async with server, asyncio.timeout(20), servers.stream("/", {}, key="a"):
            with pytest.raises(ExpertError):
                async with servers.stream("/", {}, key="b"):
                    pass
            with pytest.raises(ExpertTimeout):
                await servers.get_json(url, "/", timeout_s=0.05)
    finally:
        await servers.close()


def test_health_follows_the_servers_but_asks_rarely(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(STOPPED))

    async def then(expert: RemoteExpert) -> None:
        asked = len(servers.headers)
        for _ in range(10):
            assert (await expert.health()).ok
        assert len(servers.headers) == asked
        servers.models = httpx.ConnectError("refused")
        await asyncio.sleep(6)
        assert not (await expert.health()).ok
        servers.models = httpx.ReadTimeout("slow")
        await asyncio.sleep(6)
        assert (await expert.health()).ok
        await expert.stop()
        assert not (await expert.health()).ok
        with pytest.raises(ExpertUnavailable):
            await answer(expert)

    check(virtual_run, servers, then)


@asynccontextmanager
async def closing_server(
    answers: int, *, works_s: float = 0.0, part: bytes = b""
) -> AsyncIterator[tuple[str, list[int]]]:
    """Serve JSON; a connection's first ``answers`` requests are answered, the next one ends it.

    That one after ``works_s``, with ``part`` of an answer. Yields its address, and how many
    requests each connection brought.
    """
    brought: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(brought)
        brought.append(0)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                brought[place] += 1
                if brought[place] > answers:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await asyncio.sleep(works_s)
            writer.write(part)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}", brought


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RemoteServers]:
    servers = RemoteServers(ExpertSpec("e", kind="remote", base_urls=(url,), model="m"))
    servers.open()
    try:
        yield servers
    finally:
        await servers.close()


async def test_post_on_a_connection_that_the_server_ends_is_sent_again_on_another() -> None:
    async with closing_server(answers=1) as (url, brought), opened(url) as servers:
        for _ in range(3):
            assert await servers.post_json("/v1/x", {"a": 1}, key="k") == {}
    assert brought == [2, 2, 1]


async def test_post_to_a_server_that_ends_every_connection_is_sent_twice_at_most() -> None:
    async with closing_server(answers=0) as (url, brought), opened(url) as servers:
        with pytest.raises(ExpertUnavailable, match="the connection broke"):
            await servers.post_json("/v1/x", {"a": 1}, key="k")
    assert brought == [1, 1]


@pytest.mark.parametrize(
    ("works_s", "part"),
    [(remote_http.CLOSED_WITHIN_S + 0.1, b""), (0.0, b"HTTP/1.1 200 OK\r\nContent-Le")],
    ids=["worked", "began"],
)
async def test_post_to_a_server_that_had_begun_is_not_sent_again(
    works_s: float, part: bytes
) -> None:
    async with (
        closing_server(answers=0, works_s=works_s, part=part) as (url, brought),
        opened(url) as servers,
    ):
        with pytest.raises(ExpertUnavailable, match="the connection broke"):
            await servers.post_json("/v1/x", {"a": 1}, key="k")
    assert brought == [1]
