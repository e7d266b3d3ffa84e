"""The pool's rules under random events: a pure world without engines, loops or clocks."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from livemind.backends.errors import ExpertUnavailable
from livemind.backends.pool import decision, transitions
from livemind.backends.pool.state import (
    STATES,
    Action,
    Admit,
    Discard,
    Load,
    PoolState,
    Refuse,
    Rules,
    Slot,
    State,
    Step,
    Ticket,
    Unload,
)
from livemind.backends.pool.view import view

GIB = 2**30
LOCAL = "abcd"
IN_MEMORY = ("loading", "ready", "draining", "unloading")
MAY_FOLLOW: dict[State, set[State]] = {
    "unloaded": {"loading"},
    "loading": {"ready", "failed", "unloaded"},
    "ready": {"draining", "unloading", "failed", "unloaded"},
    "draining": {"ready", "unloading", "failed", "unloaded"},
    "unloading": {"unloaded"},
    "failed": {"loading"},
}


def pool(**rules: object) -> PoolState:
    """Two warm-or-not experts of 1 GiB, two of 2 GiB, and a remote one."""
    slots = [Slot(name, warm=name == "a", need_bytes=(1 + (name > "b")) * GIB) for name in LOCAL]
    remote = Slot("R", is_local=False)
    return PoolState(Rules(**rules), (*slots, remote), closed=False)  # type: ignore[arg-type]


@dataclass
class World:
    """Performs the rules' actions on paper and checks what must always hold."""

    state: PoolState
    now_s: float = 0.0
    free_bytes: int | None = None
    tickets: int = 0
    waiting: set[int] = field(default_factory=set)
    holding: dict[int, str] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    pending: dict[str, str] = field(default_factory=dict)

    def apply(self, step: Step) -> None:
        self._take(step)
        before = self.state
        self._take(decision.decide(self.state, self.now_s, self.free_bytes))
        assert self.state.closed == before.closed
        self._check()

    def _take(self, step: Step) -> None:
        before = self.state
        self.state, actions = step
        for old, new in zip(before.slots, self.state.slots, strict=True):
            assert new.state == old.state or new.state in MAY_FOLLOW[old.state], (old, new)
        for action in actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case Load(expert_id):
                assert expert_id not in self.pending
                self.pending[expert_id] = "load"
            case Unload(expert_id):
                assert not self.state.slot(expert_id).holders, "a busy expert is unloaded"
                assert expert_id not in self.holding.values()
                self.pending[expert_id] = "unload"
            case Admit(ticket):
                self.waiting.remove(ticket.number)
                self.holding[ticket.number] = ticket.expert_id
            case Refuse(number):
                self.waiting.remove(number)
                self.ended.add(number)
            case Discard(expert_id):
                assert self.state.slot(expert_id).state == "failed"

    def _check(self) -> None:
        slots, rules = self.state.slots, self.state.rules
        local = [slot for slot in slots if slot.is_local and slot.state in IN_MEMORY]
        assert len(local) <= rules.max_loaded
        assert sum(slot.state in ("loading", "unloading") for slot in local) <= 1
        taken = sum(slot.need_bytes or 0 for slot in local)
        assert rules.budget_bytes is None or taken <= rules.budget_bytes
        assert len(self.state.queue) <= rules.max_queued
        assert {ticket.number for ticket in self.state.queue} == self.waiting
        assert sum(slot.state == "draining" for slot in slots) <= 1
        for slot in slots:
            assert slot.state in STATES
            assert not (slot.state == "ready" and self.state.waiting(slot.expert_id))
            shown = view(self.state, slot, self.now_s)
            assert shown.progress is None or 0 <= shown.progress <= 1

    # ---- what may happen

    def acquire(self, expert_id: str) -> None:
        self.tickets += 1
        ticket = Ticket(self.tickets, expert_id)
        self.waiting.add(ticket.number)
        self.apply(transitions.on_acquire(self.state, ticket, self.now_s))

    def leave(self, number: int) -> None:
        open_tickets = sorted({*self.waiting, *self.holding})
        if not open_tickets:
            return
        ticket = open_tickets[number % len(open_tickets)]
        self.waiting.discard(ticket)
        self.holding.pop(ticket, None)
        self.ended.add(ticket)
        self.apply(transitions.on_leave(self.state, ticket, self.now_s))

    def finish(self, expert_id: str, *, ok: bool) -> None:
        done = self.pending.pop(expert_id, None)
        if done == "unload":
            self.apply(transitions.on_unloaded(self.state, expert_id, self.now_s))
        elif done == "load" and ok:
            self.apply(transitions.on_loaded(self.state, expert_id, self.now_s))
        elif done == "load":
            error = ExpertUnavailable(expert_id, "no weights")
            self.apply(transitions.on_failed(self.state, expert_id, error, self.now_s))

    def crash(self, expert_id: str) -> None:
        error = ExpertUnavailable(expert_id, "killed")
        self.apply(transitions.on_crashed(self.state, expert_id, error, self.now_s))

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.apply(transitions.on_tick(self.state, self.now_s))


