"""Prefill of one expert: block by block, slice by slice, towards the newest target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from livemind.backends.base import Capabilities, Message, PrefillResult, Priority, TokenPrompt
from livemind.backends.errors import ExpertOverloaded
from livemind.backends.fake import FakeExpert
from livemind.backends.pool.pool import Pool
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.gate import SpeculationGate
from livemind.orchestrator.routing.router import Router
from livemind.orchestrator.turn.prefill import ExpertPrefill
from livemind.orchestrator.turn.shared import Computed, Shared
from livemind.orchestrator.turn.values import Prefill

BLOCK = 4


class Recorder(FakeExpert):
    """A fake that remembers what it was asked to prefill."""

    def __init__(self, **given: Any) -> None:
        super().__init__("e", block_tokens=BLOCK, **given)
        self.asked: list[TokenPrompt] = []

    async def prefill(self, prompt: TokenPrompt, *, priority: Priority) -> PrefillResult:
        self.asked.append(prompt)
        return await super().prefill(prompt, priority=priority)

    @property
    def lengths(self) -> list[int]:
        return [len(prompt.token_ids) for prompt in self.asked]


class Distant(Recorder):
    """Like a remote server: the tokens are not known here."""

    def render(self, messages: Sequence[Message], *, open_turn: bool) -> TokenPrompt:
        return TokenPrompt((), 9, messages=tuple(messages), open_turn=open_turn)

    async def prefill(self, prompt: TokenPrompt, *, priority: Priority) -> PrefillResult:
        self.asked.append(prompt)
        return PrefillResult(0, prompt.num_tokens, 1.0)


class NeverOpen(Recorder):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(open_turn_prefill=False)


class Reports(list[tuple[int, int, int]]):
    """(revision, ready, total) of every slice."""

    def __call__(
        self, expert: str, revision: int, ready: int, total: int, computed: Computed
    ) -> None:
        assert expert == "e"
        self.append((revision, ready, total))


def target(words: int, revision: int = 1, word: str = "w", budget_tokens: int = 1000) -> Prefill:
    """Return a target of ``words`` + 1 tokens: the role's marker and the words."""
    text = "".join(f"{word}{n} " for n in range(words))
    return Prefill(("e",), (Message("user", text),), revision, budget_tokens)


@asynccontextmanager
async def open_prefill(
    expert: FakeExpert, slice_tokens: int = 8, *, warm: bool = True
) -> AsyncIterator[ExpertPrefill]:
    pool = Pool(
        [ExpertSpec("e", model_path="fake"), ExpertSpec("other", model_path="fake")],
        create=lambda spec: expert if spec.expert_id == "e" else FakeExpert("other"),
        max_loaded=1,
        warm=["e"] if warm else [],
    )
    async with pool:
        gate = SpeculationGate(slice_tokens, BLOCK, 10)
        yield ExpertPrefill("e", Shared(pool, Router(None, {}, (), "e"), gate))


async def displace(pool: Pool) -> None:
    """Let the other expert take the place of ``e``."""
    async with pool.acquire("other"):
        assert pool.ready("e") is None


async def prefilled(expert: Recorder, *targets: Prefill, slice_tokens: int = 8) -> Reports:
    """Reach one target after the other."""
    reports = Reports()
    async with open_prefill(expert, slice_tokens) as prefill:
        for each in targets:
            prefill.aim(each, None)
            await prefill.run(reports)
    return reports


@pytest.mark.parametrize(("words", "lengths"), [(2, []), (3, [4]), (6, [4]), (7, [8]), (21, [20])])
async def test_prefill_ends_on_a_block_border(words: int, lengths: list[int]) -> None:
    expert = Recorder()
    await prefilled(expert, target(words), slice_tokens=100)
    assert expert.lengths == lengths


@pytest.mark.parametrize(
    ("slice_tokens", "lengths"),
    [(8, [8, 16, 20]), (11, [8, 16, 20]), (16, [16, 20]), (1, [4, 8, 12, 16, 20])],
)
async def test_prefill_goes_in_slices_of_whole_blocks(
    slice_tokens: int, lengths: list[int]
) -> None:
    expert = Recorder()
    reports = await prefilled(expert, target(19), slice_tokens=slice_tokens)
    assert expert.lengths == lengths
    assert reports == [(1, length, 20) for length in lengths]


async def test_prefill_has_speculative_priority() -> None:
    expert = Recorder()
    await prefilled(expert, target(19))
    assert set(expert.priorities) == {Priority.SPECULATIVE}


async def test_longer_target_continues_where_the_last_one_ended() -> None:
    expert = Recorder()
    reports = await prefilled(expert, target(8), target(19, 2), slice_tokens=4)
    assert expert.lengths == [4, 8, 12, 16, 20]
    assert reports[-1] == (2, 20, 20)


