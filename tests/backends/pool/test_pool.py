"""The pool on fake experts and a virtual clock: loads, sharing, eviction, back-off, crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from livemind.backends.base import GenerationParams, Health, Message, Priority
from livemind.backends.errors import ExpertOverloaded, ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.backends.pool.pool import ExpertState, Pool
from livemind.backends.spec import ExpertSpec

GIB = 2**30

VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]


class Factory:
    """Creates fakes and keeps the newest of each id; ``prepare`` sets switches before the start."""

    def __init__(self, start_s: float = 10.0) -> None:
        self.start_s = start_s
        self.made: dict[str, list[FakeExpert]] = {}
        self.prepare: Callable[[FakeExpert], None] = lambda expert: None
        self.starting = 0
        self.changes: list[tuple[str, str]] = []

    def __call__(self, spec: ExpertSpec) -> FakeExpert:
        expert = FakeExpert(spec.expert_id, start_s=self.start_s)
        self.made.setdefault(spec.expert_id, []).append(expert)
        self.prepare(expert)
        return expert

    def on_change(self, state: ExpertState) -> None:
        self.changes.append((state.expert_id, state.state))
        local = [s for name, s in self._latest().items() if name.islower()]
        loading = [s for s in local if s in ("loading", "unloading")]
        assert len(loading) <= 1, "two engines start or stop at the same time"

    def _latest(self) -> dict[str, str]:
        return dict(self.changes)

    def pool(self, ids: str = "abc", **settings: Any) -> Pool:
        specs = [ExpertSpec(i, kind="remote" if i.isupper() else "vllm") for i in ids]
        settings = {"free_memory": lambda share: None, "on_change": self.on_change, **settings}
        return Pool(specs, create=self, **settings)


def now() -> float:
    return asyncio.get_running_loop().time()


def states(pool: Pool) -> dict[str, str]:
    return {state.expert_id: state.state for state in pool.states()}


async def hold(pool: Pool, expert_id: str, seconds: float) -> float:
    async with pool.acquire(expert_id):
        got = now()
        await asyncio.sleep(seconds)
    return got


def test_pool_entered_starts_warm_experts_one_at_a_time(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(warm=("a", "b")) as pool:
            assert now() == 20.0
            assert states(pool) == {"a": "ready", "b": "ready", "c": "unloaded"}
        assert states(pool) == {"a": "unloaded", "b": "unloaded", "c": "unloaded"}

    virtual_run(main())
    assert [expert.stops for experts in factory.made.values() for expert in experts] == [1, 1]


def test_pool_acquired_twice_shares_one_load(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool() as pool, asyncio.TaskGroup() as group:
            first = group.create_task(hold(pool, "a", 1))
            second = group.create_task(hold(pool, "a", 1))
        assert (first.result(), second.result()) == (10.0, 10.0)

    virtual_run(main())
    assert len(factory.made["a"]) == 1


def test_pool_two_experts_wanted_loads_them_one_after_the_other(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool() as pool, asyncio.TaskGroup() as group:
            tasks = [group.create_task(hold(pool, i, 1)) for i in "ab"]
        assert [task.result() for task in tasks] == [10.0, 20.0]

    virtual_run(main())


def test_pool_load_fails_every_waiter_is_told_and_the_next_try_waits(
    virtual_run: VirtualRun,
) -> None:
    factory = Factory()

    def broken(expert: FakeExpert) -> None:
        expert.start_error = ExpertUnavailable(expert.expert_id, "no weights")

    factory.prepare = broken

    async def main() -> None:
        async with factory.pool() as pool:
            results = await asyncio.gather(
                hold(pool, "a", 0), hold(pool, "a", 0), return_exceptions=True
            )
            assert [str(error) for error in results] == ["no weights", "no weights"]
            assert states(pool)["a"] == "failed"
            with pytest.raises(ExpertUnavailable, match=r"no weights \(next try in 1 s\)"):
                await hold(pool, "a", 0)
            await asyncio.sleep(1.0)
            with pytest.raises(ExpertUnavailable, match=r"^no weights$"):
                await hold(pool, "a", 0)
            with pytest.raises(ExpertUnavailable, match="next try in 2 s"):
                await hold(pool, "a", 0)
            await asyncio.sleep(2.0)
            factory.prepare = lambda expert: None
            await hold(pool, "a", 0)

    virtual_run(main())
    assert [expert.stops for expert in factory.made["a"]] == [1, 1, 1]


def test_pool_first_warm_expert_fails_the_others_still_start(virtual_run: VirtualRun) -> None:
    factory = Factory()

    def first_is_broken(expert: FakeExpert) -> None:
        if expert.expert_id == "a":
            expert.start_error = ExpertUnavailable("a", "no weights")

    factory.prepare = first_is_broken

    async def main() -> None:
        async with factory.pool(warm=("a", "b")) as pool:
            assert states(pool) == {"a": "loading", "b": "ready", "c": "unloaded"}
            assert pool.states()[0].counts.failed_loads == 1
            factory.made["a"][-1].start_error = None
            await asyncio.sleep(10)
            assert states(pool)["a"] == "ready"

    virtual_run(main())


def test_pool_every_warm_expert_fails_entering_raises_the_cause(virtual_run: VirtualRun) -> None:
    factory = Factory()

    def broken(expert: FakeExpert) -> None:
        expert.start_error = ExpertUnavailable(expert.expert_id, "no weights")

    factory.prepare = broken

    async def main() -> None:
        with pytest.raises(ExpertUnavailable, match="no weights"):
            await factory.pool(warm=("a",)).__aenter__()

    virtual_run(main())


def test_pool_full_unloads_the_idle_expert_used_longest_ago(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(max_loaded=2) as pool:
            for expert_id in "aba":
                await hold(pool, expert_id, 1)
            await hold(pool, "c", 1)
            assert states(pool) == {"a": "ready", "b": "unloaded", "c": "ready"}

    virtual_run(main())
    assert factory.made["b"][0].stops == 1


def test_pool_full_unloads_a_warm_expert_only_when_nothing_else_is_idle(
    virtual_run: VirtualRun,
) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(max_loaded=2, warm=("a",)) as pool:
            await hold(pool, "b", 1)
            await hold(pool, "c", 1)
            assert states(pool) == {"a": "ready", "b": "unloaded", "c": "ready"}
            async with pool.acquire("c"):
                await hold(pool, "b", 1)
            assert states(pool) == {"a": "unloaded", "b": "ready", "c": "ready"}

    virtual_run(main())


def test_pool_full_of_busy_experts_waits_for_a_release(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(max_loaded=1) as pool, asyncio.TaskGroup() as group:
            busy = group.create_task(hold(pool, "a", 15))
            await asyncio.sleep(11)
            waiting = group.create_task(hold(pool, "b", 0))
        assert (busy.result(), waiting.result()) == (10.0, 35.0)

    virtual_run(main())


def test_pool_full_of_busy_experts_too_long_refuses(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(max_loaded=1, queue_timeout_s=15) as pool, pool.acquire("a"):
            with pytest.raises(ExpertOverloaded, match="15 s: all 1 loaded experts are busy"):
                await hold(pool, "b", 0)
            assert now() == 25.0
            assert states(pool) == {"a": "ready", "b": "unloaded", "c": "unloaded"}

    virtual_run(main())


def test_pool_woken_expert_loads_in_the_background(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool() as pool:
            pool.wake("a")
            pool.wake("a")
            assert pool.ready("a") is None
            await asyncio.sleep(4)
            assert await hold(pool, "a", 0) == 10.0
            assert pool.ready("a") is factory.made["a"][0]

    virtual_run(main())
    assert len(factory.made["a"]) == 1


@pytest.mark.parametrize("warm", [("a",), ()])
def test_pool_woken_expert_never_unloads_busy_or_warm_ones(
    virtual_run: VirtualRun, warm: tuple[str, ...]
) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(max_loaded=1, warm=warm) as pool:
            async with pool.acquire("a"):
                if warm:
                    await asyncio.sleep(0)
                pool.wake("b")
                await asyncio.sleep(20)
                assert states(pool)["b"] == "unloaded"
            pool.wake("b")
            await asyncio.sleep(20)
            assert states(pool)["b"] == ("unloaded" if warm else "ready")

    virtual_run(main())


def test_pool_idle_expert_is_unloaded_after_the_limit_but_not_warm_or_busy_ones(
    virtual_run: VirtualRun,
) -> None:
    factory = Factory(start_s=0)

    async def main() -> None:
        async with factory.pool(max_loaded=3, warm=("a",), auto_unload_after_s=60) as pool:
            await hold(pool, "b", 0)
            async with pool.acquire("c"):
                await asyncio.sleep(59)
                assert states(pool)["b"] == "ready"
                await asyncio.sleep(2)
                assert states(pool) == {"a": "ready", "b": "unloaded", "c": "ready"}

    virtual_run(main())


def test_pool_engine_dies_in_use_restarts_it_and_the_next_use_works(
    virtual_run: VirtualRun,
) -> None:
    factory = Factory()

    async def answer(pool: Pool) -> str:
        async with pool.acquire("a") as expert:
            prompt = expert.render([Message("user", "one two three")], open_turn=False)
            chunks = expert.generate(
                prompt, GenerationParams(), priority=Priority.FOREGROUND, request_id="r"
            )
            return "".join([chunk.text async for chunk in chunks])

    async def main() -> None:
        async with factory.pool(warm=("a",)) as pool:
            factory.made["a"][0].crash_after_tokens = 1
            with pytest.raises(ExpertUnavailable):
                await answer(pool)
            assert (states(pool)["a"], pool.states()[0].counts.crashes) == ("loading", 1)
            assert await answer(pool) == "ONE TWO THREE"
            assert now() == 20.0

    virtual_run(main())
    assert factory.made["a"][0].stops == 1


def test_pool_another_experts_failure_in_the_block_does_not_restart_it(
    virtual_run: VirtualRun,
) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(warm=("a",)) as pool:
            with pytest.raises(ExpertUnavailable):
                async with pool.acquire("a"):
                    raise ExpertUnavailable("b", "down")
            assert states(pool)["a"] == "ready"

    virtual_run(main())


def test_pool_idle_engine_dies_health_check_restarts_it(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(warm=("a",)) as pool:
            factory.made["a"][0].crash()
            await asyncio.sleep(1)
            assert states(pool)["a"] == "loading"
            await asyncio.sleep(10)
            assert states(pool)["a"] == "ready"

    virtual_run(main())


def test_pool_engine_keeps_dying_restarts_back_off(virtual_run: VirtualRun) -> None:
    factory = Factory(start_s=0)

    async def main() -> None:
        async with factory.pool(warm=("a",)):
            for _ in range(200):
                factory.made["a"][-1].crash()
                await asyncio.sleep(0.5)

    virtual_run(main())
    assert len(factory.made["a"]) <= 9


def test_pool_short_of_memory_refuses_the_load_and_remembers_nothing(
    virtual_run: VirtualRun,
) -> None:
    factory, free = Factory(), [GIB]

    async def main() -> None:
        pool = factory.pool(needs={"a": 2 * GIB}, free_memory=lambda share: free[0])
        async with pool:
            with pytest.raises(ExpertOverloaded, match=r"takes about 2\.0 GiB, 1\.0 GiB may still"):
                await hold(pool, "a", 0)
            free[0] = 2 * GIB
            await hold(pool, "a", 0)

    virtual_run(main())


def test_pool_short_of_memory_unloads_an_idle_expert_first(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        pool = factory.pool(needs=dict.fromkeys("abc", 2 * GIB), capacity=5 * GIB, max_loaded=3)
        async with pool:
            for expert_id in "abc":
                await hold(pool, expert_id, 1)
            assert states(pool) == {"a": "unloaded", "b": "ready", "c": "ready"}

    virtual_run(main())


def test_pool_waits_longer_than_the_load_takes_the_progress_is_told(
    virtual_run: VirtualRun,
) -> None:
    factory, told = Factory(start_s=10), list[float]()

    def on_change(state: ExpertState) -> None:
        if state.state == "loading" and state.progress is not None:
            told.append(round(state.progress, 2))

    async def main() -> None:
        async with factory.pool(on_change=on_change, max_loaded=1) as pool:
            await hold(pool, "a", 1)
            await hold(pool, "b", 1)
            told.clear()
            await hold(pool, "a", 1)

    virtual_run(main())
    assert told[:4] == [0.0, 0.05, 0.1, 0.15]
    assert len(told) in (20, 21)


def test_pool_queue_full_refuses_and_names_the_limit(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool(max_queued=2) as pool, asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(hold(pool, "a", 0))
            await asyncio.sleep(1)
            with pytest.raises(ExpertOverloaded, match="2 requests wait") as refused:
                await hold(pool, "a", 0)
            assert refused.value.retry_after_s > 1

    virtual_run(main())


def test_pool_busy_expert_whose_place_is_needed_drains_and_keeps_its_requests(
    virtual_run: VirtualRun,
) -> None:
    """Without draining the requests that keep arriving for ``a`` would starve ``b``."""
    factory = Factory(start_s=1)

    async def main() -> None:
        async with factory.pool(max_loaded=1) as pool, asyncio.TaskGroup() as group:
            first = group.create_task(hold(pool, "a", 10))
            await asyncio.sleep(5)
            other = group.create_task(hold(pool, "b", 2))
            await asyncio.sleep(1)
            assert states(pool) == {"a": "draining", "b": "unloaded", "c": "unloaded"}
            late = group.create_task(hold(pool, "a", 1))
        assert [first.result(), other.result(), late.result()] == [1.0, 12.0, 15.0]

    virtual_run(main())


def test_pool_drained_for_nobody_any_more_goes_on(virtual_run: VirtualRun) -> None:
    factory = Factory(start_s=1)

    async def main() -> None:
        async with factory.pool(max_loaded=1) as pool, asyncio.TaskGroup() as group:
            group.create_task(hold(pool, "a", 10))
            await asyncio.sleep(5)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hold(pool, "b", 2), 1)
            assert await hold(pool, "a", 0) == 6.0

    virtual_run(main())


def test_pool_remote_experts_need_no_room_and_no_memory(virtual_run: VirtualRun) -> None:
    factory = Factory(start_s=0)

    async def main() -> None:
        pool = factory.pool("aBC", max_loaded=1, needs={"B": GIB}, free_memory=lambda share: 0)
        async with pool, pool.acquire("B"), pool.acquire("C"):
            assert states(pool) == {"a": "unloaded", "B": "ready", "C": "ready"}

    virtual_run(main())


def test_pool_closed_while_loading_stops_the_engine_and_tells_the_waiter(
    virtual_run: VirtualRun,
) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool() as pool:
            waiter = asyncio.create_task(hold(pool, "a", 0))
            await asyncio.sleep(1)
        with pytest.raises(ExpertUnavailable, match="shutting down"):
            await waiter
        with pytest.raises(ExpertUnavailable, match="shutting down"):
            await hold(pool, "a", 0)

    virtual_run(main())
    assert factory.made["a"][0].stops == 1


def test_pool_waiter_cancelled_the_load_goes_on(virtual_run: VirtualRun) -> None:
    factory = Factory()

    async def main() -> None:
        async with factory.pool() as pool:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hold(pool, "a", 0), 1)
            await asyncio.sleep(10)
            assert states(pool)["a"] == "ready"
            assert pool.states()[0].users == 0

    virtual_run(main())


def test_pool_expert_with_a_bug_reports_failed_instead_of_ending_the_pool(
    virtual_run: VirtualRun,
) -> None:
    factory = Factory()

    def buggy(expert: FakeExpert) -> None:
        raise ZeroDivisionError

    factory.prepare = buggy

    async def main() -> None:
        async with factory.pool() as pool:
            with pytest.raises(ExpertUnavailable, match="unexpected ZeroDivisionError"):
                await hold(pool, "a", 0)

    virtual_run(main())


def test_pool_expert_with_a_bug_in_stop_or_health_does_not_end_the_pool(
    virtual_run: VirtualRun,
) -> None:
    class Faulty(FakeExpert):
        async def stop(self) -> None:
            await super().stop()
            raise ProcessLookupError

        async def health(self) -> Health:
            raise RuntimeError("a bug")

    async def main() -> None:
        specs = [ExpertSpec("a"), ExpertSpec("b")]
        pool = Pool(
            specs,
            create=lambda spec: Faulty(spec.expert_id, start_s=1.0),
            free_memory=lambda share: None,
            max_loaded=1,
            check_interval_s=5.0,
        )
        async with pool:
            await hold(pool, "a", 20.0)
            await hold(pool, "b", 1.0)
            assert states(pool) == {"a": "unloaded", "b": "ready"}

    virtual_run(main())


def test_pool_unknown_expert_raises_key_error(virtual_run: VirtualRun) -> None:
    async def main() -> None:
        async with Factory().pool() as pool:
            with pytest.raises(KeyError, match="no expert 'z'"):
                pool.wake("z")
            with pytest.raises(KeyError, match="no expert 'z'"):
                await hold(pool, "z", 0)

    virtual_run(main())


@pytest.mark.parametrize(
    "settings", [{"warm": ("a", "b"), "max_loaded": 1}, {"ids": "aa"}], ids=["warm", "same-id"]
)
def test_pool_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"max_loaded=1|same id"):
        Factory().pool(**settings)
