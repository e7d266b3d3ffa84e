"""What the pool knows of one expert, and the decisions that follow from it.

    unloaded ─→ loading ─→ ready ─→ unloading ─→ unloaded
                   │         │ crash
                   └────→ failed ─→ loading (after a back-off)

Pure: no await and no clock of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .base import Expert
from .errors import ExpertError, ExpertUnavailable
from .spec import ExpertSpec

State = Literal["unloaded", "loading", "ready", "unloading", "failed"]
# A first crash restarts at once; later ones back off until an expert lives for the longest one.
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class ExpertState:
    """One expert as the pool sees it; ``users`` counts those who hold or wait for it."""

    expert_id: str
    state: State
    detail: str = ""
    users: int = 0


@dataclass(slots=True, eq=False)
class Slot:
    """One expert's place in the pool.

    Attributes:
        warm: to be kept loaded.
        load: the task that loads it now; its result is why that failed, None = it did not.
        users: how many hold it or wait for it.
        was_ready: it has worked before, so that it is worth being restarted unasked.
    """

    spec: ExpertSpec
    warm: bool
    state: State = "unloaded"
    expert: Expert | None = None
    load: asyncio.Task[ExpertError | None] | None = None
    error: ExpertError | None = None
    users: int = 0
    failures: int = 0
    retry_at: float = 0.0
    was_ready: bool = False
    ready_since: float = 0.0
    last_used: float = 0.0

    @property
    def is_local(self) -> bool:
        """Whether it takes memory of this machine."""
        return self.spec.kind != "remote"

    def view(self) -> ExpertState:
        """Return what may be shown."""
        detail = self.error.message if self.error is not None else ""
        return ExpertState(self.spec.expert_id, self.state, detail, self.users)

    def may_load(self, now: float) -> bool:
        """Whether a load would be worth starting without anybody waiting for it."""
        return self.state == "unloaded" or (self.state == "failed" and now >= self.retry_at)

    def is_worth_a_restart(self, now: float) -> bool:
        """Whether it failed, its back-off is over, and it should be there."""
        return self.state == "failed" and (self.warm or self.was_ready) and now >= self.retry_at

    def is_idle_for(self, limit_s: float | None, now: float) -> bool:
        """Whether nobody has used it for that long; never true for a warm one."""
        unused = not (self.warm or self.users)
        return limit_s is not None and unused and now - self.last_used >= limit_s

    def back_off(self, now: float) -> None:
        """Count a failure and set when the next try is due."""
        self.retry_at = now + min(FIRST_BACKOFF_S * 2**self.failures, LONGEST_BACKOFF_S)
        self.failures += 1

    def forgive(self, now: float) -> None:
        """Forget earlier failures once it has lived long enough."""
        if self.state == "ready" and now - self.ready_since >= LONGEST_BACKOFF_S:
            self.failures = 0

    def became_ready(self, now: float) -> None:
        """Note that it works from now on."""
        self.was_ready = True
        self.ready_since = self.last_used = now

    def refusal(self, now: float) -> ExpertError | None:
        """Return why a request is refused before the next try is due, None if it need not be."""
        if self.load is not None or self.state != "failed" or now >= self.retry_at:
            return None
        cause = self.error.message if self.error is not None else "failed"
        wait_s = self.retry_at - now
        return ExpertUnavailable(self.spec.expert_id, f"{cause} (next try in {wait_s:.0f} s)")


def loaded(slots: Iterable[Slot]) -> list[Slot]:
    """Return the slots that hold an engine of this machine."""
    return [slot for slot in slots if slot.is_local and slot.state == "ready"]


def victim(slots: Iterable[Slot], *, may_be_warm: bool) -> Slot | None:
    """Return the loaded slot to give up: idle, rather not warm, used longest ago; None = none."""
    idle = [slot for slot in loaded(slots) if not slot.users and (may_be_warm or not slot.warm)]
    return min(idle, key=lambda slot: (slot.warm, slot.last_used), default=None)
