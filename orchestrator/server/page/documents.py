"""``/v1/documents``: the gateway's door to the documents of its bridge, and to its ingests.

A request goes on to the bridge as it is, with the token that both share, and so does the answer:
which documents there may be, how large and how slow they may come is the bridge's to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from aiohttp import web

from ....rag.access.token import TokenError, shared_token
from ....rag.client.identity import identify
from ...config.sections import RagConfig
from ...errors import BodyTooSlow, InvalidRequest, Unavailable
from ..access.keys import DOCUMENTS

CONNECT_S = 5.0
CHUNK_BYTES = 65_536
PASSED_ON = ("Content-Type", "Content-Length", "Content-Encoding")
PASSED_BACK = ("Retry-After",)
JOBS = "/v1/jobs/"


class DocumentDoor:
    """Passes requests on to ``rag.bridge_url``, after it has proved to be the gateway's bridge.

    Args:
        rag: where the bridge is.
        body_timeout_s: a client that sends nothing of its body for this long is refused.
    """

    def __init__(self, rag: RagConfig, body_timeout_s: float) -> None:
        self._rag = rag
        self._body_timeout_s = body_timeout_s
        self._http: httpx.AsyncClient | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; ``ingest`` is the scope that they need."""
        return [
            web.get(DOCUMENTS, self.pass_on),
            web.post(DOCUMENTS, self.pass_on),
            web.delete(DOCUMENTS, self.pass_on),
            web.get(f"{DOCUMENTS}/jobs/{{job:[A-Za-z0-9_]+}}", self.pass_on),
            web.delete(f"{DOCUMENTS}/jobs/{{job:[A-Za-z0-9_]+}}", self.pass_on),
        ]

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        """Hold the connections while the application runs; a ``cleanup_ctx`` of it."""
        # A proxy from the environment is for the internet, not for the bridge. How long a document
        # takes is the bridge's business.
        self._http = httpx.AsyncClient(
            base_url=self._rag.bridge_url,
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            trust_env=False,
        )
        async with self._http:
            yield

    async def pass_on(self, request: web.Request) -> web.Response:
        """``GET``: a page of the documents; ``POST``: store some; ``DELETE``: remove some by id.

        With ``Prefer: respond-async`` a ``POST`` is answered with a job, whose path below this one
        tells how far it is (``GET``) and ends it (``DELETE``).

        Raises:
            InvalidRequest: no retrieval is configured.
            BodyTooSlow: the body does not come.
            Unavailable: the bridge does not answer, or does not prove to be the gateway's.
        """
        if not self._rag.enabled:
            message = "documents: retrieval is not configured here (rag.enabled)"
            raise InvalidRequest(message, code="no_retrieval")
        assert self._http is not None
        try:
            token = await self._token()
            answer = await self._http.request(
                request.method,
                self._path(request),
                params=dict(request.query),
                content=_body(request, self._body_timeout_s) if request.can_read_body else None,
                headers={
                    "Authorization": f"Bearer {token}",
                    "Prefer": request.headers.get("Prefer", "wait"),
                    **{name: value for name in PASSED_ON if (value := request.headers.get(name))},
                },
            )
        except httpx.TransportError as exc:
            raise _gone(type(exc).__name__) from None
        headers = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        if (job := answer.headers.get("Location", "")).startswith(JOBS):
            headers["Location"] = f"{DOCUMENTS}/jobs/{job.removeprefix(JOBS)}"
        return web.Response(
            body=answer.content,
            status=502 if answer.status_code == httpx.codes.UNAUTHORIZED else answer.status_code,
            content_type="application/json",
            headers=headers,
        )

    def _path(self, request: web.Request) -> str:
        if (job := request.match_info.get("job")) is not None:
            return JOBS + job
        return f"/v1/collections/{self._rag.collection}/documents"

    async def _token(self) -> str:
        try:
            token = shared_token(self._rag.bridge_token_file, make=False)
        except TokenError as exc:
            raise _gone(f"its token: {exc}") from None
        if token is None or await identify(self._rag.bridge_url, token) is None:
            raise _gone("it does not prove to know the token of this server")
        return token


async def _body(request: web.Request, limit_s: float) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Raises BodyTooSlow: nothing of it came for ``limit_s``."""
    pieces = aiter(request.content.iter_chunked(CHUNK_BYTES))
    while True:
        try:
            async with asyncio.timeout(limit_s):
                piece = await anext(pieces, None)
        except TimeoutError:
            message = f"nothing of the body came for {limit_s:g} s (server.body_timeout_s)"
            raise BodyTooSlow(message) from None
        if piece is None:
            return
        yield piece


def _gone(why: str) -> Unavailable:
    message = f"documents: the bridge (rag.bridge_url) cannot be used: {why}"
    return Unavailable(message, retry_after_s=5.0)
