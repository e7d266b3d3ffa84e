"""Drafts in a session: what is kept, what is counted, and to whom they yield."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Capabilities, Chunk, GenerationParams, Priority, TokenPrompt
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.session import Limits, SessionOptions

PINNED = SessionOptions(pinned="strong")
QUIET = Limits(max_queued_events=20)


def words(number: int) -> str:
    return " ".join(f"w{n}" for n in range(number)) + "?"


class Wire(FakeExpert):
    """A fake whose chunks pass through ``change`` before they are seen."""

    def __init__(self, change: Callable[[Chunk], Chunk] = lambda chunk: chunk, **given: Any):
        super().__init__("strong", **{"prefill_token_s": 0.01, "token_s": 0.02, **given})
        self.change = change
        self.default: int | None = None
        self.asked: list[tuple[Priority, Any]] = []

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, max_tokens_default=self.default)

    async def generate(
        self, prompt: TokenPrompt, params: GenerationParams, **given: Any
    ) -> AsyncGenerator[Chunk, None]:
        if params.max_tokens is None:
            params = replace(params, max_tokens=self.default)
        self.asked.append((given["priority"], given.get("draft")))
        run = super().generate(prompt, params, **given)
        async with aclosing(run) as chunks:
            async for chunk in chunks:
                yield self.change(chunk)


@pytest.mark.parametrize("max_draft_tokens", [30, 256])
def test_adopted_draft_longer_than_the_queue_keeps_all_text(
    virtual_run: Any, live: SimpleNamespace, max_draft_tokens: int
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(Wire(), max_draft_tokens=max_draft_tokens) as stage,
            stage.session(PINNED, QUIET) as session,
        ):
            session.replace(words(60))
            await asyncio.sleep(5)
            seen = await live.answer(session)
            assert live.text_of(seen) == words(60).upper()
            assert live.done_of(seen).status == "completed"

    virtual_run(main())


@pytest.mark.parametrize("mode", ["off", "draft"])
def test_default_length_of_an_answer_holds_for_draft_and_continuation_together(
    virtual_run: Any, live: SimpleNamespace, mode: Any
) -> None:
    async def main() -> None:
        expert = Wire()
        expert.default = 12
        async with (
            live.open_stage(expert, max_draft_tokens=8) as stage,
            stage.session(replace(PINNED, speculation=mode)) as session,
        ):
            session.replace(words(60))
            await asyncio.sleep(5)
            seen = await live.answer(session)
            assert len(live.text_of(seen).split()) == 12

    virtual_run(main())


def test_draft_begins_behind_the_prefill_and_its_prompt_is_in_the_books(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        expert = Wire(prefill_token_s=0.05)
        async with live.open_stage(expert) as stage, stage.session(PINNED) as session:
            session.replace(words(60))
            await asyncio.sleep(8)
            assert expert.peak == 1
            done = live.done_of(await live.answer(session))
            assert done.ledger.draft_adopted > 0
            assert done.ledger.prefill_speculated == expert.prefilled_tokens
            assert (done.ledger.prefill_wasted, done.ledger.cost_multiplier) == (0, 1.0)

    virtual_run(main())


def test_draft_of_a_server_that_names_no_tokens_is_bounded_and_counted(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        expert = Wire(lambda chunk: replace(chunk, token_ids=()))
        async with (
            live.open_stage(expert, max_draft_tokens=8) as stage,
            stage.session(PINNED) as session,
        ):
            session.replace(words(60))
            await asyncio.sleep(5)
            assert expert.generated_tokens == 8
            done = live.done_of(await live.answer(session, "other"))
            assert done.ledger.draft_wasted == done.ledger.draft_speculated == 8

    virtual_run(main())


def test_draft_whose_stream_names_no_reason_to_end_is_complete(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        expert = Wire(lambda chunk: replace(chunk, finish_reason=None))
        async with live.open_stage(expert) as stage, stage.session(PINNED) as session:
            session.replace("a b?")
            await asyncio.sleep(5)
            seen = await live.answer(session)
            assert (live.done_of(seen).status, live.text_of(seen)) == ("completed", "A B?")

    virtual_run(main())


def test_draft_paused_inside_a_character_is_cut_back_and_its_text_completed(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        hidden = "W7"  # the last token drafted decodes to nothing yet, as half a character does

        def withhold(chunk: Chunk) -> Chunk:
            return replace(chunk, text="") if drafting and hidden in chunk.text else chunk

        drafting = True
        expert = Wire(withhold)
        async with (
            live.open_stage(expert, max_draft_tokens=8) as stage,
            stage.session(PINNED) as session,
        ):
            session.replace(words(12))
            await asyncio.sleep(5)
            drafting = False
            seen = await live.answer(session)
            ledger = live.done_of(seen).ledger
            assert live.text_of(seen) == words(12).upper()
            assert (ledger.draft_adopted, ledger.draft_wasted) == (7, 1)

    virtual_run(main())


def test_adopted_running_draft_is_foreground_work_until_it_ends(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(Wire(token_s=0.5)) as stage, stage.session(PINNED) as session:
            session.replace("a b c d e f g h?")
            await asyncio.sleep(1.0)
            assert not stage.shared.gate.busy("local")
            session.request_commit()
            assert stage.shared.gate.busy("local")
            await asyncio.sleep(10)
            assert [done.status for done in stage.done] == ["completed"]
            assert not stage.shared.gate.busy("local")

    virtual_run(main())


def test_adopted_complete_draft_whose_expert_is_slow_to_let_go_ends_one_turn(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    class Clinging(Wire):
        closing = asyncio.Event()

        async def generate(self, *args: Any, **given: Any) -> AsyncGenerator[Chunk, None]:
            async with aclosing(super().generate(*args, **given)) as chunks:
                async for chunk in chunks:
                    yield chunk
            self.closing.set()
            await asyncio.sleep(1)

    async def main() -> None:
        expert = Clinging()
        async with live.open_stage(expert) as stage, stage.session(PINNED) as session:
            session.replace("a b?")
            await expert.closing.wait()
            first = await live.answer(session)
            second = await live.answer(session, words(60))
            assert (live.text_of(first), live.text_of(second)) == ("A B?", words(60).upper())

    virtual_run(main())


def test_draft_of_an_unloaded_expert_unloads_no_warm_one(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        fast = FakeExpert("fast")
        async with (
            live.open_stage(fast, Wire(), max_loaded=1, warm=["fast"]) as stage,
            stage.session(PINNED) as session,
        ):
            session.replace("a b?")
            await asyncio.sleep(5)
            assert fast.stops == 0

    virtual_run(main())


def test_draft_of_an_unloaded_expert_is_tried_again_once_it_is_ready(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(Wire(start_s=3.0), warm=()) as stage,
            stage.session(PINNED) as session,
        ):
            session.replace("a b?")
            await asyncio.sleep(10)
            seen = await live.answer(session)
            lost = [e.reason for e in seen if isinstance(e, events.DraftDiscarded)]
            assert lost[:1] == ["the expert is not loaded"]
            assert live.done_of(seen).ledger.draft_adopted == 2
            assert live.done_of(seen).timings.ttft_ms == 0.0

    virtual_run(main())


@pytest.mark.parametrize("policy", ["verify", "vote"])
def test_draft_of_several_experts_is_bounded_in_what_all_of_them_generate(
    virtual_run: Any, live: SimpleNamespace, policy: Any
) -> None:
    async def main() -> None:
        experts = [
            FakeExpert(name, answer=lambda messages: words(2000), token_s=0.01)
            for name in ("fast", "third", "strong")
        ]
        options = replace(PINNED, consensus=Consensus(policy))
        async with (
            live.open_stage(*experts, max_draft_tokens=16) as stage,
            stage.session(options) as session,
        ):
            session.replace("tell me.")
            await asyncio.sleep(60)
            spent = sum(expert.generated_tokens for expert in experts)
            seen = await live.answer(session, "something else")
            lost = {e.reason for e in seen if isinstance(e, events.DraftDiscarded)}
            ledger = live.done_of(seen).ledger
            assert (lost, ledger.draft_wasted) == ({"draft limit reached"}, spent)
            assert spent <= ledger.drafts * len(experts) * 16

    virtual_run(main())


def test_draft_beside_a_running_answer_of_the_same_machine_does_not_begin(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        expert = Wire(token_s=1.0)
        async with (
            live.open_stage(expert, between_slices=1) as stage,
            stage.session(PINNED) as session,
            stage.session(replace(PINNED, speculation="off")) as other,
        ):
            other.request_commit(words(60))
            session.replace("a b?")
            await asyncio.sleep(30)
            assert expert.asked == [(Priority.FOREGROUND, None)]
            assert expert.running == 1

    virtual_run(main())


def test_draft_paused_and_guessed_goes_on_with_the_rest_of_the_guess(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        expert = Wire(drafts=True, token_s=0.2)
        off = replace(PINNED, speculation="off")
        async with (
            live.open_stage(expert) as stage,
            stage.session(PINNED) as session,
            stage.session(off) as other,
        ):
            session.replace(words(60))
            await asyncio.sleep(20)
            session.replace(words(80))
            await asyncio.sleep(1.2)
            other.request_commit("b a?")
            await asyncio.sleep(1)
            seen = await live.answer(session)
            assert live.text_of(seen) == words(80).upper()
            guesses = [draft.tokens for _, draft in expert.asked if draft is not None]
            begun = len(guesses[0]) - len(guesses[-1])
            assert 0 < begun < 60
            assert guesses[-1] == guesses[0][begun:]

    virtual_run(main())


@pytest.mark.parametrize(("policy", "author"), [("first", 1), ("vote", 1), ("verify", 0)])
def test_draft_adopted_while_it_runs_is_booked_by_what_becomes_the_answer(
    virtual_run: Any, live: SimpleNamespace, policy: Any, author: int
) -> None:
    """In hiding both vote, or ``fast`` writes and ``strong`` judges; both say the same."""

    async def main() -> None:
        answer = " ".join(f"w{n}" for n in range(50))
        experts = [
            FakeExpert(name, answer=lambda m: "A" if "«" in m[-1].content else answer, token_s=0.02)
            for name in ("fast", "strong")
        ]
        options = replace(PINNED, consensus=Consensus(policy, gate="every"))
        async with live.open_stage(*experts) as stage, stage.session(options) as session:
            session.replace("tell me.")
            await asyncio.sleep(0.7)
            hidden = [expert.generated_tokens for expert in experts]
            done = live.done_of(await live.answer(session))
        ledger = done.ledger
        assert ledger.draft_speculated == sum(hidden) > 10
        assert ledger.draft_adopted == hidden[author] < 50
        assert ledger.draft_wasted == hidden[1 - author]

    virtual_run(main())
