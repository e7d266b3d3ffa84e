"""HTTP to one or more equal servers: fail-over, bounded retries, errors in LiveMind's terms.

A request is repeated only as long as nothing of its answer has arrived. Knows nothing of prompts.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.request import getproxies

import aiohttp
import msgspec
import tenacity

from ..errors import ExpertError, ExpertOverloaded, ExpertTimeout, ExpertUnavailable
from ..spec import ExpertSpec
from .affinity import shared_prefix
from .carried import carried_headers
from .placement import Placement
from .refusals import error_fields, host_of, rejected, retry_after_s, telling
from .routers import headers_of
from .session_headers import SessionHeaders

CONNECT_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 256
KEEPALIVE_S = 4.0
"""Less than the 5 s after which uvicorn, and so vLLM's server, closes an idle connection."""
CLOSED_WITHIN_S = 0.5
"""So soon a request shows that the other side has closed a connection that was idle."""
NODE_REST_S = 2.0
MIN_ATTEMPTS = 3
MAX_BODY_BYTES = 4 << 20
_LARGE_BODY_BYTES = 1 << 20  # above this aiohttp wants to read the body piece by piece
_BUSY = (429, 503)
_KEY_REFUSED = (401, 403)
# Other 4xx say that this server is not what it was taken for: no such path, method or model.
_REQUEST_AT_FAULT = (400, 413, 414, 422)
# A server may end a connection that it said it would keep, as llama.cpp's does behind a stream.
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class RemoteServers:
    """The servers of one remote expert, any of which can answer.

    Args:
        spec: base URLs, the name of the variable with the key, and the longest silence.
        session: makes the HTTP client; tests replace it.
    """

    def __init__(
        self,
        spec: ExpertSpec,
        session: Callable[..., aiohttp.ClientSession] = aiohttp.ClientSession,
    ) -> None:
        self._expert_id = spec.expert_id
        self._timeout_s = spec.timeout_s
        self._api_key_env = spec.api_key_env
        self._make_client = session
        self._client: aiohttp.ClientSession | None = None
        self.nodes = tuple(url.rstrip("/").removesuffix("/v1") for url in spec.base_urls)
        self._rest_until: dict[str, float] = {}
        self._placement = Placement(self.nodes, spec.max_num_seqs)
        told = headers_of(spec.router, spec.session_headers, spec.token_headers)
        self._session_headers = SessionHeaders(told)

    @property
    def hosts(self) -> str:
        """The servers' hosts and ports, without credentials; fit to be shown."""
        return ", ".join(map(host_of, self.nodes))

    def open(self) -> None:
        """Make the client.

        Raises:
            ExpertUnavailable: no base URL, or the variable with the key is not set.
        """
        if not self.nodes:
            raise ExpertUnavailable(self._expert_id, "base_urls is empty")
        headers = {"Content-Type": "application/json"}
        if self._api_key_env is not None:
            key = os.environ.get(self._api_key_env)
            if not key:
                message = f"the environment variable {self._api_key_env} is not set"
                raise ExpertUnavailable(self._expert_id, message)
            headers["Authorization"] = f"Bearer {key}"
        connect_s = min(CONNECT_TIMEOUT_S, self._timeout_s)
        self._client = self._make_client(
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=self._timeout_s,  # the wait for one of the connections included
                sock_connect=connect_s,
                sock_read=self._timeout_s,
            ),
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=bool(getproxies()),  # costs something with every request
        )

    async def close(self) -> None:
        """Close every connection; streams in flight fail with ExpertUnavailable. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def get_json(self, node: str, path: str, *, timeout_s: float) -> Any:
        """Return what one server answers to a GET, without any retry.

        Raises:
            ExpertError: it did not answer, or not with JSON.
        """
        limit = aiohttp.ClientTimeout(
            total=2 * timeout_s, sock_connect=timeout_s, sock_read=timeout_s
        )
        asked = self._running().get(f"{node}{path}", timeout=limit, allow_redirects=False)
        try:
            async with asked as response:
                content = await self.read(response)
        except aiohttp.ClientError as error:
            raise self.translated(error) from error
        except TimeoutError as error:  # of the whole, with the wait for a free connection
            raise ExpertTimeout(self._expert_id, f"{self.hosts}: no answer in time") from error
        if response.status >= 400:
            raise self._refusal(response, content, node)
        return self._json(content)

    async def post_json(self, path: str, body: Mapping[str, object], *, key: str) -> Any:
        """Return the answer to a POST; see ``stream`` for retries and errors."""
        async with self.stream(path, body, key=key) as response:
            return self._json(await self.read(response))

    def stream(self, path: str, body: Mapping[str, object], *, key: str) -> Exchange:
        """Return an exchange: a POST to the server responsible for ``key``, and its answer.

        A server that refuses the connection or is busy rests for a while and the next one is asked;
        when all rest, waits for the first, in all no longer than the expert's timeout.

        Raises:
            ExpertError: also from the block, when reading the response fails.
        """
        return Exchange(self, path, _encoded(body), key)

    async def send(self, path: str, content: bytes, key: str) -> tuple[aiohttp.ClientResponse, str]:
        """Return the successful response to a POST and its server; see ``stream``.

        The server counts as loaded until ``over`` is called.
        """
        try:
            return await self._send(path, content, key)
        except ExpertError as error:
            if not self._worth_a_retry(error):
                raise
            return await self._send_again(path, content, key, error)

    def over(self, response: aiohttp.ClientResponse, node: str) -> None:
        """Release a response; its connection closes unless it was read to its end."""
        response.release()
        self._placement.ended(node)

    def translated(self, error: aiohttp.ClientError, node: str | None = None) -> ExpertError:
        """Return the error of a connection in LiveMind's terms; ``node``: of one server."""
        if isinstance(error, _NOT_CONNECTED):
            return self.unavailable("cannot be reached", node)
        if isinstance(error, aiohttp.ServerTimeoutError):
            what = "no answer in time"
            return ExpertTimeout(
                self._expert_id, f"{host_of(node) or self.hosts}: {what}", shown=what
            )
        return self.unavailable("the connection broke", node)

    def unavailable(self, what: str, node: str | None = None) -> ExpertUnavailable:
        """Return the error of a server that cannot be used: its host is for the operator alone."""
        message = f"{host_of(node) or self.hosts}: {what}"
        return ExpertUnavailable(self._expert_id, message, shown=f"the expert's server: {what}")

    async def _send_again(
        self, path: str, content: bytes, key: str, failure: ExpertError
    ) -> tuple[aiohttp.ClientResponse, str]:
        """Repeat a request that failed once; ``failure`` is raised where there is no time left."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._worth_a_retry),
            wait=lambda state: self._wait_s(),
            stop=tenacity.stop_before_delay(self._timeout_s)
            | tenacity.stop_after_attempt(max(MIN_ATTEMPTS, 2 * len(self.nodes))),
            reraise=True,
        )
        known, seen = [failure], [failure]

        async def send() -> tuple[aiohttp.ClientResponse, str]:
            if known:
                raise known.pop()
            try:
                return await self._send(path, content, key)
            except ExpertError as error:
                seen.append(error)
                raise

        try:
            sent: tuple[aiohttp.ClientResponse, str] = await retrying(send)
        except ExpertError as last:
            raise telling(seen, last) from last
        return sent

    async def _send(
        self, path: str, content: bytes, key: str
    ) -> tuple[aiohttp.ClientResponse, str]:
        prefix, resting = shared_prefix.get(), self._resting()
        node = self._placement.choose(key, prefix, resting, len(content))
        self._placement.began(node)
        try:
            response = await self._post(node, path, content, key)
        except BaseException:
            self._placement.ended(node)
            raise
        self._session_headers.keep(node, key, response.headers)
        return response, node

    async def _post(self, node: str, path: str, content: bytes, key: str) -> aiohttp.ClientResponse:
        try:
            began_s = asyncio.get_running_loop().time()
            try:
                response = await self._begin(node, path, content, key)
            except _CLOSED as error:
                if not _lay_idle(error, asyncio.get_running_loop().time() - began_s):
                    raise
                response = await self._begin(node, path, content, key)
        except _NOT_CONNECTED as error:
            self._rest(node, NODE_REST_S)
            raise self.translated(error, node) from error
        except aiohttp.ClientError as error:
            raise self.translated(error, node) from error
        except RuntimeError as error:  # aiohttp: the session has been closed
            raise ExpertUnavailable(self._expert_id, "the expert has been stopped") from error
        if response.status < 400:
            return response
        try:
            refusal = self._refusal(response, await self.read(response), node)
        except aiohttp.ClientError as error:
            raise self.translated(error, node) from error
        finally:
            response.release()
        if isinstance(refusal, ExpertOverloaded):
            self._rest(node, refusal.retry_after_s)
        raise refusal

    async def _begin(
        self, node: str, path: str, content: bytes, key: str
    ) -> aiohttp.ClientResponse:
        return await self._running().post(
            f"{node}{path}",
            data=_payload(content),
            headers={**carried_headers.get()(), **self._session_headers.shown(node, key)},
            allow_redirects=False,
        )

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """Return a whole answer. Raises ExpertUnavailable: it is larger than MAX_BODY_BYTES."""
        content = bytearray()
        async for block in response.content.iter_any():
            content += block
            if len(content) > MAX_BODY_BYTES:
                message = f"its answer is larger than {MAX_BODY_BYTES} bytes"
                raise ExpertUnavailable(self._expert_id, message)
        return bytes(content)

    def _running(self) -> aiohttp.ClientSession:
        if self._client is None:
            raise ExpertUnavailable(self._expert_id, "the expert is not running")
        return self._client

    def _resting(self) -> set[str]:
        """Return the servers that refused a connection or were busy a moment ago."""
        now = asyncio.get_running_loop().time()
        self._rest_until = {node: s for node, s in self._rest_until.items() if s > now}
        return set(self._rest_until)

    def _rest(self, node: str, seconds: float) -> None:
        self._rest_until[node] = asyncio.get_running_loop().time() + seconds

    def _wait_s(self) -> float:
        """Seconds until a server has rested, a little more at random if that is a wait at all."""
        now = asyncio.get_running_loop().time()
        shortest = max(0.0, min(self._rest_until.get(node, 0.0) for node in self.nodes) - now)
        return shortest * (1 + random.random() / 4)

    def _worth_a_retry(self, error: BaseException) -> bool:
        connecting = isinstance(error.__cause__, _NOT_CONNECTED)
        return isinstance(error, ExpertOverloaded) or connecting

    def _refusal(self, response: aiohttp.ClientResponse, content: bytes, node: str) -> ExpertError:
        status, (message, param, code) = response.status, error_fields(content)
        host = host_of(node)
        said = f"{host} answered {status}" + (f": {message}" if message else "")
        if status in _BUSY:
            wait_s = retry_after_s(response.headers)
            return ExpertOverloaded(self._expert_id, said, wait_s, shown="the expert is busy")
        if status in _KEY_REFUSED:
            message = f"{host} refuses the API key ({status})"
            return ExpertUnavailable(
                self._expert_id, message, shown="the expert's server refuses its key"
            )
        if status in _REQUEST_AT_FAULT:
            return rejected(self._expert_id, message or said, param, code)
        shown = f"the expert's server answered {status}"
        return ExpertUnavailable(self._expert_id, said, shown=shown)

    def _json(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise self.unavailable("the answer is not JSON") from None


class Exchange(AbstractAsyncContextManager[aiohttp.ClientResponse]):
    """One POST and its successful response, which is released at the end of the block."""

    __slots__ = ("_content", "_key", "_node", "_path", "_response", "_servers")

    def __init__(self, servers: RemoteServers, path: str, content: bytes, key: str) -> None:
        self._servers = servers
        self._path = path
        self._content = content
        self._key = key

    async def __aenter__(self) -> aiohttp.ClientResponse:
        """Send the request. Raises ExpertError."""
        self._response, self._node = await self._servers.send(self._path, self._content, self._key)
        return self._response

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close the connection unless the answer was read to its end."""
        self._servers.over(self._response, self._node)
        if isinstance(error, aiohttp.ClientError):
            raise self._servers.translated(error, self._node) from error


def first_reachable(results: Sequence[object]) -> object:
    """Return the first result that is no exception; raise the first exception if there is none."""
    for result in results:
        if not isinstance(result, BaseException):
            return result
    raise next(result for result in results if isinstance(result, BaseException))


def _lay_idle(error: aiohttp.ClientError, after_s: float) -> bool:
    """Whether a connection was closed while it lay idle: at once, and nothing of an answer came."""
    if isinstance(error, _NOT_CONNECTED) or after_s > CLOSED_WITHIN_S:
        return False
    told = error.message if isinstance(error, aiohttp.ServerDisconnectedError) else None
    return told is None or isinstance(told, str)  # else it is the answer as far as it was read


def _encoded(body: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(body)


def _payload(content: bytes) -> bytes | io.BytesIO:
    """Return a body in the form aiohttp wants for its size."""
    return content if len(content) <= _LARGE_BODY_BYTES else io.BytesIO(content)
