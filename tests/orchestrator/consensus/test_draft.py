"""`draft` in whole turns on fakes: the answer of the routed expert, in fewer steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Capabilities, GenerationParams, Message
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.consensus.follow import MEASURED_ANSWERS, Acceptance, pays
from livemind.orchestrator.consensus.guess import Guess, may_be_drafted
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.consensus.task import question_of
from livemind.orchestrator.rates import ExpertRates
from livemind.orchestrator.session import SessionOptions

DRAFT = SessionOptions(pinned="strong", consensus=Consensus("draft"))
FIRST = replace(DRAFT, consensus=Consensus("first"))
OFF = replace(DRAFT, speculation="off")
WORDS = " ".join(f"w{n}" for n in range(40))
ANSWER_S = 39 * 0.03


def strong(**given: Any) -> FakeExpert:
    return FakeExpert("strong", **{"token_s": 0.03, "drafts": True, **given})


def fast(**given: Any) -> FakeExpert:
    return FakeExpert("fast", **{"token_s": 0.003, **given})


def wrong_after(good: int) -> Any:
    """Answer like the echo, with other words after the first ``good``."""

    def answer(messages: Sequence[Message]) -> str:
        words = messages[-1].content.upper().split()
        return " ".join([*words[:good], *("other" for _ in words[good:])])

    return answer


async def measured(stage: Any) -> None:
    """Let the stage know what it would have learned from earlier answers."""
    stage.shared.rates["strong"].saw_decode(30.0)
    stage.shared.rates["fast"].saw_decode(3.0)
    for _ in range(MEASURED_ANSWERS):
        stage.shared.acceptances["fast", "strong"].saw(9, 1)


async def paste(live: SimpleNamespace, stage: Any, options: SessionOptions = OFF) -> Any:
    """Return (text, done, seconds) of a turn without typing time."""
    async with stage.session(options) as session:
        began = asyncio.get_running_loop().time()
        seen = await live.answer(session, WORDS)
        took_s = asyncio.get_running_loop().time() - began
    return live.text_of(seen), live.done_of(seen), took_s


@pytest.mark.parametrize(
    "consensus", [Consensus("draft"), Consensus("first")], ids=["draft", "first"]
)
def test_draft_dropped_for_a_changed_end_still_shortens_the_answer(
    virtual_run: Any, live: SimpleNamespace, consensus: Consensus
) -> None:
    async def main() -> None:
        expert = strong()
        options = replace(DRAFT, consensus=consensus)
        async with live.open_stage(expert) as stage, stage.session(options) as session:
            session.replace(WORDS)
            await asyncio.sleep(5)
            steps = expert.steps
            seen = await live.answer(session, f"{WORDS} and more?")
            done, steps = live.done_of(seen), expert.steps - steps
            assert live.text_of(seen) == f"{WORDS} and more?".upper()
            assert done.ledger.draft_wasted == done.ledger.draft_speculated == 40
            if consensus.policy == "first":
                assert (steps, done.consensus.spans[0].settled_by) == (42, "author")
            else:
                assert steps < 12
                assert done.consensus.spans[0].settled_by == "verified"
                assert done.consensus.drafted_tokens_accepted == 40
            after = await live.answer(session, "something else entirely")
            assert live.done_of(after).consensus.drafted_tokens_accepted is None

    virtual_run(main())


def test_draft_of_a_paused_answer_goes_on_with_what_was_cut(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        expert = strong()
        async with (
            live.open_stage(expert, max_draft_tokens=8) as stage,
            stage.session(DRAFT) as session,
        ):
            session.replace(WORDS)
            await asyncio.sleep(5)
            seen = await live.answer(session)
            assert live.text_of(seen) == WORDS.upper()
            assert live.done_of(seen).usage.completion_tokens == 40

    virtual_run(main())


@pytest.mark.parametrize("good", [40, 20, 0])
def test_draft_fast_expert_beside_changes_the_time_alone(
    virtual_run: Any, live: SimpleNamespace, good: int
) -> None:
    async def main() -> None:
        experts = (fast(answer=wrong_after(good)), strong())
        async with live.open_stage(*experts) as stage:
            await measured(stage)
            text, done, took_s = await paste(live, stage)
            assert text == WORDS.upper()
            assert took_s <= ANSWER_S + 0.001
            assert took_s < {40: ANSWER_S / 2, 20: ANSWER_S * 0.8, 0: 9}[good]
            assert all(expert.running == 0 for expert in experts)
            generated = sum(expert.generated_tokens for expert in experts)
            assert done.consensus.generated_tokens == generated
            if good == 0:
                assert experts[0].started <= 4  # given up
                assert stage.shared.acceptances["fast", "strong"].share < 0.7

    virtual_run(main())


def test_draft_unmeasured_is_tried_in_hiding_only(virtual_run: Any, live: SimpleNamespace) -> None:
    async def main() -> None:
        experts = (fast(), strong())
        async with live.open_stage(*experts) as stage:
            await paste(live, stage)
            assert experts[0].generated_tokens == 0
            async with stage.session(DRAFT) as session:
                session.replace(WORDS)
                await asyncio.sleep(5)
                assert experts[0].generated_tokens == 40
                done = live.done_of(await live.answer(session))
            assert done.ledger.draft_speculated == 80
            assert (done.ledger.draft_adopted, done.ledger.draft_wasted) == (40, 40)

    virtual_run(main())


def test_draft_fast_expert_that_does_not_draft_may_be_unloaded_meanwhile(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(fast(), strong()) as stage, stage.session(OFF) as session:
            users = {}
            for known in (False, True):
                if known:
                    await measured(stage)
                session.request_commit(WORDS)
                await asyncio.sleep(0.05)
                users[known] = {s.expert_id: s.users for s in stage.shared.pool.states()}
                await asyncio.sleep(5)
            assert users == {False: {"fast": 0, "strong": 1}, True: {"fast": 1, "strong": 1}}

    virtual_run(main())


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda e: setattr(e, "refuse", ExpertUnavailable("fast", "dead")), "dead"),
        (lambda e: setattr(e, "crash_after_tokens", 5), "not running"),
        (lambda e: setattr(e, "ttft_s", 1e6), None),
        (lambda e: e.crash(), "not running"),
    ],
    ids=["refuses", "dies", "hangs", "dead"],
)
def test_draft_broken_fast_expert_delays_nothing_and_is_named(
    virtual_run: Any, live: SimpleNamespace, broken: Any, reason: str | None
) -> None:
    async def main() -> None:
        experts = (fast(), strong())
        async with live.open_stage(*experts) as stage:
            await measured(stage)
            broken(experts[0])
            text, done, took_s = await paste(live, stage)
            assert (text, done.status) == (WORDS.upper(), "completed")
            assert took_s <= ANSWER_S + 0.001
            abstained = {entry.expert: entry.reason for entry in done.consensus.abstained}
            assert reason is None or reason in abstained["fast"]

    virtual_run(main())


def test_draft_of_another_tokenizer_is_not_used_and_said(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    class Other(FakeExpert):
        @property
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities, tokenizer_id="other")

    async def main() -> None:
        other = Other("fast", token_s=0.003)
        async with live.open_stage(other, strong()) as stage:
            await measured(stage)
            _, done, _ = await paste(live, stage)
            assert other.started == 0
            assert done.consensus.abstained[0].reason == "another tokenizer"

    virtual_run(main())


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (GenerationParams(), True),
        (GenerationParams(seed=1), False),
        (GenerationParams(seed=1, temperature=0), True),
        (GenerationParams(prediction="known"), False),
    ],
)
def test_may_be_drafted_only_what_stays_the_same_answer(
    params: GenerationParams, expected: bool
) -> None:
    assert may_be_drafted(params, Capabilities(drafts=True)) is expected
    assert not may_be_drafted(params, Capabilities(drafts=False))


def test_guess_is_used_only_by_those_it_means_something_to() -> None:
    guess = Guess("q", "a", "t", (1, 2, 3))
    assert guess.for_("q", "b", Capabilities("t")) == (1, 2, 3)
    assert guess.for_("q", "b", Capabilities("u")) == ()
    assert Guess("q", "a", None, (1,)).for_("q", "b", Capabilities(None)) == ()
    assert Guess("q", "a", None, (1,)).for_("q", "a", Capabilities(None)) == (1,)
    assert guess.after((1, 2)) == Guess("q", "a", "t", (3,))
    assert guess.after((1, 3)) is None


@pytest.mark.parametrize(
    ("drafted", "asked", "used"),
    [
        ("What is the port of Kestrel", "What is the port of Kestrel?", True),
        ("What is the po", "What is the port of Kestrel?", True),
        ("What is the port of Castle", "What is the port of Kestrel?", True),
        ("Who owns Kestrel", "What is the port of Kestrel?", False),
    ],
    ids=["its mark came", "it went on", "its last word was corrected", "another question"],
)
def test_guess_is_used_only_where_the_question_went_on(
    drafted: str, asked: str, used: bool
) -> None:
    guess = Guess(drafted, "a", "t", (1, 2))
    assert bool(guess.for_(asked, "a", Capabilities("t"))) is used


def test_question_is_what_the_user_said_last_also_before_documents() -> None:
    said = [Message("user", "one"), Message("assistant", "a"), Message("user", "two")]
    assert question_of([*said, Message("documents", "late")]) == "two"
    assert question_of([Message("system", "s")]) == ""


@pytest.mark.parametrize(
    ("fast_ms", "accepted", "hidden", "expected"),
    [
        (3.0, (9, 1), False, True),
        (3.0, (1, 9), False, False),
        (8.0, (9, 1), False, False),
        (None, (9, 1), False, False),
        (None, (9, 1), True, True),
        (8.0, (9, 1), True, False),
        (3.0, (0, 0), True, True),
    ],
)
def test_pays_by_what_was_measured(
    fast_ms: float | None, accepted: tuple[int, int], hidden: bool, expected: bool
) -> None:
    acceptance = Acceptance()
    for _ in range(MEASURED_ANSWERS):
        acceptance.saw(*accepted)
    rates = ExpertRates(decode_ms=fast_ms), ExpertRates(decode_ms=10.0)
    assert pays(*rates, acceptance, hidden=hidden) is expected


def test_draft_fast_expert_of_another_machine_leaves_when_an_answer_is_wanted_there(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        there: dict[str, Any] = {"compute_group": "remote:x"}
        experts = (
            fast(token_s=0.3, **there),
            FakeExpert("third", token_s=1.0, **there),
            strong(token_s=1.0),
        )
        other = SessionOptions(pinned="third", speculation="off")
        async with (
            live.open_stage(*experts) as stage,
            stage.session(DRAFT) as session,
            stage.session(other) as elsewhere,
        ):
            session.replace(WORDS)
            await asyncio.sleep(5)
            assert [expert.running for expert in experts] == [1, 0, 1]
            elsewhere.request_commit("one two three")
            await asyncio.sleep(0.1)
            assert [expert.running for expert in experts] == [0, 1, 1]
            await asyncio.sleep(60)
            done = live.done_of(await live.answer(session))
            assert (done.ledger.draft_adopted, done.timings.ttft_ms) == (40, 0.0)

    virtual_run(main())
