"""Loads experts on demand, one at a time, and unloads the ones nobody uses.

Performs what ``slot.py`` decides: starts, stops, restarts. Knows nothing of requests. One lock
serialises every load and unload, so at most one engine starts or stops at any time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

from .base import Expert
from .errors import ExpertError, ExpertOverloaded, ExpertUnavailable
from .memory import used_memory_share
from .registry import create_expert
from .slot import ExpertState, Slot, State, loaded, victim
from .spec import ExpertSpec

__all__ = ["ExpertState", "Pool"]

logger = logging.getLogger(__name__)


class Pool:
    """The experts of a configuration; use it as an async context manager.

    Args:
        specs: every expert, loaded or not; ids are unique.
        create: makes an expert from its spec.
        max_loaded: most local experts loaded at once; remote ones do not count.
        warm: ids started on entering, never unloaded for being idle; restarted when they fail.
        on_change: called with the new state at every transition; must not block or raise.
        memory_threshold: a load is refused while ``memory()`` is above this share.
        memory: used share of the memory, 0..1.
        auto_unload_after_s: idle time after which an expert that is not warm is unloaded.
        room_timeout_s: longest wait for a loaded expert to become idle when the pool is full.
        check_interval_s: how often health, idleness and retries are looked at.
    """

    def __init__(
        self,
        specs: Sequence[ExpertSpec],
        *,
        create: Callable[[ExpertSpec], Expert] = create_expert,
        max_loaded: int = 2,
        warm: Sequence[str] = (),
        on_change: Callable[[ExpertState], None] = lambda state: None,
        memory_threshold: float = 1.0,
        memory: Callable[[], float] = used_memory_share,
        auto_unload_after_s: float | None = None,
        room_timeout_s: float = 30.0,
        check_interval_s: float = 0.5,
    ) -> None:
        self._slots = {spec.expert_id: Slot(spec, spec.expert_id in warm) for spec in specs}
        if len(self._slots) != len(specs):
            raise ValueError("two experts have the same id")
        for expert_id in warm:
            self._slot(expert_id)
        if max_loaded < max(1, sum(slot.warm and slot.is_local for slot in self._slots.values())):
            raise ValueError(f"max_loaded={max_loaded} is less than the number of warm experts")
        self._create = create
        self._max_loaded = max_loaded
        self._on_change = on_change
        self._memory_threshold = memory_threshold
        self._memory = memory
        self._auto_unload_after_s = auto_unload_after_s
        self._room_timeout_s = room_timeout_s
        self._check_interval_s = check_interval_s
        self._one_at_a_time = asyncio.Lock()
        self._released = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._watch_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the warm experts, one after the other.

        Raises:
            ExpertError: not one of the warm experts could be started (the first one's error).
        """
        self._tasks = await asyncio.TaskGroup().__aenter__()
        try:
            warm = [slot for slot in self._slots.values() if slot.warm]
            errors = [await self._finished(self._start_load(slot)) for slot in warm]
            if errors and all(errors) and errors[0] is not None:
                raise errors[0]
            self._watch_task = self._tasks.create_task(self._watch(), name="pool-watch")
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Cancel loads in flight and stop every expert."""
        await self._close()

    @asynccontextmanager
    async def acquire(self, expert_id: str) -> AsyncIterator[Expert]:
        """Hold an expert, loading it first if need be; while held it is not unloaded.

        When an ExpertUnavailable of this expert leaves the block and its engine is dead, it is
        restarted in the background.

        Raises:
            KeyError: no such expert.
            ExpertUnavailable: it could not be loaded, or its next try is not due yet.
            ExpertOverloaded: no memory, or no room within ``room_timeout_s``.
        """
        slot = self._slot(expert_id)
        slot.users += 1
        try:
            expert = await self._ensure(slot)
            try:
                yield expert
            except ExpertUnavailable as error:
                if error.expert_id == expert_id and not (await expert.health()).ok:
                    self._crashed(slot, expert, error)
                raise
        finally:
            slot.users -= 1
            slot.last_used = _now()
            self._released.set()

    def wake(self, expert_id: str) -> None:
        """Begin loading, speculatively: returns at once and never unloads a busy or warm expert."""
        slot = self._slot(expert_id)
        if slot.may_load(_now()):
            self._start_load(slot)

    def ready(self, expert_id: str) -> Expert | None:
        """Return the expert if it is ready now, else None."""
        slot = self._slot(expert_id)
        return slot.expert if slot.state == "ready" else None

    def states(self) -> tuple[ExpertState, ...]:
        """Every expert's state, in the order of the specs."""
        return tuple(slot.view() for slot in self._slots.values())

    def _slot(self, expert_id: str) -> Slot:
        try:
            return self._slots[expert_id]
        except KeyError:
            raise KeyError(f"no expert {expert_id!r}") from None

    async def _ensure(self, slot: Slot) -> Expert:
        while True:
            if slot.state == "ready" and slot.expert is not None:
                return slot.expert
            if (refusal := slot.refusal(_now())) is not None:
                raise refusal
            if (error := await self._finished(self._start_load(slot))) is not None:
                raise error

    async def _finished(self, load: asyncio.Task[ExpertError | None]) -> ExpertError | None:
        await asyncio.wait({load})
        if load.cancelled():
            return ExpertUnavailable("pool", "the server is shutting down")
        return load.result()

    def _start_load(self, slot: Slot) -> asyncio.Task[ExpertError | None]:
        if self._tasks is None:
            raise ExpertUnavailable(slot.spec.expert_id, "the server is shutting down")
        if slot.load is None:
            slot.load = self._tasks.create_task(self._load(slot), name="pool-load")
        return slot.load

    async def _load(self, slot: Slot) -> ExpertError | None:
        """Bring the slot to ready; return why it failed, None if it is ready or stood aside."""
        try:
            async with self._one_at_a_time:
                if slot.state == "ready":
                    return None
                await self._stop_expert(slot)
                if not await self._make_room(slot):
                    self._set(slot, "unloaded")
                    return None
                self._set(slot, "loading")
                await self._start_expert(slot)
        except ExpertOverloaded as error:
            self._set(slot, "unloaded", error)
            return error
        except ExpertError as error:
            return self._failed(slot, error)
        except Exception as bug:  # it must not end the whole pool
            logger.exception("expert %s: unexpected error while loading", slot.spec.expert_id)
            cause = f"unexpected {type(bug).__name__} while loading"
            return self._failed(slot, ExpertUnavailable(slot.spec.expert_id, cause))
        finally:
            slot.load = None
        return None

    async def _start_expert(self, slot: Slot) -> None:
        if slot.is_local and self._memory() > self._memory_threshold:
            raise ExpertOverloaded(slot.spec.expert_id, "not enough free memory to load it", 5.0)
        slot.expert = self._create(slot.spec)
        try:
            await slot.expert.start()
        except BaseException:
            await self._stop_expert(slot)
            raise
        slot.became_ready(_now())
        self._set(slot, "ready")

    async def _stop_expert(self, slot: Slot) -> None:
        if slot.expert is not None:
            expert, slot.expert = slot.expert, None
            try:
                await expert.stop()
            except ExpertError as error:
                logger.warning("expert %s: stop: %s", slot.spec.expert_id, error.message)

    async def _make_room(self, slot: Slot) -> bool:
        """Unload idle experts until one more fits; False if a speculative load stands aside."""
        if not slot.is_local:
            return True
        deadline = _now() + self._room_timeout_s
        while len(others := loaded(self._slots.values())) >= self._max_loaded:
            is_wanted = slot.users > 0
            chosen = victim(others, may_be_warm=is_wanted)
            if chosen is not None:
                await self._unload(chosen)
            elif is_wanted:
                await self._wait_for_release(slot, deadline)
            else:
                return False
        return True

    async def _wait_for_release(self, slot: Slot, deadline: float) -> None:
        self._released.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._released.wait()
        except TimeoutError:
            message = f"all {self._max_loaded} loaded experts are busy"
            raise ExpertOverloaded(slot.spec.expert_id, message) from None

    async def _unload(self, slot: Slot) -> None:
        self._set(slot, "unloading")
        await self._stop_expert(slot)
        self._set(slot, "unloaded")

    def _failed(self, slot: Slot, error: ExpertError) -> ExpertError:
        slot.back_off(_now())
        self._set(slot, "failed", error)
        return error

    def _crashed(self, slot: Slot, expert: Expert, error: ExpertError) -> None:
        if slot.state != "ready" or slot.expert is not expert or self._tasks is None:
            return
        self._failed(slot, error)
        if slot.failures == 1:
            self._start_load(slot)

    def _set(self, slot: Slot, state: State, error: ExpertError | None = None) -> None:
        slot.state, slot.error = state, error
        self._on_change(slot.view())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._check_interval_s)
            for slot in self._slots.values():
                if slot.state == "ready":
                    await self._check(slot)
                elif slot.is_worth_a_restart(_now()):
                    self._start_load(slot)

    async def _check(self, slot: Slot) -> None:
        if (expert := slot.expert) is None:
            return
        health = await expert.health()
        slot.forgive(_now())
        if not health.ok:
            error = ExpertUnavailable(slot.spec.expert_id, health.detail or "the engine died")
            self._crashed(slot, expert, error)
        elif slot.is_idle_for(self._auto_unload_after_s, _now()):
            async with self._one_at_a_time:
                if slot.state == "ready" and slot.is_idle_for(self._auto_unload_after_s, _now()):
                    await self._unload(slot)

    async def _close(self) -> None:
        if (tasks := self._tasks) is None:
            return
        self._tasks = None
        for task in [self._watch_task, *(slot.load for slot in self._slots.values())]:
            if task is not None:
                task.cancel()
        try:
            await tasks.__aexit__(None, None, None)
        finally:
            for slot in self._slots.values():
                if slot.expert is not None:
                    await self._unload(slot)
                elif slot.state != "failed":
                    slot.state = "unloaded"


def _now() -> float:
    return asyncio.get_running_loop().time()
