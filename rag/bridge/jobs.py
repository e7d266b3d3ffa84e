"""Ingests that go on after their request was answered: one at a time, seen and cancelled by id.

Owns their list. A job stores its documents one by one, each durable before it counts; it is
forgotten with the process, while what it stored stays: the same request goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..documents.blocks import UnreadableFile
from ..encoder.embedder import EmbedderError
from ..search.library import Incoming, Library
from ..store.base import StoreError

MAX_WAITING = 8
MAX_KEPT = 64

State = Literal["waiting", "running", "completed", "failed", "cancelled"]

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """One ingest.

    Attributes:
        documents: how many there are.
        done: how many of them are stored, unchanged or refused.
        passages: stored by it.
        current_passages: of the document in work, 0 until it is cut.
        current_encoded: how many of these are encoded.
        refused: for each document that could not be read, why.
        error: why it failed, None unless it did.
    """

    id: str
    collection: str
    documents: int
    state: State = "waiting"
    done: int = 0
    passages: int = 0
    current_passages: int = 0
    current_encoded: int = 0
    refused: list[str] = field(default_factory=list)
    error: str | None = None

    def shown(self) -> dict[str, object]:
        """Return it as clients see it."""
        return {
            "id": self.id,
            "object": "ingest_job",
            "collection": self.collection,
            "status": self.state,
            "documents": self.documents,
            "done": self.done,
            "passages": self.passages,
            "current_passages": self.current_passages,
            "current_encoded": self.current_encoded,
            "refused": list(self.refused),
            "error": self.error,
        }


class TooManyJobs(Exception):
    """As many ingests wait as may."""


class Jobs:
    """The ingests of one bridge. Belongs to one event loop."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    def start(self, collection: str, documents: Sequence[Incoming]) -> Job:
        """Return a job that stores these documents, or waits for its turn.

        Raises:
            TooManyJobs: ``MAX_WAITING`` wait already.
        """
        if sum(job.state == "waiting" for job in self._jobs.values()) >= MAX_WAITING:
            raise TooManyJobs(f"{MAX_WAITING} ingests wait, the limit")
        job = Job(f"ingest_{uuid.uuid4().hex[:16]}", collection, len(documents))
        self._jobs[job.id] = job
        self._forget()
        task = asyncio.create_task(self._run(job, list(documents)))
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))
        return job

    def all(self) -> list[Job]:
        """Return the jobs, newest first."""
        return list(self._jobs.values())[::-1]

    def get(self, name: str) -> Job | None:
        """Return a job, None for one that is not known or forgotten."""
        return self._jobs.get(name)

    async def cancel(self, job: Job) -> None:
        """End a job after the document in work; what is stored stays. Idempotent."""
        task = self._tasks.get(job.id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if job.state in ("waiting", "running"):
            job.state = "cancelled"

    async def aclose(self) -> None:
        """Cancel all of them."""
        for job in self.all():
            await self.cancel(job)

    def _forget(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.id not in self._tasks]
        for name in ended[: max(0, len(self._jobs) - MAX_KEPT)]:
            del self._jobs[name]

    async def _run(self, job: Job, documents: list[Incoming]) -> None:
        async with self._turn:
            job.state = "running"
            try:
                while documents:
                    await self._store(job, documents[0])
                    del documents[0]
                    job.done += 1
            except (EmbedderError, StoreError) as exc:
                job.state, job.error = "failed", str(exc)
            except Exception as exc:  # its message may quote a document
                _LOG.error("an ingest failed: %s", type(exc).__name__)
                job.state, job.error = "failed", "internal error"
            else:
                job.state = "completed"

    async def _store(self, job: Job, document: Incoming) -> None:
        def encoded(done: int, of: int) -> None:
            job.current_encoded, job.current_passages = done, of

        try:
            stored = await self._library.ingest(job.collection, [document], encoded)
        except UnreadableFile as exc:
            job.refused.append(str(exc)[:500])
        else:
            job.passages += sum(stored.values())
        encoded(0, 0)
