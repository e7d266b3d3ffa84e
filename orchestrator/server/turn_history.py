"""The last day in numbers: cost and gain of working ahead by hour, and the slowest turns.

Numbers alone: no text, no id, nothing that a client chose. Bounded; one event loop's thread.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count
from typing import TypedDict

from msgspec import Struct, to_builtins

from ..events import Ledger, ResponseDone, Timings

HOUR_S = 3600
HOURS = 24
SLOWEST = 20


class Hour(Struct):
    """Sums over the turns that ended in one hour.

    Attributes:
        began_s: of the hour, Unix time.
        ttft_ms: over ``ttft_turns`` turns that had text.
        compared_turns: turns whose TTFT without working ahead is estimated; ``with_ms`` and
            ``without_ms`` are sums over these alone.
    """

    began_s: int
    turns: int = 0
    failed: int = 0
    prefill_speculated: int = 0
    prefill_adopted: int = 0
    prefill_wasted: int = 0
    draft_speculated: int = 0
    draft_adopted: int = 0
    draft_wasted: int = 0
    ttft_turns: int = 0
    ttft_ms: float = 0.0
    compared_turns: int = 0
    with_ms: float = 0.0
    without_ms: float = 0.0


class SlowTurn(Struct, frozen=True):
    """One turn in numbers; ``ended_s``: Unix time."""

    ended_s: float
    expert: str | None
    status: str
    timings: Timings
    ledger: Ledger
    prompt_tokens: int | None
    cached_tokens: int | None


class History(TypedDict):
    """What ``/stats/turns`` answers."""

    hours: list[dict[str, object]]
    slowest: list[dict[str, object]]


class TurnHistory:
    """Takes ended turns, tells of the last ``HOURS`` hours.

    Args:
        clock: Unix time, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._hours: dict[int, Hour] = {}
        self._slow: list[tuple[float, int, SlowTurn]] = []
        self._number = count()

    def saw(self, done: ResponseDone) -> None:
        """Count a turn that ended."""
        now_s = self._clock()
        began_s = int(now_s) // HOUR_S * HOUR_S
        if began_s not in self._hours:
            self._forget(now_s)
            self._hours[began_s] = Hour(began_s)
        hour, ledger = self._hours[began_s], done.ledger
        hour.turns += 1
        hour.failed += done.status == "failed"
        hour.prefill_speculated += ledger.prefill_speculated
        hour.prefill_adopted += ledger.prefill_adopted
        hour.prefill_wasted += ledger.prefill_wasted
        hour.draft_speculated += ledger.draft_speculated
        hour.draft_adopted += ledger.draft_adopted
        hour.draft_wasted += ledger.draft_wasted
        ttft_ms, without_ms = done.timings.ttft_ms, done.timings.estimated_ttft_ms_without
        if ttft_ms is None:
            return
        hour.ttft_turns += 1
        hour.ttft_ms += ttft_ms
        if without_ms is not None:
            hour.compared_turns += 1
            hour.with_ms += ttft_ms
            hour.without_ms += without_ms
        self._keep(ttft_ms, now_s, done)

    def told(self) -> History:
        """Return hours, oldest first, and turns, slowest first; JSON-ready."""
        self._forget(self._clock())
        slowest = sorted(self._slow, key=lambda one: (-one[0], one[1]))
        return {
            "hours": [to_builtins(self._hours[began_s]) for began_s in sorted(self._hours)],
            "slowest": [to_builtins(turn) for _, _, turn in slowest],
        }

    def _keep(self, ttft_ms: float, now_s: float, done: ResponseDone) -> None:
        used = done.usage
        turn = SlowTurn(
            now_s,
            done.expert,
            done.status,
            done.timings,
            done.ledger,
            None if used is None else used.prompt_tokens,
            None if used is None else used.cached_tokens,
        )
        entry = (ttft_ms, next(self._number), turn)
        if len(self._slow) < SLOWEST:
            heapq.heappush(self._slow, entry)
        else:
            heapq.heappushpop(self._slow, entry)

    def _forget(self, now_s: float) -> None:
        oldest_s = now_s - HOURS * HOUR_S
        for began_s in [began for began in self._hours if began + HOUR_S <= oldest_s]:
            del self._hours[began_s]
        kept = [entry for entry in self._slow if entry[2].ended_s > oldest_s]
        if len(kept) < len(self._slow):
            self._slow = kept
            heapq.heapify(self._slow)
