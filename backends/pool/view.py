"""What may be known of the experts from outside: their states, with the progress of loads."""

from __future__ import annotations

from .state import ExpertState, PoolState, Slot, Ticket

# How long a first load is taken to last: imports, then the weights from a disk.
FIRST_LOAD_S, BYTES_PER_S = 5.0, 1e9


def view(state: PoolState, slot: Slot, now_s: float) -> ExpertState:
    """Return what may be shown of an expert."""
    waiting = len(state.waiting(slot.expert_id))
    progress = remaining_s = None
    if slot.state == "loading":
        expected_s, elapsed_s = expected_load_s(state, slot), now_s - slot.since_s
        progress = min(elapsed_s / expected_s, 0.99)
        remaining_s = max(expected_s - elapsed_s, 0.0)
    elif slot.state in ("ready", "draining"):
        progress, remaining_s = 1.0, 0.0
    return ExpertState(
        slot.expert_id,
        slot.state,
        "" if slot.error is None else slot.error.message,
        len(slot.holders) + waiting,
        waiting,
        progress,
        remaining_s,
        slot.counts,
        "" if slot.error is None else slot.error.shown,
    )


def why_waiting(state: PoolState, ticket: Ticket) -> str:
    """Return in a few words what a waiting request waits for."""
    slot = state.slot(ticket.expert_id)
    if slot.state == "loading":
        return "it is still loading"
    limit = state.rules.max_loaded
    return f"all {limit} loaded experts are busy"


def expected_load_s(state: PoolState, slot: Slot) -> float:
    """Return how long a load should take: as its last one, else as the others', else by size."""
    if slot.load_s is not None:
        return max(slot.load_s, 0.001)
    known = [other.load_s for other in state.slots if other.load_s and other.is_local]
    if known and slot.is_local:
        return sum(known) / len(known)
    return FIRST_LOAD_S + (slot.need_bytes or 0) / BYTES_PER_S
