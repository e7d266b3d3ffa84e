"""The bridge's writing and listing routes: documents and collections."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from aiohttp import web

from ..documents.blocks import UnreadableFile
from ..documents.parsing import format_of
from ..search.library import Incoming, Library
from ..wire import DeleteRequest, DocumentBody, UpsertRequest
from .api import MAX_BODY_BYTES, MAX_UPSERT_BYTES, BridgeRefusal, parse, read_body
from .jobs import Job, Jobs, TooManyJobs
from .metrics import BridgeMetrics

ANSWERED_LATER_BYTES = 4 * 1024 * 1024
MAX_WRITES = 4
MAX_BODIES = 8  # of 48 MiB at most; a slow one gives its place back
MAX_PAGE = 1_000


class DocumentRoutes:
    """Stores, removes and lists documents. A write is answered when it is durable."""

    def __init__(self, library: Library, metrics: BridgeMetrics, *, writable: bool) -> None:
        self._library = library
        self._metrics = metrics
        self._writable = writable
        self._jobs = Jobs(library)
        self._bodies: set[object] = set()
        self._writes: set[object] = set()

    async def upsert(self, request: web.Request) -> web.Response:
        """``POST /v1/collections/{name}/documents``: all of them, or none and a reason.

        A body above ``ANSWERED_LATER_BYTES``, or ``Prefer: respond-async``, gets a 202 and a job.
        """
        self._refuse_when_read_only()
        with self._one_of(self._bodies, MAX_BODIES, "bodies are being read"):
            body = await read_body(request, MAX_UPSERT_BYTES)
        later = "respond-async" in request.headers.get("Prefer", "").lower()
        with self._one_of(self._writes, MAX_WRITES, "writes are running"):
            large = len(body) > ANSWERED_LATER_BYTES and not later
            asked = await asyncio.to_thread(parse, UpsertRequest, body)
            incoming = await asyncio.to_thread(_all_incoming, asked)
            if later or (large and "wait" not in request.headers.get("Prefer", "").lower()):
                return await self._start(request.match_info["name"], incoming)
            stored = await self._library.ingest(request.match_info["name"], incoming)
        self._metrics.wrote("upsert", len(stored))
        shown = [{"id": name, "passages": count} for name, count in stored.items()]
        return web.json_response({"documents": shown})

    async def _start(self, name: str, incoming: list[Incoming]) -> web.Response:
        await self._library.create(name)
        try:
            job = self._jobs.start(name, incoming)
        except TooManyJobs as exc:
            raise BridgeRefusal(429, "overloaded", str(exc), retry_after_s=5) from None
        place = {"Location": f"/v1/jobs/{job.id}"}
        return web.json_response(job.shown(), status=202, headers=place)

    async def jobs(self, _: web.Request) -> web.Response:
        """``GET /v1/jobs``: ingests that run, wait or have ended, newest first."""
        return web.json_response({"object": "list", "data": [j.shown() for j in self._jobs.all()]})

    async def job(self, request: web.Request) -> web.Response:
        """``GET /v1/jobs/{id}``: how far an ingest is."""
        return web.json_response(self._job(request).shown())

    async def cancel(self, request: web.Request) -> web.Response:
        """``DELETE /v1/jobs/{id}``: end an ingest; what it stored stays."""
        self._refuse_when_read_only()
        job = self._job(request)
        await self._jobs.cancel(job)
        return web.json_response(job.shown())

    async def aclose(self, _: web.Application) -> None:
        """Cancel what is being ingested."""
        await self._jobs.aclose()

    def _job(self, request: web.Request) -> Job:
        name = request.match_info["id"]
        job = self._jobs.get(name)
        if job is None:
            raise BridgeRefusal(404, "unknown_job", f"job {name[:64]!r} is not known", param="id")
        return job

    async def delete(self, request: web.Request) -> web.Response:
        """``DELETE /v1/collections/{name}/documents``: ids that are not there are no error."""
        self._refuse_when_read_only()
        asked = parse(DeleteRequest, await read_body(request, 16 * MAX_BODY_BYTES))
        with self._one_of(self._writes, MAX_WRITES, "writes are running"):
            store = self._library.store(request.match_info["name"])
            count = await self._library.write(lambda: store.delete(asked.ids))
        self._metrics.wrote("delete", count)
        return web.json_response({"deleted": count})

    async def list(self, request: web.Request) -> web.Response:
        """``GET /v1/collections/{name}/documents?after=&limit=``: by id, a page at a time."""
        store = self._library.store(request.match_info["name"])
        given = request.query.get("limit", "100")
        digits = given.isascii() and given.isdigit() and len(given) <= 9
        if not digits or not 1 <= int(given) <= MAX_PAGE:
            why = f"limit: needs 1 to {MAX_PAGE}"
            raise BridgeRefusal(400, "invalid_value", why, param="limit")
        limit, after = int(given), request.query.get("after", "")
        found = await self._library.scan(lambda: store.documents(after, limit))
        next_after = found[-1].id if len(found) == limit else None
        return web.json_response({"documents": [asdict(d) for d in found], "next": next_after})

    async def create(self, request: web.Request) -> web.Response:
        """``PUT /v1/collections/{name}``: make it if it is new."""
        self._refuse_when_read_only()
        with self._one_of(self._writes, MAX_WRITES, "writes are running"):
            await self._library.create(request.match_info["name"])
        return web.json_response({"name": request.match_info["name"]})

    def _refuse_when_read_only(self) -> None:
        if not self._writable:
            raise BridgeRefusal(403, "read_only", "this bridge serves a folder and takes no writes")

    @contextmanager
    def _one_of(self, running: set[object], most: int, what: str) -> Iterator[None]:
        """Count what runs; refuse one too many."""
        if len(running) >= most:
            limit = f"{most} {what}, the limit"
            raise BridgeRefusal(429, "overloaded", limit, retry_after_s=1)
        mine = object()
        running.add(mine)
        try:
            yield
        finally:
            running.remove(mine)


def _all_incoming(asked: UpsertRequest) -> list[Incoming]:
    return [_incoming(place, given) for place, given in enumerate(asked.documents)]


def _incoming(place: int, given: DocumentBody) -> Incoming:
    where = f"documents.{place}"
    if (given.text is None) == (given.data is None):
        raise BridgeRefusal(
            400, "invalid_value", f"{where}: needs either text or data", param=where
        )
    try:
        content = (
            base64.b64decode(given.data, validate=True)
            if given.data is not None
            else (given.text or "").encode("utf-8", "replace")
        )
    except (binascii.Error, ValueError):
        param = f"{where}.data"
        raise BridgeRefusal(400, "invalid_value", f"{param}: not base64", param=param) from None
    source = given.source or given.id
    try:
        form = given.format or format_of(source)
    except UnreadableFile as exc:
        param = f"{where}.format"
        raise BridgeRefusal(400, "unknown_format", f"{param}: {exc}", param=param) from None
    return Incoming(given.id, source, form, content, given.metadata)
