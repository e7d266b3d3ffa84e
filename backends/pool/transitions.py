"""What follows from what happened to the experts: pure functions of the pool's state.

    unloaded ─→ loading ─→ ready ─→ unloading ─→ unloaded
                   │        ↕ │ ↑
                   │    draining  (busy, but its place is needed: it takes no new requests)
                   └─→ failed ─→ loading (after a back-off)

(state, what happened, now) → (state, actions): no await, no clock, no I/O. After whatever happened
``decision.decide`` says what is to begin.
"""

from __future__ import annotations

from msgspec.structs import replace

from ..errors import ExpertError, ExpertOverloaded, ExpertUnavailable
from .state import Action, Admit, Discard, Notify, PoolState, Refuse, Slot, Step, Ticket
from .steps import enter, grant_waiting, refuse_waiting
from .view import expected_load_s, view

# A first crash restarts at once; later ones back off until an expert lives for the longest one.
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0


def on_acquire(state: PoolState, ticket: Ticket, now_s: float) -> Step:
    """A request wants an expert: it gets it, waits for it or is refused."""
    slot = state.slot(ticket.expert_id)
    if state.closed:
        return state, [Refuse(ticket.number, _closed(slot))]
    if slot.state == "ready":
        return state.put(replace(slot, holders=slot.holders | {ticket.number})), [Admit(ticket)]
    if (refusal := _backing_off(slot, now_s)) is not None:
        return state, [Refuse(ticket.number, refusal)]
    limit = state.rules.max_queued
    if len(state.queue) >= limit:
        message = f"{limit} requests wait for experts to be loaded, the limit"
        error = ExpertOverloaded(slot.expert_id, message, _retry_after_s(state, slot, now_s))
        return state, [Refuse(ticket.number, error)]
    state = state.put(replace(slot, wanted_s=now_s))
    return replace(state, queue=(*state.queue, ticket)), []


def on_leave(state: PoolState, ticket: int, now_s: float) -> Step:
    """A request let its expert go, or waits no longer. Unknown tickets are none."""
    queue = tuple(waiting for waiting in state.queue if waiting.number != ticket)
    state = replace(state, queue=queue)
    for slot in state.slots:
        if ticket in slot.holders:
            state = state.put(replace(slot, holders=slot.holders - {ticket}, used_s=now_s))
    return state, []


def on_wake(state: PoolState, expert_id: str, now_s: float) -> Step:
    """Somebody will probably need this expert."""
    slot = state.slot(expert_id)
    if state.closed or not slot.may_load(now_s):
        return state, []
    return state.put(replace(slot, woken=True)), []


def on_loaded(state: PoolState, expert_id: str, now_s: float) -> Step:
    """Its engine runs: all who wait for it get it."""
    slot = state.slot(expert_id)
    counts = replace(slot.counts, loads=slot.counts.loads + 1)
    took_s = now_s - slot.since_s
    slot = replace(slot, load_s=took_s, was_ready=True, used_s=now_s, counts=counts, error=None)
    state, actions = enter(state, slot, "ready", now_s)
    return grant_waiting(state, expert_id, actions)


def on_failed(state: PoolState, expert_id: str, error: ExpertError, now_s: float) -> Step:
    """Its load failed: all who wait for it are told, and the next try waits."""
    slot = state.slot(expert_id)
    counts = replace(slot.counts, failed_loads=slot.counts.failed_loads + 1)
    slot = _backed_off(replace(slot, error=error, counts=counts), now_s)
    state, actions = enter(state, slot, "failed", now_s)
    return refuse_waiting(state, expert_id, error, actions)


def on_unloaded(state: PoolState, expert_id: str, now_s: float) -> Step:
    """Its engine is gone, as was decided."""
    slot = state.slot(expert_id)
    counts = replace(slot.counts, unloads=slot.counts.unloads + 1)
    return enter(state, replace(slot, counts=counts), "unloaded", now_s)


def on_crashed(state: PoolState, expert_id: str, error: ExpertError, now_s: float) -> Step:
    """Its engine died in use. The first time it is restarted at once."""
    slot = state.slot(expert_id)
    if state.closed or slot.state not in ("ready", "draining"):
        return state, []
    first = slot.failures == 0
    counts = replace(slot.counts, crashes=slot.counts.crashes + 1)
    slot = _backed_off(replace(slot, error=error, counts=counts), now_s)
    if first:
        slot = replace(slot, retry_at_s=now_s)
    state, actions = enter(state, slot, "failed", now_s)
    actions.append(Discard(expert_id))
    return state, actions


def on_tick(state: PoolState, now_s: float) -> Step:
    """Time passed: loads progress, and who lived long enough is forgiven earlier failures."""
    actions: list[Action] = []
    for slot in state.slots:
        if slot.state == "loading":
            actions.append(Notify(slot.expert_id))
        elif slot.state == "ready" and now_s - slot.since_s >= LONGEST_BACKOFF_S:
            state = state.put(replace(slot, failures=0))
    return state, actions


def on_close(state: PoolState) -> Step:
    """Nothing is loaded any more; those who wait are told."""
    refused: list[Action] = [
        Refuse(ticket.number, _closed(state.slot(ticket.expert_id))) for ticket in state.queue
    ]
    return replace(state, queue=(), closed=True), refused


def on_stopped(state: PoolState, now_s: float) -> Step:
    """Every engine is gone, as the pool is closed."""
    actions: list[Action] = []
    for slot in state.slots:
        if slot.state not in ("unloaded", "failed"):
            state, more = enter(state, slot, "unloaded", now_s)
            actions += more
    return state, actions


def _backed_off(slot: Slot, now_s: float) -> Slot:
    wait_s = min(FIRST_BACKOFF_S * 2**slot.failures, LONGEST_BACKOFF_S)
    return replace(slot, failures=slot.failures + 1, retry_at_s=now_s + wait_s, woken=False)


def _backing_off(slot: Slot, now_s: float) -> ExpertError | None:
    """Return why a request is refused before the next try is due, None if it need not be."""
    if slot.state != "failed" or now_s >= slot.retry_at_s:
        return None
    cause, shown = ("failed",) * 2 if slot.error is None else (slot.error.message, slot.error.shown)
    wait_s = slot.retry_at_s - now_s
    told = f"(next try in {wait_s:.0f} s)"
    return ExpertUnavailable(slot.expert_id, f"{cause} {told}", wait_s, shown=f"{shown} {told}")


def _retry_after_s(state: PoolState, slot: Slot, now_s: float) -> float:
    remaining_s = view(state, slot, now_s).remaining_s
    return max(1.0, expected_load_s(state, slot) if remaining_s is None else remaining_s)


def _closed(slot: Slot) -> ExpertError:
    return ExpertUnavailable(slot.expert_id, "the server is shutting down")