async def test_edited_target_is_prefilled_from_the_first_different_block() -> None:
    expert = Recorder()
    edited = Prefill(("e",), (Message("user", "w0 w1 w2 w3 new w5 w6 "),), 2, 1000)
    await prefilled(expert, target(7), edited, slice_tokens=4)
    assert expert.lengths == [4, 8, 8]


async def test_reached_target_is_not_prefilled_twice() -> None:
    expert = Recorder()
    await prefilled(expert, target(8), target(8, 2))
    assert expert.lengths == [8]


async def test_newer_target_replaces_the_one_under_way() -> None:
    expert = Recorder(prefill_token_s=0.0001)
    reports = Reports()
    async with open_prefill(expert, 4) as prefill:
        prefill.aim(target(39), None)

        def aim_elsewhere(*report: Any) -> None:
            reports(*report)
            if len(reports) == 2:
                prefill.aim(target(7, 2, "x"), None)

        await prefill.run(aim_elsewhere)
    assert reports == [(1, 4, 40), (1, 8, 40), (2, 4, 8), (2, 8, 8)]


async def test_prompts_carry_the_cache_salt() -> None:
    expert = Recorder()
    async with open_prefill(expert) as prefill:
        prefill.aim(target(11), "salt")
        await prefill.run(Reports())
    assert {prompt.cache_salt for prompt in expert.asked} == {"salt"}


async def test_unloaded_expert_is_woken_and_prefilled_in_the_next_run() -> None:
    expert = Recorder()
    async with open_prefill(expert, warm=False) as prefill:
        prefill.aim(target(7), None)
        await prefill.run(Reports())
        assert expert.lengths == []
        await asyncio.sleep(0.01)
        assert expert.starts == 1
        await prefill.run(Reports())
        assert expert.lengths == [8]


async def test_failing_expert_ends_the_run_quietly_and_is_tried_again() -> None:
    expert = Recorder()
    async with open_prefill(expert) as prefill:
        expert.refuse = ExpertOverloaded("e", "full")
        prefill.aim(target(7), None)
        await prefill.run(Reports())
        expert.refuse = None
        reports = Reports()
        await prefill.run(reports)
        assert reports == [(1, 8, 8)]


async def test_slice_waits_for_foreground_work() -> None:
    expert = Recorder()
    async with open_prefill(expert) as prefill:
        prefill.aim(target(7), None)
        with prefill._shared.gate.foreground("local"):
            task = asyncio.ensure_future(prefill.run(Reports()))
            await asyncio.sleep(0.01)
            assert expert.lengths == []
        await task
        assert expert.lengths == [8]


async def test_cancelled_run_frees_expert_and_gate() -> None:
    expert = Recorder(prefill_token_s=10.0)
    async with open_prefill(expert) as prefill:
        prefill.aim(target(7), None)
        task = asyncio.ensure_future(prefill.run(Reports()))
        await asyncio.sleep(0.01)
        assert expert.running == 1
        task.cancel()
        await asyncio.wait([task])
        assert expert.running == 0
        assert prefill._shared.pool.states()[0].users == 0
        async with asyncio.timeout(1), prefill._shared.gate.slice("local"):
            pass


async def test_expert_without_local_tokens_is_sent_the_whole_target() -> None:
    expert = Distant()
    reports = await prefilled(expert, target(50))
    assert [prompt.messages for prompt in expert.asked] == [target(50).messages]
    assert reports == [(1, 9, 9)]


async def test_expert_that_cannot_leave_a_turn_open_is_left_alone() -> None:
    expert = NeverOpen()
    assert await prefilled(expert, target(50)) == []
    assert expert.lengths == []


async def test_prefill_rate_of_the_expert_is_learned() -> None:
    expert = Recorder(prefill_token_s=0.0001)
    async with open_prefill(expert, 64) as prefill:
        prefill.aim(target(63), None)
        await prefill.run(Reports())
        assert (prefill._shared.rates["e"].prefill_ms_per_token or 0) > 0


@pytest.mark.parametrize(("budget", "length"), [(3, 0), (10, 8), (12, 12), (39, 36)])
async def test_prefill_stays_within_the_budget_of_its_target(budget: int, length: int) -> None:
    expert = Recorder()
    await prefilled(expert, target(79, budget_tokens=budget))
    assert expert.prefilled_tokens == length


async def test_newer_target_pays_for_the_slice_in_flight() -> None:
    expert = Recorder(prefill_token_s=0.01)
    async with open_prefill(expert, 8) as prefill:
        prefill.aim(target(79, budget_tokens=16), None)
        task = asyncio.ensure_future(prefill.run(Reports()))
        await asyncio.sleep(0.02)  # into the first slice, which takes 80 ms
        prefill.aim(target(89, 2, budget_tokens=16), None)
        await task
    assert expert.prefilled_tokens == 16


