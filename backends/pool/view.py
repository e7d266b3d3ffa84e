"""What may be known of the experts from outside: their states, with the progress of loads."""

from __future__ import annotations

from .state import ExpertState, PoolState, Seat, Ticket

# How long a first load is taken to last: imports, then the weights from a disk.
FIRST_LOAD_S, BYTES_PER_S = 5.0, 1e9


def view(state: PoolState, seat: Seat, now_s: float) -> ExpertState:
    """Return what may be shown of an expert."""
    waiting = len(state.waiting(seat.expert_id))
    progress = remaining_s = None
    if seat.state == "loading":
        expected_s, elapsed_s = expected_load_s(state, seat), now_s - seat.since_s
        progress = min(elapsed_s / expected_s, 0.99)
        remaining_s = max(expected_s - elapsed_s, 0.0)
    elif seat.state in ("ready", "draining"):
        progress, remaining_s = 1.0, 0.0
    return ExpertState(
        seat.expert_id,
        seat.state,
        "" if seat.error is None else seat.error.message,
        len(seat.holders) + waiting,
        waiting,
        progress,
        remaining_s,
        seat.counts,
    )


def why_waiting(state: PoolState, ticket: Ticket) -> str:
    """Return in a few words what a waiting request waits for."""
    seat = state.seat(ticket.expert_id)
    if seat.state == "loading":
        return "it is still loading"
    limit = state.rules.max_loaded
    return f"all {limit} loaded experts are busy"


def expected_load_s(state: PoolState, seat: Seat) -> float:
    """Return how long a load should take: as its last one, else as the others', else by size."""
    if seat.load_s is not None:
        return max(seat.load_s, 0.001)
    known = [other.load_s for other in state.seats if other.load_s and other.is_local]
    if known and seat.is_local:
        return sum(known) / len(known)
    return FIRST_LOAD_S + (seat.need_bytes or 0) / BYTES_PER_S
