"""Steps that what happened and what is decided have in common."""

from __future__ import annotations

from msgspec.structs import replace

from ..errors import ExpertError
from .state import Action, Admit, Notify, PoolState, Refuse, Slot, State, Step


def enter(state: PoolState, slot: Slot, to: State, since_s: float) -> Step:
    """Move an expert to another state."""
    slot = replace(slot, state=to, since_s=since_s)
    return state.put(slot), [Notify(slot.expert_id)]


def grant_waiting(state: PoolState, expert_id: str, actions: list[Action]) -> Step:
    """Give the expert to all who wait for it."""
    admitted = state.waiting(expert_id)
    slot = state.slot(expert_id)
    numbers = frozenset(ticket.number for ticket in admitted)
    state = state.put(replace(slot, holders=slot.holders | numbers))
    queue = tuple(ticket for ticket in state.queue if ticket.number not in numbers)
    return replace(state, queue=queue), [*actions, *map(Admit, admitted)]


def refuse_waiting(
    state: PoolState, expert_id: str, error: ExpertError, actions: list[Action]
) -> Step:
    """Tell all who wait for the expert why they do not get it."""
    refused = state.waiting(expert_id)
    queue = tuple(ticket for ticket in state.queue if ticket.expert_id != expert_id)
    return replace(state, queue=queue), [*actions, *(Refuse(t.number, error) for t in refused)]
