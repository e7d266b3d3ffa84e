"""What begins next: which expert is loaded and which one leaves. Pure.

At most one engine of this machine starts or stops at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from ..errors import ExpertOverloaded
from .state import Action, Load, PoolState, Slot, Step, Unload
from .steps import enter, grant_waiting, refuse_waiting
from .transitions import LONGEST_BACKOFF_S

_GIB = 2**30
_IN_MEMORY = ("loading", "ready", "draining", "unloading")
_IN_TRANSIT = ("loading", "unloading")


def decide(state: PoolState, now_s: float, free_bytes: int | None) -> Step:
    """Return at most one load or unload of a local engine, and any number of remote ones.

    Whoever waits longest goes first, then what should be there, then what may be needed soon. Only
    for somebody who waits a warm expert leaves, or a busy one takes no more requests.

    Args:
        state: of the pool.
        now_s: the time.
        free_bytes: memory that may still be taken; None = not known.
    """
    actions: list[Action] = []
    if state.closed:
        return state, actions
    for slot in state.slots:
        if not slot.is_local and is_wanted(state, slot, now_s):
            state, more = enter(state, replace(slot, woken=False), "loading", now_s)
            actions += [*more, Load(slot.expert_id)]
    if any(slot.is_local and slot.state in _IN_TRANSIT for slot in state.slots):
        return _undrain(state, actions)
    for slot in _wanted(state, now_s):
        shortage = _shortage(state, slot, free_bytes)
        if shortage is None and len(_in_memory(state)) < state.rules.max_loaded:
            state, more = enter(state, replace(slot, woken=False), "loading", now_s)
            return _undrain(state, [*actions, *more, Load(slot.expert_id)])
        if (step := _make_room(state, slot, actions, now_s)) is not None:
            return step
        state, actions = _stand_aside(state, slot, shortage, actions)
    for slot in state.slots:
        if _is_idle_too_long(state, slot, now_s):
            return _unload(state, slot, actions, now_s)
    return _undrain(state, actions)


def _wanted(state: PoolState, now_s: float) -> Iterator[Slot]:
    """Yield the local experts to load, most urgent first."""
    slots = [s for s in state.slots if s.is_local and is_wanted(state, s, now_s)]
    order = {ticket.expert_id: place for place, ticket in reversed([*enumerate(state.queue)])}
    last = len(state.queue)
    yield from sorted(slots, key=lambda s: (order.get(s.expert_id, last), not s.warm, not s.woken))


def is_wanted(state: PoolState, slot: Slot, now_s: float) -> bool:
    """Whether somebody waits for it, it is woken, or it should be there."""
    if not slot.may_load(now_s):
        return False
    lately = slot.wanted_s is not None and now_s - slot.wanted_s <= LONGEST_BACKOFF_S
    again = slot.state == "failed" and (slot.warm or slot.was_ready or lately)
    lost = slot.state == "unloaded" and slot.warm and slot.was_ready
    return bool(state.waiting(slot.expert_id)) or slot.woken or again or lost


def _in_memory(state: PoolState) -> list[Slot]:
    return [slot for slot in state.slots if slot.is_local and slot.state in _IN_MEMORY]


def _shortage(state: PoolState, slot: Slot, free_bytes: int | None) -> str | None:
    """Return why the memory is not enough for it now, None if it is or if that is not known."""
    need, budget = slot.need_bytes or 0, state.rules.budget_bytes
    if budget is not None:
        left = budget - sum(other.need_bytes or 0 for other in _in_memory(state))
        free_bytes = left if free_bytes is None else min(free_bytes, left)
    if free_bytes is None or need <= free_bytes:
        return None
    have = max(free_bytes, 0) / _GIB
    return (
        f"not enough free memory to load it: it takes about {need / _GIB:.1f} GiB, "
        f"{have:.1f} GiB may still be used"
    )


def _make_room(state: PoolState, slot: Slot, actions: list[Action], now_s: float) -> Step | None:
    """Unload an idle expert, or wait for a busy one if somebody waits; None = there is no way."""
    budget = state.rules.budget_bytes
    if budget is not None and (slot.need_bytes or 0) > budget:
        return None
    waits = bool(state.waiting(slot.expert_id))
    if (victim := _victim(state, slot, waits=waits)) is not None:
        return _unload(state, victim, actions, now_s)
    return _drain(state, actions) if waits and _in_memory(state) else None


def _stand_aside(state: PoolState, slot: Slot, shortage: str | None, actions: list[Action]) -> Step:
    """Give a load up for now: those who wait for it are told."""
    if shortage is None:
        return state.put(replace(slot, woken=False)), actions
    error = ExpertOverloaded(slot.expert_id, shortage, 5.0)
    known = slot.error if slot.state == "failed" else error
    state = state.put(replace(slot, woken=False, error=known))
    return refuse_waiting(state, slot.expert_id, error, actions)


def _victim(state: PoolState, wanted: Slot, *, waits: bool) -> Slot | None:
    """Return the loaded expert that nobody uses and that is worth least, None if there is none.

    A restart that nobody waits for displaces nothing, unless a warm expert is to be there again.
    """
    if not (waits or wanted.woken or (wanted.warm and wanted.state == "failed")):
        return None
    idle = [s for s in _in_memory(state) if not s.holders and (waits or not s.warm)]
    return min(idle, key=_worth, default=None)


def _worth(slot: Slot) -> tuple[bool, float]:
    """Warm ones are worth most; else late use and high priority count."""
    return slot.warm, slot.used_s + slot.priority


def _drain(state: PoolState, actions: list[Action]) -> Step:
    """Let the busy expert that is worth least take no more requests, unless one does already."""
    if any(slot.state == "draining" for slot in state.slots):
        return state, actions
    least = min(_in_memory(state), key=_worth)
    state, more = enter(state, least, "draining", least.since_s)
    return state, [*actions, *more]


def _undrain(state: PoolState, actions: list[Action]) -> Step:
    """Let experts whose place is not needed any more go on."""
    for slot in state.slots:
        if slot.state == "draining":
            state, more = enter(state, slot, "ready", slot.since_s)
            state, actions = grant_waiting(state, slot.expert_id, [*actions, *more])
    return state, actions


def _unload(state: PoolState, slot: Slot, actions: list[Action], now_s: float) -> Step:
    assert not slot.holders
    state, more = enter(state, slot, "unloading", now_s)
    return state, [*actions, *more, Unload(slot.expert_id)]


def _is_idle_too_long(state: PoolState, slot: Slot, now_s: float) -> bool:
    limit_s = state.rules.auto_unload_after_s
    if limit_s is None or slot.warm or slot.holders or slot.state != "ready":
        return False
    return now_s - slot.used_s >= limit_s
