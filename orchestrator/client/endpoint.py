"""HTTP and WebSocket to one server: connections, keys, and foreign errors made LiveMind's.

Sends each request once; ``retry.py`` says what is sent again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

import aiohttp
import msgspec
from yarl import URL

from ..errors import ErrorBody, ErrorEnvelope, InvalidRequest, LiveMindError, Unavailable
from .events import exception
from .retry import PROTOCOL, UNREACHABLE

CONNECT_TIMEOUT_S = 10.0
HEARTBEAT_S = 20.0
CLOSE_TIMEOUT_S = 2.0
MAX_ERROR_BYTES = 64 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
LOST = "connection_lost"


class Endpoint:
    """One server. For one event loop.

    Args:
        url: ``http(s)://HOST:PORT`` with or without ``/v1``, or ``ws(s)://HOST:PORT/v1/live``.
        api_key: sent as the bearer token.
        timeout_s: longest silence of the server while an answer of it is awaited.

    Raises:
        InvalidRequest: the URL is of another kind.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        self.url = base_url(url)
        self._headers = {} if api_key is None else header("Authorization", f"Bearer {api_key}")
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connections' owner; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=self._timeout_s
            ),
            read_bufsize=MAX_LINE_BYTES // 2,
            raise_for_status=_raise_refusal,
        )

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        if self._session is not None:
            await self._session.close()

    async def read(self, method: str, path: str, body: Mapping[str, object] | None = None) -> bytes:
        """Return the whole answer to a request.

        Raises:
            LiveMindError: as the server says; Unavailable when it cannot be reached or breaks off.
        """
        async with self.response(method, path, body) as response:
            return await response.read()

    @asynccontextmanager
    async def response(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send a request and lend its answer; leaving the block before its end gives it up.

        Raises:
            LiveMindError: as ``read``, also from reading inside the block.
        """
        content = None if body is None else encode(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        with self._translated():
            async with self._http.request(
                method, self.url + path, data=content, headers=sent, allow_redirects=False
            ) as response:
                yield response

    async def websocket(self) -> aiohttp.ClientWebSocketResponse:
        """Open ``ws /v1/live``.

        Raises:
            LiveMindError: as ``read``.
        """
        with self._translated():
            return await self._http.ws_connect(
                f"{self.url}/v1/live",
                heartbeat=HEARTBEAT_S,
                max_msg_size=MAX_MESSAGE_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            )

    @property
    def _http(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            raise InvalidRequest("the client is not open: use it in async with", code="not_open")
        return self._session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise Unavailable(f"nothing answers at {self.url}", code=UNREACHABLE) from exc
        except TimeoutError as exc:
            message = f"{self.url}: no answer within {self._timeout_s:g} s (timeout_s)"
            raise Unavailable(message, code="timeout") from exc
        except aiohttp.WSServerHandshakeError as exc:
            message = f"{self.url}: no WebSocket there: {exc.message}"
            raise Unavailable(message, code=PROTOCOL) from exc
        except ValueError as exc:
            message = f"{self.url}: a line of the answer is longer than {MAX_LINE_BYTES} bytes"
            raise Unavailable(message, code=PROTOCOL) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Unavailable(f"{self.url}: the connection broke", code=LOST) from exc


def encode(content: Mapping[str, object]) -> str:
    """Return a body or frame as JSON.

    Raises:
        InvalidRequest: something in it is not JSON, or not valid Unicode.
    """
    try:
        return msgspec.json.encode(content).decode()
    except (TypeError, ValueError, OverflowError) as exc:
        raise InvalidRequest(f"cannot be sent as JSON: {exc}") from None


def header(name: str, value: str) -> dict[str, str]:
    """Return a header.

    Raises:
        InvalidRequest: HTTP has no such value; it is not shown, as it may be a key.
    """
    if not (value.isascii() and value.isprintable()):
        raise InvalidRequest(f"{name}: need printable ASCII characters", param=name)
    return {name: value}


def base_url(url: str) -> str:
    """Return a server's address: scheme, host, port and what its path has before ``/v1``.

    Raises:
        InvalidRequest: it is none.
    """
    parsed: URL | None
    try:
        parsed = URL(url)
    except ValueError:
        parsed = None
    schemes = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
    if parsed is None or parsed.scheme not in schemes or not parsed.host:
        raise InvalidRequest(
            f"url: got {url!r}, need http://HOST:PORT or ws://HOST:PORT/v1/live", param="url"
        )
    path = parsed.path.rstrip("/").removesuffix("/live").removesuffix("/v1")
    return str(parsed.with_scheme(schemes[parsed.scheme]).with_path(path)).rstrip("/")


async def _raise_refusal(response: aiohttp.ClientResponse) -> None:
    """Raise what an answer of 300 or more means; called by aiohttp for every answer."""
    if response.status < 300:
        return
    content = await response.content.read(MAX_ERROR_BYTES)
    response.close()
    raise _refusal(response.status, content, response.headers.get("Retry-After"))


def _refusal(status: int, content: bytes, retry_after: str | None) -> LiveMindError:
    """Return what an HTTP error says, in the envelope of OpenAI or any other."""
    text = " ".join(content.decode("utf-8", "replace").split())[:200]
    error = ErrorBody(f"HTTP {status}: {text}", "server_error", None, "http_error")
    with suppress(msgspec.DecodeError):
        error = msgspec.json.decode(content, type=ErrorEnvelope).error
    seconds = None
    if retry_after is not None and retry_after.isdecimal():  # the other form is a date
        seconds = float(retry_after)
    return exception(error.message, error.type, error.param, error.code, seconds, status)
