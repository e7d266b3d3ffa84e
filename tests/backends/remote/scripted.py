"""Scripted servers of a remote expert, on a virtual clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import aiohttp
import httpx
from aiohttp.client_reqrep import ConnectionKey

from livemind.backends.base import (
    Chunk,
    GenerationParams,
    Message,
    Priority,
    TokenPrompt,
    ToolCall,
)
from livemind.backends.remote.expert import RemoteExpert
from livemind.backends.spec import ExpertSpec

VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]
Answer = httpx.Response | Exception
MODELS = {"data": [{"id": "m", "max_model_len": 4096}]}


class Stream(httpx.AsyncByteStream):
    """A body sent block by block; ``closed`` tells whether the client released it."""

    def __init__(self, blocks: list[bytes], error: aiohttp.ClientError | None = None) -> None:
        self.blocks = blocks
        self.error = error
        self.closed = False


def sse(
    *events: object, done: bool = True, error: aiohttp.ClientError | None = None
) -> httpx.Response:
    blocks = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    return httpx.Response(
        200, stream=Stream([*blocks, b"data: [DONE]\n\n"][: None if done else -1], error)
    )


def delta(text: str, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **fields}]}


STOPPED = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE_ALONE = {
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}
USAGE = {"choices": [], **USAGE_ALONE}


class Servers:
    """Answers from a script per host; what was asked is kept in ``asked`` as (host, path, body)."""

    def __init__(
        self,
        *scripted: Answer,
        open_turn: bool = False,
        refused: tuple[str, ...] = (),
        by_host: Mapping[str, list[Answer]] | None = None,
    ) -> None:
        self.scripted = list(scripted)
        self.by_host = by_host or {}
        self.open_turn = open_turn
        self.refused = refused
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.headers: list[httpx.Headers] = []
        self.models: Mapping[str, Any] | Exception = MODELS

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.headers.append(request.headers)
        if request.method == "GET":
            if isinstance(self.models, Exception):
                raise self.models
            return httpx.Response(200, json=self.models)
        body = json.loads(request.content)
        if body.get("messages") == [{"role": "user", "content": "Hello there"}]:
            return self.probe(body)
        self.asked.append((request.url.host, request.url.path, body))
        script = self.by_host.get(request.url.host, self.scripted)
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def probe(self, body: Mapping[str, Any]) -> httpx.Response:
        unknown = {"return_token_ids", "cache_salt"} & {*self.refused} & {*body}
        if unknown or ("continue_final_message" in body and not self.open_turn):
            return httpx.Response(400, json={"error": {"message": "unknown field"}})
        tokens = 5 if "continue_final_message" in body else 9
        return httpx.Response(200, json={"choices": [], "usage": {"prompt_tokens": tokens}})


class Client:
    """What ``RemoteServers`` uses of ``aiohttp.ClientSession``; a ``Servers`` stands behind it."""

    def __init__(self, servers: Servers, *, headers: Mapping[str, str], **_: object) -> None:
        self.servers = servers
        self.headers = headers
        self.closed = False

    async def close(self) -> None:
        self.closed = True

    @asynccontextmanager
    async def get(self, url: str, **_: object) -> AsyncGenerator[Received, None]:
        response = self.ask(httpx.Request("GET", url, headers=self.headers))
        try:
            yield response
        finally:
            response.release()

    async def post(
        self, url: str, *, data: bytes, headers: Mapping[str, str], **_: object
    ) -> Received:
        sent = {**self.headers, **headers}
        return self.ask(httpx.Request("POST", url, headers=sent, content=data))

    def ask(self, request: httpx.Request) -> Received:
        if self.closed:
            raise RuntimeError("Session is closed")
        try:
            return Received(self.servers(request))
        except httpx.TransportError as error:
            raise as_aiohttp(error) from error


class Received:
    """A scripted response with aiohttp's face; it is its own ``content``."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.content = self
        self._stream = response.stream if isinstance(response.stream, Stream) else None
        self._blocks = list(self._stream.blocks if self._stream else [response.content])

    def at_eof(self) -> bool:
        return not self._blocks

    def iter_any(self) -> Received:
        return self

    def __aiter__(self) -> Received:
        return self

    async def __anext__(self) -> bytes:
        if self._blocks:
            return self._blocks.pop(0)
        if self._stream is not None and self._stream.error is not None:
            raise self._stream.error
        raise StopAsyncIteration

    def release(self) -> None:
        if self._stream is not None:
            self._stream.closed = True


def as_aiohttp(error: httpx.TransportError) -> aiohttp.ClientError:
    if isinstance(error, httpx.ConnectError):
        key = ConnectionKey("one", 80, False, True, None, None, None)
        return aiohttp.ClientConnectorError(key, OSError(str(error)))
    if isinstance(error, httpx.ReadTimeout):
        return aiohttp.SocketTimeoutError(str(error))
    raise error


async def started(servers: Servers, *hosts: str, **settings: Any) -> RemoteExpert:
    urls = tuple(f"http://{host}" for host in hosts or ("one",))
    values = {"expert_id": "e", "kind": "remote", "model": "m", "base_urls": urls, **settings}
    expert = RemoteExpert(ExpertSpec(**values), cast(Any, partial(Client, servers)))
    await expert.start()
    return expert


async def answer(
    expert: RemoteExpert, prompt: TokenPrompt | None = None, **params: Any
) -> list[Chunk]:
    prompt = prompt or expert.render([Message("user", "Hi")], open_turn=False)
    stream = expert.generate(
        prompt, GenerationParams(**params), priority=Priority.FOREGROUND, request_id="r"
    )
    return [chunk async for chunk in stream]


def check(
    run: VirtualRun,
    servers: Servers,
    then: Callable[[RemoteExpert], Coroutine[Any, Any, Any]],
    *hosts: str,
    **settings: Any,
) -> Any:
    """Start an expert on the servers, run the check, stop it."""

    async def main() -> Any:
        expert = await started(servers, *hosts, **settings)
        try:
            return await then(expert)
        finally:
            await expert.stop()

    return run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


TOOL = {"type": "function", "function": {"name": "weather"}}
CALL = ToolCall("call_1", "weather", '{"city": "Bern"}')
