"""What the pool knows of its experts, and what it can decide to do. Values.

`transitions.py` and `decision.py` turn (state, what happened, now) into (state, actions); `pool.py`
performs them.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from ..errors import ExpertError

State = Literal["unloaded", "loading", "ready", "draining", "unloading", "failed"]
STATES: tuple[State, ...] = ("unloaded", "loading", "ready", "draining", "unloading", "failed")


class Counts(Struct, frozen=True):
    """How often it happened to an expert since the start.

    Attributes:
        loads, failed_loads, unloads: of the pool's doing.
        crashes: its engine ended by itself while it was loaded.
    """

    loads: int = 0
    failed_loads: int = 0
    unloads: int = 0
    crashes: int = 0


class ExpertState(Struct, frozen=True):
    """One expert as the pool shows it.

    Attributes:
        state: ``unloaded``, ``loading``, ``ready``, ``draining`` (nobody new gets it),
            ``unloading`` or ``failed``.
        detail: why it failed or could not be loaded; ``shown``: what of it clients may be told.
        users: requests that hold it or wait for it; ``waiting`` of them wait.
        progress: 0..1 of a load, estimated from the time that earlier ones took; 1 when loaded,
            None when neither is the case.
        remaining_s: of that load, estimated likewise.
    """

    expert_id: str
    state: State
    detail: str = ""
    users: int = 0
    waiting: int = 0
    progress: float | None = None
    remaining_s: float | None = None
    counts: Counts = field(default_factory=Counts)
    shown: str = ""


class Rules(Struct, frozen=True):
    """The limits of a pool.

    Attributes:
        max_loaded: most local experts in memory; remote ones do not count.
        max_queued: most requests that wait for experts, all together.
        queue_timeout_s: longest wait of one of them.
        auto_unload_after_s: idle time after which an expert that is not warm leaves; None = never.
        budget_bytes: memory that all loaded experts together may take; None = not known.
    """

    max_loaded: int = 2
    max_queued: int = 64
    queue_timeout_s: float = 120.0
    auto_unload_after_s: float | None = None
    budget_bytes: int | None = None


class Slot(Struct, frozen=True):
    """One expert's place in the pool. Times in seconds of one clock.

    Attributes:
        is_local: it takes memory of this machine.
        warm: to be kept loaded.
        priority: one point keeps it loaded as long as a second's later use would.
        need_bytes: memory it takes when loaded, estimated; None = not known.
        holders: tickets of the requests that use it.
        woken: somebody will probably need it.
        error: why the last load or life ended.
        since_s: since when it is in this state.
        wanted_s, used_s: when it was last asked for and last released.
        was_ready: it has worked before.
        load_s: how long its last load took.
    """

    expert_id: str
    is_local: bool = True
    warm: bool = False
    priority: int = 0
    need_bytes: int | None = None
    state: State = "unloaded"
    holders: frozenset[int] = frozenset()
    woken: bool = False
    error: ExpertError | None = None
    failures: int = 0
    retry_at_s: float = 0.0
    since_s: float = 0.0
    wanted_s: float | None = None
    used_s: float = 0.0
    was_ready: bool = False
    load_s: float | None = None
    counts: Counts = field(default_factory=Counts)

    def may_load(self, now_s: float) -> bool:
        """Whether it is not loaded and no back-off forbids it."""
        return self.state == "unloaded" or (self.state == "failed" and now_s >= self.retry_at_s)


class Ticket(Struct, frozen=True):
    """A request that waits for an expert; ``number`` is unique."""

    number: int
    expert_id: str


class PoolState(Struct, frozen=True):
    """Everything the rules know: the slots in the operator's order, the queue oldest first.

    ``closed``: nothing is loaded and nobody gets in, before the start and after the end.
    """

    rules: Rules
    slots: tuple[Slot, ...]
    queue: tuple[Ticket, ...] = ()
    closed: bool = True

    def slot(self, expert_id: str) -> Slot:
        """Return the expert's slot; KeyError if there is none."""
        for slot in self.slots:
            if slot.expert_id == expert_id:
                return slot
        raise KeyError(f"no expert {expert_id!r}")

    def put(self, slot: Slot) -> PoolState:
        """Return the state with this slot in the place of the expert's old one."""
        slots = tuple(slot if s.expert_id == slot.expert_id else s for s in self.slots)
        return replace(self, slots=slots)

    def waiting(self, expert_id: str) -> tuple[Ticket, ...]:
        """Return the tickets of one expert, oldest first."""
        return tuple(ticket for ticket in self.queue if ticket.expert_id == expert_id)


class Load(Struct, frozen=True):
    """Start the expert's engine; ``on_loaded`` or ``on_failed`` follows."""

    expert_id: str


class Unload(Struct, frozen=True):
    """Stop its engine, which nobody uses; ``on_unloaded`` follows."""

    expert_id: str


class Discard(Struct, frozen=True):
    """Clear away what is left of an engine that died."""

    expert_id: str


class Admit(Struct, frozen=True):
    """Let a request use the expert."""

    ticket: Ticket


class Refuse(Struct, frozen=True):
    """Tell a request why it gets no expert."""

    ticket: int
    error: ExpertError


class Notify(Struct, frozen=True):
    """Tell what became of the expert."""

    expert_id: str


Action = Load | Unload | Discard | Admit | Refuse | Notify
Step = tuple[PoolState, list[Action]]