names = st.sampled_from([*LOCAL, "R"])
events = st.one_of(
    st.tuples(st.just("acquire"), names),
    st.tuples(st.just("acquire"), names),
    st.tuples(st.just("leave"), st.integers(0, 20)),
    st.tuples(st.just("wake"), names),
    st.tuples(st.just("loaded"), names),
    st.tuples(st.just("failed"), names),
    st.tuples(st.just("crash"), names),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 30.0, 90.0])),
    st.tuples(st.just("memory"), st.sampled_from([None, 0, GIB, 3 * GIB])),
)


def happen(world: World, what: str, value: object) -> None:
    match what, value:
        case "acquire", str(name):
            world.acquire(name)
        case "leave", int(number):
            world.leave(number)
        case "wake", str(name):
            world.apply(transitions.on_wake(world.state, name, world.now_s))
        case "loaded", str(name):
            world.finish(name, ok=True)
        case "failed", str(name):
            world.finish(name, ok=False)
        case "crash", str(name):
            world.crash(name)
        case "wait", float(seconds):
            world.wait(seconds)
        case "memory", _:
            world.free_bytes = value  # type: ignore[assignment]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(events, max_size=60),
    st.integers(1, 3),
    st.sampled_from([None, 3 * GIB]),
    st.sampled_from([None, 20.0]),
)
def test_pool_rules_hold_and_every_request_ends(
    script: list[tuple[str, object]], max_loaded: int, budget: int | None, idle_s: float | None
) -> None:
    """I1 and I5 for the pool: whatever happens, and then everybody who waits gets an answer."""
    world = World(
        pool(max_loaded=max_loaded, max_queued=5, budget_bytes=budget, auto_unload_after_s=idle_s)
    )
    for what, value in script:
        happen(world, what, value)
    world.free_bytes = None
    for _ in range(60):
        while world.holding:
            world.leave(
                next(
                    n
                    for n, t in enumerate(sorted({*world.waiting, *world.holding}))
                    if t in world.holding
                )
            )
        for name in tuple(world.pending):
            world.finish(name, ok=True)
        world.wait(1.0)
    assert not world.waiting
    assert world.ended == set(range(1, world.tickets + 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(events, max_size=40))
def test_pool_closed_in_any_state_refuses_all_and_begins_nothing(
    script: list[tuple[str, object]],
) -> None:
    world = World(pool(max_loaded=2, max_queued=5))
    for what, value in script:
        happen(world, what, value)
    world.apply(transitions.on_close(world.state))
    assert not world.waiting
    before = dict(world.pending)
    world.acquire("d")
    world.wait(90.0)
    assert not world.waiting
    assert world.pending == before
    world._take(transitions.on_stopped(world.state, world.now_s))
    assert {slot.state for slot in world.state.slots} <= {"unloaded", "failed"}


def loaded(state: PoolState, **used_s: float) -> PoolState:
    for name, when in used_s.items():
        slot = replace(state.slot(name), state="ready", used_s=when, was_ready=True)
        state = state.put(slot)
    return state


@pytest.mark.parametrize(
    ("used", "priority", "leaves"),
    [
        ({"b": 10.0, "c": 20.0}, {}, "b"),
        ({"b": 10.0, "c": 20.0}, {"b": 11}, "c"),
        ({"a": 10.0, "c": 20.0}, {}, "c"),
    ],
    ids=["least-recent", "least-valuable", "warm-last"],
)
def test_pool_full_gives_up_the_least_recent_and_least_valuable(
    used: dict[str, float], priority: dict[str, int], leaves: str
) -> None:
    state = loaded(pool(max_loaded=2), **used)
    for name, value in priority.items():
        state = state.put(replace(state.slot(name), priority=value))
    state, _ = transitions.on_acquire(state, Ticket(1, "d"), 30.0)
    _, actions = decision.decide(state, 30.0, None)
    assert [action for action in actions if isinstance(action, Unload)] == [Unload(leaves)]


def test_pool_expert_that_can_never_fit_displaces_nobody() -> None:
    state = loaded(pool(max_loaded=3, budget_bytes=GIB), b=1.0)
    state, _ = transitions.on_acquire(state, Ticket(1, "d"), 2.0)
    state, actions = decision.decide(state, 2.0, None)
    [refusal] = [action for action in actions if isinstance(action, Refuse)]
    assert "takes about 2.0 GiB" in refusal.error.message
    assert state.slot("b").state == "ready"


def test_pool_first_load_is_judged_by_its_size_a_later_one_by_the_last() -> None:
    world = World(pool())
    world.acquire("a")
    world.wait(3.0)
    assert view(world.state, world.state.slot("a"), 3.0).progress == pytest.approx(
        3.0 / (5.0 + GIB / 1e9)
    )
    world.finish("a", ok=True)
    world.acquire("c")
    shown = view(world.state, world.state.slot("c"), 4.5)
    assert (shown.progress, shown.remaining_s) == (0.5, 1.5)
