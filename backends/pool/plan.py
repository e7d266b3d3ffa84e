"""What follows from what happened to the experts: pure functions of the pool's state.

    unloaded ─→ loading ─→ ready ─→ unloading ─→ unloaded
                   │        ↕ │ ↑
                   │    draining  (busy, but its place is needed: it takes no new requests)
                   └─→ failed ─→ loading (after a back-off)

(state, what happened, now) → (state, actions): no await, no clock, no I/O. After whatever happened
``choice.decide`` says what is to begin.
"""

from __future__ import annotations

from msgspec.structs import replace

from ..errors import ExpertError, ExpertOverloaded, ExpertUnavailable
from .state import Action, Discard, Grant, PoolState, Refuse, Report, Seat, Step, Ticket
from .steps import enter, grant_waiting, refuse_waiting
from .view import expected_load_s, view

# A first crash restarts at once; later ones back off until an expert lives for the longest one.
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0


def on_acquire(state: PoolState, ticket: Ticket, now_s: float) -> Step:
    """A request wants an expert: it gets it, waits for it or is refused."""
    seat = state.seat(ticket.expert_id)
    if state.closed:
        return state, [Refuse(ticket.number, _closed(seat))]
    if seat.state == "ready":
        return state.put(replace(seat, holders=seat.holders | {ticket.number})), [Grant(ticket)]
    if (refusal := _backing_off(seat, now_s)) is not None:
        return state, [Refuse(ticket.number, refusal)]
    limit = state.rules.max_queued
    if len(state.queue) >= limit:
        message = f"{limit} requests wait for experts to be loaded, the limit"
        error = ExpertOverloaded(seat.expert_id, message, _retry_after_s(state, seat, now_s))
        return state, [Refuse(ticket.number, error)]
    state = state.put(replace(seat, wanted_s=now_s))
    return replace(state, queue=(*state.queue, ticket)), []


def on_leave(state: PoolState, ticket: int, now_s: float) -> Step:
    """A request let its expert go, or waits no longer. Unknown tickets are none."""
    queue = tuple(waiting for waiting in state.queue if waiting.number != ticket)
    state = replace(state, queue=queue)
    for seat in state.seats:
        if ticket in seat.holders:
            state = state.put(replace(seat, holders=seat.holders - {ticket}, used_s=now_s))
    return state, []


def on_wake(state: PoolState, expert_id: str, now_s: float) -> Step:
    """Somebody will probably need this expert."""
    seat = state.seat(expert_id)
    if state.closed or not seat.may_load(now_s):
        return state, []
    return state.put(replace(seat, woken=True)), []


def on_loaded(state: PoolState, expert_id: str, now_s: float) -> Step:
    """Its engine runs: all who wait for it get it."""
    seat = state.seat(expert_id)
    counts = replace(seat.counts, loads=seat.counts.loads + 1)
    took_s = now_s - seat.since_s
    seat = replace(seat, load_s=took_s, was_ready=True, used_s=now_s, counts=counts, error=None)
    state, actions = enter(state, seat, "ready", now_s)
    return grant_waiting(state, expert_id, actions)


def on_failed(state: PoolState, expert_id: str, error: ExpertError, now_s: float) -> Step:
    """Its load failed: all who wait for it are told, and the next try waits."""
    seat = state.seat(expert_id)
    counts = replace(seat.counts, failed_loads=seat.counts.failed_loads + 1)
    seat = _backed_off(replace(seat, error=error, counts=counts), now_s)
    state, actions = enter(state, seat, "failed", now_s)
    return refuse_waiting(state, expert_id, error, actions)


def on_unloaded(state: PoolState, expert_id: str, now_s: float) -> Step:
    """Its engine is gone, as was decided."""
    seat = state.seat(expert_id)
    counts = replace(seat.counts, unloads=seat.counts.unloads + 1)
    return enter(state, replace(seat, counts=counts), "unloaded", now_s)


def on_crashed(state: PoolState, expert_id: str, error: ExpertError, now_s: float) -> Step:
    """Its engine died in use. The first time it is restarted at once."""
    seat = state.seat(expert_id)
    if state.closed or seat.state not in ("ready", "draining"):
        return state, []
    first = seat.failures == 0
    counts = replace(seat.counts, crashes=seat.counts.crashes + 1)
    seat = _backed_off(replace(seat, error=error, counts=counts), now_s)
    if first:
        seat = replace(seat, retry_at_s=now_s)
    state, actions = enter(state, seat, "failed", now_s)
    actions.append(Discard(expert_id))
    return state, actions


def on_tick(state: PoolState, now_s: float) -> Step:
    """Time passed: loads progress, and who lived long enough is forgiven earlier failures."""
    actions: list[Action] = []
    for seat in state.seats:
        if seat.state == "loading":
            actions.append(Report(seat.expert_id))
        elif seat.state == "ready" and now_s - seat.since_s >= LONGEST_BACKOFF_S:
            state = state.put(replace(seat, failures=0))
    return state, actions


def on_close(state: PoolState) -> Step:
    """Nothing is loaded any more; those who wait are told."""
    refused: list[Action] = [
        Refuse(ticket.number, _closed(state.seat(ticket.expert_id))) for ticket in state.queue
    ]
    return replace(state, queue=(), closed=True), refused


def on_stopped(state: PoolState, now_s: float) -> Step:
    """Every engine is gone, as the pool is closed."""
    actions: list[Action] = []
    for seat in state.seats:
        if seat.state not in ("unloaded", "failed"):
            state, more = enter(state, seat, "unloaded", now_s)
            actions += more
    return state, actions


def _backed_off(seat: Seat, now_s: float) -> Seat:
    wait_s = min(FIRST_BACKOFF_S * 2**seat.failures, LONGEST_BACKOFF_S)
    return replace(seat, failures=seat.failures + 1, retry_at_s=now_s + wait_s, woken=False)


def _backing_off(seat: Seat, now_s: float) -> ExpertError | None:
    """Return why a request is refused before the next try is due, None if it need not be."""
    if seat.state != "failed" or now_s >= seat.retry_at_s:
        return None
    cause = seat.error.message if seat.error is not None else "failed"
    wait_s = seat.retry_at_s - now_s
    return ExpertUnavailable(seat.expert_id, f"{cause} (next try in {wait_s:.0f} s)")


def _retry_after_s(state: PoolState, seat: Seat, now_s: float) -> float:
    remaining_s = view(state, seat, now_s).remaining_s
    return max(1.0, expected_load_s(state, seat) if remaining_s is None else remaining_s)


def _closed(seat: Seat) -> ExpertError:
    return ExpertUnavailable(seat.expert_id, "the server is shutting down")