@pytest.mark.parametrize(("slice_ms", "first"), [(16.5, 16), (8.5, 8), (0.5, 4), (1000, 32)])
async def test_slice_takes_no_longer_than_allowed(slice_ms: float, first: int) -> None:
    expert = Recorder()
    async with open_prefill(expert, 32) as prefill:
        prefill._shared.slice_ms = slice_ms
        prefill._shared.rates["e"].prefill_ms_per_token = 1.0
        prefill.aim(target(39), None)
        await prefill.run(Reports())
    assert expert.lengths[0] == first


async def test_lane_is_settled_when_its_newest_target_is_ready() -> None:
    expert = Recorder(prefill_token_s=0.001)
    async with open_prefill(expert) as prefill:
        await prefill.settled()
        prefill.aim(target(19), None)
        prefill.task = asyncio.ensure_future(prefill.run(Reports()))
        await prefill.settled()
        assert expert.prefilled_tokens == 20
        prompt = expert.render(target(21).messages, open_turn=False)
        assert prefill.missing(prompt) == prompt.num_tokens - 20


async def test_expert_without_local_tokens_is_sent_no_target_over_the_budget() -> None:
    expert = Distant()
    assert await prefilled(expert, target(50, budget_tokens=8)) == []


async def test_lane_holds_no_expert_while_it_waits_for_foreground_work() -> None:
    expert = Recorder()
    async with open_prefill(expert) as prefill:
        prefill.aim(target(7), None)
        with prefill._shared.gate.foreground("local"):
            task = asyncio.ensure_future(prefill.run(Reports()))
            await asyncio.sleep(0.01)
            assert prefill._shared.pool.states()[0].users == 0
        await task


async def test_expert_unloaded_while_the_lane_waited_is_not_loaded_by_it() -> None:
    expert = Recorder()
    async with open_prefill(expert) as prefill:
        prefill.aim(target(7), None)
        with prefill._shared.gate.foreground("local"):
            task = asyncio.ensure_future(prefill.run(Reports()))
            await asyncio.sleep(0.01)
            await displace(prefill._shared.pool)
        await task
        assert (expert.lengths, expert.starts) == ([], 1)


async def test_restarted_expert_is_prefilled_from_the_beginning() -> None:
    first, second = Recorder(), Recorder()
    async with open_prefill(first) as prefill:
        pool = prefill._shared.pool
        prefill.aim(target(15), None)
        await prefill.run(Reports())
        pool._create = lambda spec: second
        await displace(pool)
        async with pool.acquire("e"):
            pass
        prefill.aim(target(19, 2), None)
        await prefill.run(Reports())
    assert (first.lengths, second.lengths) == ([8, 16], [8, 16, 20])


async def test_other_cache_salt_is_prefilled_from_the_beginning() -> None:
    expert = Recorder()
    async with open_prefill(expert) as prefill:
        for salt in (None, "salt"):
            prefill.aim(target(15), salt)
            await prefill.run(Reports())
    assert expert.lengths == [8, 16, 8, 16]


def test_prefill_behind_an_answer_computes_what_that_did_not_leave_in_the_cache(
    virtual_run: Any,
) -> None:
    async def main() -> None:
        expert = Recorder()
        async with open_prefill(expert) as prefill:
            whole = target(19)
            known = expert.render(whole.messages, open_turn=True).token_ids[:12]
            prefill.prime(expert, None, known)
            prefill.aim(whole, None)
            reports = Reports()
            await prefill.run(reports)
            assert [ready for _, ready, _ in reports] == [20]
            reports.clear()
            prefill.prime(expert, None, (*known, 1, 2, 3, 4, 5, 6, 7, 8))
            prefill.aim(target(19, 2), None)
            await prefill.run(reports)
            assert [ready for _, ready, _ in reports] == [20]

    virtual_run(main())


async def test_prefill_that_returns_to_an_older_target_goes_on_where_that_one_ended() -> None:
    expert = Recorder()
    one, other = target(12, word="a"), target(12, word="b")
    await prefilled(expert, one, other, one, other, slice_tokens=100)
    assert expert.lengths == [12, 12]
    await prefilled(expert, one, other, target(16, word="a"), slice_tokens=100)
    assert expert.lengths == [12, 12, 12, 12, 16]


async def test_prefill_of_another_cache_salt_starts_anew_though_the_text_was_ready() -> None:
    expert, reports = Recorder(), Reports()
    async with open_prefill(expert, 100) as prefill:
        for each, salt in (("a", None), ("b", None), ("a", "other")):
            prefill.aim(target(12, word=each), salt)
            await prefill.run(reports)
    assert expert.lengths == [12, 12, 12]
