"""A source of documents into a collection: read, embedded, stored; interrupted and resumed at will.

Owns folders as sources and the order of work; websites are in ``site.py``. What is stored already,
by content hash, is skipped: that is all there is to resuming.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx

from ..client.identity import identify
from ..documents.blocks import UnreadableFile
from ..documents.parsing import ENDINGS, FORMATS, MAX_FILE_BYTES, format_of
from ..wire import MAX_NAME_CHARS
from .library import Incoming

MAX_FILES = 100_000
GROUP_BYTES = 512 * 1024
GROUP_FILES = 16


class IngestError(Exception):
    """The source cannot be ingested; the message says why."""


@dataclass(slots=True)
class IngestReport:
    """What became of the documents; ``refused`` has a line for each that could not be read."""

    stored: int = 0
    unchanged: int = 0
    passages: int = 0
    refused: list[str] = field(default_factory=list)


class Sink(Protocol):
    """Where documents go: a library in this process or a bridge."""

    async def ingest(self, name: str, incoming: Sequence[Incoming]) -> dict[str, int]:
        """Store documents durably; returns their passages, 0 = unchanged."""
        ...


class Source(Protocol):
    """Where documents come from."""

    def __len__(self) -> int:
        """How many there are, those that cannot be read included."""

    def documents(self) -> AsyncIterator[Incoming | UnreadableFile]:
        """Yield each in order, or why it cannot be read."""
        ...


class BridgeSink:
    """Sends documents to a running bridge.

    ``token``: that it shares; it is sent once the bridge has proved that it knows it.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=300.0, trust_env=False)
        self._url, self._token = url, token

    async def ingest(self, name: str, incoming: Sequence[Incoming]) -> dict[str, int]:
        """Store documents durably. Raises UnreadableFile (422) or IngestError."""
        await self._prove()
        documents = [
            {
                "id": d.id,
                "source": d.source,
                "format": d.format,
                "data": base64.b64encode(d.content).decode(),
                "metadata": dict(d.metadata),
            }
            for d in incoming
        ]
        try:
            path = f"/v1/collections/{name}/documents"
            waits = {"Prefer": "wait"}
            response = await self._http.post(path, json={"documents": documents}, headers=waits)
        except httpx.TransportError as exc:
            raise IngestError(f"the bridge does not answer ({type(exc).__name__})") from None
        if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            raise UnreadableFile(response.json()["error"]["message"])
        if response.status_code != httpx.codes.OK:
            raise IngestError(f"the bridge refused: {response.text[:300]}")
        return {d["id"]: d["passages"] for d in response.json()["documents"]}

    async def _prove(self) -> None:
        if self._token is None:
            return
        try:
            proved = await identify(self._url, self._token)
        except httpx.TransportError as exc:
            raise IngestError(f"the bridge does not answer ({type(exc).__name__})") from None
        if proved is None:
            raise IngestError(f"what answers on {self._url} is no bridge with this token")
        self._http.headers["Authorization"], self._token = f"Bearer {self._token}", None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of known formats below a folder; hidden ones and links out are left out."""

    folder: Path
    files: tuple[Path, ...]

    @classmethod
    def at(cls, folder: Path) -> Folder:
        """Find the files.

        Raises:
            IngestError: no such folder, none in it, or more than 100,000.
        """
        if not folder.is_dir():
            raise IngestError(f"{folder}: no such folder")
        root = folder.resolve()
        found = []
        for path in sorted(folder.rglob("*")):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            known = path.suffix.lower().lstrip(".") in ENDINGS
            if known and path.is_file() and path.resolve().is_relative_to(root):
                found.append(path)
            if len(found) > MAX_FILES:
                raise IngestError(f"{folder}: more than {MAX_FILES} files")
        if not found:
            raise IngestError(f"{folder}: no files of the formats {', '.join(FORMATS)}")
        return cls(folder, tuple(found))

    def __len__(self) -> int:
        return len(self.files)

    async def documents(self) -> AsyncIterator[Incoming | UnreadableFile]:
        """Yield each file, or why it cannot be read; their names are relative to the folder."""
        for path in self.files:
            source = path.relative_to(self.folder).as_posix()
            try:
                content = await asyncio.to_thread(_read, path, source)
                yield Incoming(source, source, format_of(source), content)
            except UnreadableFile as exc:
                yield exc


async def ingest(
    sink: Sink, collection: str, source: Source, advance: Callable[[int], None] = lambda _: None
) -> IngestReport:
    """Store what a source has, a group at a time; ``advance`` is told how many are done.

    What cannot be read is reported and left out, the rest is stored. Cancelling stops after the
    group in work; what was stored stays.
    """
    report = IngestReport()
    async with aclosing(_groups(source, report, advance)) as groups:
        async for group in groups:
            try:
                _count(report, await sink.ingest(collection, group))
            except UnreadableFile:
                for one in group:
                    try:
                        _count(report, await sink.ingest(collection, [one]))
                    except UnreadableFile as exc:
                        report.refused.append(str(exc))
            advance(len(group))
    return report


async def _groups(
    source: Source, report: IngestReport, advance: Callable[[int], None]
) -> AsyncGenerator[list[Incoming]]:
    group: list[Incoming] = []
    size = 0
    async for one in source.documents():
        if isinstance(one, UnreadableFile):
            report.refused.append(str(one))
            advance(1)
            continue
        group.append(one)
        size += len(one.content)
        if len(group) >= GROUP_FILES or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def check_name(source: str) -> None:
    """Check the name of a document. Raises UnreadableFile for one that cannot be stored."""
    if not source.isprintable() or len(source) > MAX_NAME_CHARS:
        limit = f"a name needs at most {MAX_NAME_CHARS} printable characters"
        raise UnreadableFile(f"{source[:100]!a}: {limit}")


def _read(path: Path, source: str) -> bytes:
    check_name(source)
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise UnreadableFile(f"{source}: {size} bytes, the limit is {MAX_FILE_BYTES}")
        return path.read_bytes()
    except OSError as exc:
        raise UnreadableFile(f"{source}: {exc.strerror}") from None


def _count(report: IngestReport, stored: dict[str, int]) -> None:
    for passages in stored.values():
        report.stored += passages > 0
        report.unchanged += passages == 0
        report.passages += passages
