"""Recorded partial transcripts played into a session, and what it prepares from them."""

from __future__ import annotations

import asyncio
from collections import Counter

from livemind.benchmarks.workload.recordings import Utterance
from livemind.orchestrator.events import (
    DraftCreated,
    PrefillUpdated,
    ResponseDone,
    RetrievalUpdated,
    RouteUpdated,
)
from livemind.orchestrator.session import Session

PREPARATION = (RouteUpdated, RetrievalUpdated, PrefillUpdated, DraftCreated)


async def prepared(
    session: Session,
    utterance: Utterance,
    *,
    after_partial: str = "",
    commit_after_s: float | None = None,
) -> tuple[Counter[str], ResponseDone]:
    """Play an utterance at its times and commit it; return what was prepared, and how it ended.

    Args:
        session: no turn of it is open; nobody else reads its events.
        after_partial: stands behind every partial, as some clients send a blank.
        commit_after_s: from the last partial, 0 = in the same step of the event loop; None = when
            the final transcript was recorded.

    Returns:
        How many events of each type of ``PREPARATION`` came before the commit, those of prefill by
        expert; the turn's end.
    """
    loop = asyncio.get_running_loop()
    began_s, found, committed = loop.time(), Counter[str](), asyncio.Event()

    async def read() -> ResponseDone:
        while (event := await session.next_event()) is not None:
            if isinstance(event, PREPARATION) and not committed.is_set():
                whose = f" {event.expert}" if isinstance(event, PrefillUpdated) else ""
                found[event.type + whose] += 1
            if isinstance(event, ResponseDone):
                return event
        raise AssertionError("the session ended before the turn")

    reader = asyncio.create_task(read())
    for partial in utterance.partials:
        await asyncio.sleep(began_s + partial.at_s - loop.time())
        session.replace(partial.text + after_partial)
    wait_s = utterance.silence_s if commit_after_s is None else commit_after_s
    if wait_s:
        await asyncio.sleep(wait_s)
    committed.set()
    session.request_commit(utterance.text, None)
    return found, await reader


def most_differing(one: Counter[str], other: Counter[str]) -> int:
    """Return by how much the counts of two turns differ, in the type that differs most."""
    return max((abs(one[kind] - other[kind]) for kind in one | other), default=0)
