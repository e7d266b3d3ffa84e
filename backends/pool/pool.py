"""Performs what the pool's rules decide: starts, stops, restarts, and lets requests in.

The only writer of the pool's state. Knows nothing of what requests do with an expert.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self

from msgspec.structs import replace

from ..base import Expert
from ..errors import ExpertError, ExpertOverloaded, ExpertUnavailable
from ..machine.memory import free_memory
from ..registry import create_expert
from ..spec import ExpertSpec
from . import decision, transitions
from .state import (
    Action,
    Admit,
    Discard,
    ExpertState,
    Load,
    Notify,
    PoolState,
    Refuse,
    Rules,
    Slot,
    Step,
    Ticket,
    Unload,
)
from .view import view, why_waiting

__all__ = ["ExpertState", "Pool"]

logger = logging.getLogger(__name__)


class Pool:
    """The experts of a configuration; use it as an async context manager.

    Args:
        specs: every expert, loaded or not; ids are unique.
        create: makes an expert from its spec.
        max_loaded: most local experts loaded at once; remote ones do not count.
        warm: ids started on entering, never unloaded for being idle; restarted when they fail.
        on_change: called with the state at every transition and while an expert loads; must not
            block or raise.
        needs: memory that an expert takes when loaded, bytes by id; missing = not known.
        capacity: memory of the machine, bytes; None = not known.
        memory_threshold: share of the memory that may be used.
        free_memory: bytes that may still be taken if that share may be used; None = not known.
        auto_unload_after_s: idle time after which an expert that is not warm is unloaded.
        max_queued: most requests that wait for experts.
        queue_timeout_s: longest wait of one of them.
        check_interval_s: how often health, idleness, retries and progress are looked at.
    """

    def __init__(
        self,
        specs: Sequence[ExpertSpec],
        *,
        create: Callable[[ExpertSpec], Expert] = create_expert,
        max_loaded: int = 2,
        warm: Sequence[str] = (),
        on_change: Callable[[ExpertState], None] = lambda state: None,
        needs: Mapping[str, int] | None = None,
        capacity: int | None = None,
        memory_threshold: float = 1.0,
        free_memory: Callable[[float], int | None] = free_memory,
        auto_unload_after_s: float | None = None,
        max_queued: int = 64,
        queue_timeout_s: float = 120.0,
        check_interval_s: float = 0.5,
    ) -> None:
        self._specs = {spec.expert_id: spec for spec in specs}
        if len(self._specs) != len(specs):
            raise ValueError("two experts have the same id")
        budget = None if capacity is None else int(capacity * memory_threshold)
        rules = Rules(max_loaded, max_queued, queue_timeout_s, auto_unload_after_s, budget)
        slots = tuple(_slot(spec, warm, needs or {}) for spec in specs)
        self._state = PoolState(rules, slots)
        self._warm = tuple(warm)
        for expert_id in warm:
            self._state.slot(expert_id)
        if max_loaded < max(1, sum(slot.warm and slot.is_local for slot in slots)):
            raise ValueError(f"max_loaded={max_loaded} is less than the number of warm experts")
        self._create = create
        self._on_change = on_change
        self._memory_threshold = memory_threshold
        self._free_memory = free_memory
        self._check_interval_s = check_interval_s
        self._experts: dict[str, Expert] = {}
        self._waiting: dict[int, asyncio.Future[Expert]] = {}
        self._last_ticket = 0
        self._stepped = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._cancellable: set[asyncio.Task[None]] = set()
        self._looked_at: set[Expert] = set()
        self._gone: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Start the warm experts, one after the other.

        Raises:
            ExpertError: not one of the warm experts could be started (the first one's error).
        """
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._state = replace(self._state, closed=False)
        try:
            self._spawn(self._watch(), "pool-watch", cancellable=True)
            errors = [await self._started(expert_id) for expert_id in self._warm]
            if errors and all(errors) and errors[0] is not None:
                raise errors[0]
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Cancel loads in flight and stop every expert."""
        await self._close()

    def acquire(self, expert_id: str) -> AbstractAsyncContextManager[Expert]:
        """Hold an expert, loading it first if need be; while held it is not unloaded.

        When an ExpertUnavailable of this expert leaves the block and its engine is dead, it is
        restarted in the background.

        Raises:
            KeyError: no such expert.
            ExpertUnavailable: it could not be loaded, or its next try is not due yet.
            ExpertOverloaded: no memory, too many requests wait, or this one did so for
                ``queue_timeout_s``.
        """
        self._last_ticket += 1
        return _Hold(self, Ticket(self._last_ticket, expert_id))

    def wake(self, expert_id: str) -> None:
        """Begin loading, speculatively: returns at once and never unloads a busy or warm expert."""
        self._apply(transitions.on_wake(self._state, expert_id, _now()))

    def ready(self, expert_id: str) -> Expert | None:
        """Return the expert if a request would get it now, else None."""
        slot = self._state.slot(expert_id)
        return self._experts[expert_id] if slot.state == "ready" else None

    def loaded(self) -> frozenset[str]:
        """Return the ids of the experts that a request would get now."""
        slots = self._state.slots
        return frozenset(slot.expert_id for slot in slots if slot.state == "ready")

    def states(self) -> tuple[ExpertState, ...]:
        """Every expert's state, in the order of the specs."""
        return tuple(view(self._state, slot, _now()) for slot in self._state.slots)

    # ---- requests

    async def admitted(self, ticket: Ticket) -> Expert:
        """Return the expert when the request may use it; ``left`` must follow. See ``acquire``."""
        step = transitions.on_acquire(self._state, ticket, _now())
        if step[1] == [Admit(ticket)]:  # one more holder of a loaded expert: nothing else is due
            self._state = step[0]
            return self._experts[ticket.expert_id]
        admission: asyncio.Future[Expert] = asyncio.get_running_loop().create_future()
        self._waiting[ticket.number] = admission
        self._apply(step)
        if admission.done():
            return admission.result()
        limit_s = self._state.rules.queue_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await admission
        except TimeoutError:
            why = why_waiting(self._state, ticket)
            message = f"no place for {limit_s:g} s: {why}"
            raise ExpertOverloaded(ticket.expert_id, message) from None
        finally:
            if admission.done() and not admission.cancelled():
                admission.exception()  # a request that was cancelled has no use for it

    def left(self, ticket: Ticket) -> None:
        """The request uses its expert no longer, or waits for it no longer."""
        self._waiting.pop(ticket.number, None)
        self._apply(transitions.on_leave(self._state, ticket.number, _now()))

    async def failed(self, expert: Expert, error: ExpertUnavailable) -> None:
        """A request failed: restart its expert if that is dead."""
        if error.expert_id == expert.expert_id and not (await expert.health()).ok:
            self._crashed(expert.expert_id, expert, error)

    async def _started(self, expert_id: str) -> ExpertError | None:
        """Load a warm expert; return why it failed, None if it did not."""
        self.wake(expert_id)
        while (slot := self._state.slot(expert_id)).woken or slot.state == "loading":
            self._stepped.clear()
            await self._stepped.wait()
        return None if slot.state == "ready" else slot.error

    # ---- deciding and performing

    def _apply(self, step: Step) -> None:
        """Take over a step, then begin whatever is due after it."""
        self._perform(step)
        free = self._free_memory(self._memory_threshold) if self._needs_memory() else None
        self._perform(decision.decide(self._state, _now(), free))
        self._stepped.set()

    def _needs_memory(self) -> bool:
        return any(decision.is_wanted(self._state, slot, _now()) for slot in self._state.slots)

    def _perform(self, step: Step) -> None:
        self._state, actions = step
        for action in actions:
            self._perform_one(action)

    def _perform_one(self, action: Action) -> None:
        match action:
            case Load(expert_id):
                self._spawn(self._load(expert_id), f"load-{expert_id}", cancellable=True)
            case Unload(expert_id):
                self._spawn(self._unload(expert_id), f"unload-{expert_id}")
            case Discard(expert_id):
                dead = self._experts.pop(expert_id)
                self._spawn(self._stop(dead), f"discard-{expert_id}")
            case Admit(ticket):
                if not (admission := self._waiting[ticket.number]).done():
                    admission.set_result(self._experts[ticket.expert_id])
            case Refuse(number, error):
                if not (admission := self._waiting[number]).done():
                    admission.set_exception(error)
            case Notify(expert_id):
                self._tell(view(self._state, self._state.slot(expert_id), _now()))

    def _tell(self, state: ExpertState) -> None:
        """Tell whoever asked of a change, and the operator when an expert goes or comes back."""
        name = state.expert_id
        if state.state == "failed" and name not in self._gone:
            self._gone.add(name)
            logger.warning("expert %s is gone: %s", name, state.detail)
        elif state.state == "ready" and name in self._gone:
            self._gone.discard(name)
            logger.warning("expert %s is back", name)
        self._on_change(state)

    def _spawn(
        self, run: Coroutine[None, None, None], name: str, *, cancellable: bool = False
    ) -> None:
        assert self._tasks is not None, "a closed pool begins nothing"
        task = self._tasks.create_task(run, name=name)
        if cancellable:
            self._cancellable.add(task)
            task.add_done_callback(self._cancellable.discard)

    async def _load(self, expert_id: str) -> None:
        try:
            expert = await self._start(self._specs[expert_id])
        except ExpertError as error:
            self._apply(transitions.on_failed(self._state, expert_id, error, _now()))
        except Exception as bug:  # it must not end the whole pool
            logger.exception("expert %s: unexpected error while loading", expert_id)
            cause = f"unexpected {type(bug).__name__} while loading"
            failure = ExpertUnavailable(expert_id, cause)
            self._apply(transitions.on_failed(self._state, expert_id, failure, _now()))
        else:
            self._experts[expert_id] = expert
            self._apply(transitions.on_loaded(self._state, expert_id, _now()))

    async def _start(self, spec: ExpertSpec) -> Expert:
        expert = self._create(spec)
        try:
            async with self._alone(spec):
                await expert.start()
        except BaseException:
            await self._stop(expert)
            raise
        return expert

    async def _unload(self, expert_id: str) -> None:
        await self._stop(self._experts.pop(expert_id))
        self._apply(transitions.on_unloaded(self._state, expert_id, _now()))

    async def _stop(self, expert: Expert) -> None:
        try:
            async with self._alone(self._specs[expert.expert_id]):
                await expert.stop()
        except ExpertError as error:
            logger.warning("expert %s: stop: %s", expert.expert_id, error.message)
        except Exception:  # it must not end the whole pool
            logger.exception("expert %s: unexpected error while stopping", expert.expert_id)

    @asynccontextmanager
    async def _alone(self, spec: ExpertSpec) -> AsyncIterator[None]:
        """Start or stop no other engine of this machine inside the block."""
        if spec.kind == "remote":
            yield
            return
        async with self._one_at_a_time:
            yield

    # ---- watching

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._check_interval_s)
            for expert in set(self._experts.values()) - self._looked_at:
                name = f"health-{expert.expert_id}"
                self._spawn(self._look_at(expert), name, cancellable=True)
            self._apply(transitions.on_tick(self._state, _now()))

    async def _look_at(self, expert: Expert) -> None:
        """Notice whether an expert died."""
        name = expert.expert_id
        self._looked_at.add(expert)
        try:
            health = await expert.health()
        except Exception:  # it must not end the whole pool
            logger.exception("expert %s: unexpected error while looking at its health", name)
            return
        finally:
            self._looked_at.discard(expert)
        if not health.ok:
            cause = health.detail or "the engine died"
            shown = "its server cannot be reached" if self._specs[name].kind == "remote" else cause
            self._crashed(name, expert, ExpertUnavailable(name, cause, shown=shown))

    def _crashed(self, expert_id: str, expert: Expert, error: ExpertError) -> None:
        if self._experts.get(expert_id) is expert:
            self._apply(transitions.on_crashed(self._state, expert_id, error, _now()))

    async def _close(self) -> None:
        if (tasks := self._tasks) is None:
            return
        self._perform(transitions.on_close(self._state))
        for task in self._cancellable:
            task.cancel()
        try:
            await tasks.__aexit__(None, None, None)
        finally:
            self._tasks = None
            for expert in self._experts.values():
                await self._stop(expert)
            self._experts.clear()
            self._perform(transitions.on_stopped(self._state, _now()))


class _Hold(AbstractAsyncContextManager[Expert]):
    """A request's hold on an expert; see ``Pool.acquire``."""

    __slots__ = ("_expert", "_pool", "_ticket")

    def __init__(self, pool: Pool, ticket: Ticket) -> None:
        self._pool = pool
        self._ticket = ticket

    async def __aenter__(self) -> Expert:
        try:
            self._expert = await self._pool.admitted(self._ticket)
        except BaseException:
            self._pool.left(self._ticket)
            raise
        return self._expert

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if isinstance(error, ExpertUnavailable):
                await self._pool.failed(self._expert, error)
        finally:
            self._pool.left(self._ticket)


def _slot(spec: ExpertSpec, warm: Sequence[str], needs: Mapping[str, int]) -> Slot:
    name = spec.expert_id
    return Slot(name, spec.kind != "remote", name in warm, spec.priority, needs.get(name))


def _now() -> float:
    return asyncio.get_running_loop().time()
