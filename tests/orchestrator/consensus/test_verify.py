"""`verify` in whole turns on fakes: who writes, who judges, who takes over and when."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import (
    Capabilities,
    Chunk,
    GenerationParams,
    Message,
    Priority,
    TokenLogprob,
)
from livemind.backends.errors import ExpertOverloaded, ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.consensus.judge import score_of
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.events import ResponseTextDelta
from livemind.orchestrator.session import Limits, SessionOptions

EVERY = Consensus("verify", deadline_s=1.0, gate="every")
OPTIONS = SessionOptions(pinned="strong", consensus=EVERY, speculation="off")
GOOD = " ".join(f"w{n}" + ("," if n % 13 == 12 else "") for n in range(50))
WRONG_AT_20 = GOOD.replace("w20 ", "nonsense ")


def expert(name: str, text: str, doubt: str = "nonsense", **given: Any) -> FakeExpert:
    """Answer with a text; asked to judge, say B where ``doubt`` stands in the segment."""

    def answer(messages: Sequence[Message]) -> str:
        asked = re.search("«(.*)»", messages[-1].content, re.DOTALL)
        if asked is None:
            return text
        return "B" if doubt in asked[1] else "A"

    return FakeExpert(name, answer=answer, **{"token_s": 0.01, **given})


async def one_turn(
    live: SimpleNamespace, experts: Sequence[FakeExpert], options: SessionOptions = OPTIONS
) -> Any:
    """Return (text, done, seconds) of one committed turn."""
    async with live.open_stage(*experts) as stage:
        async with stage.session(options) as session:
            began = asyncio.get_running_loop().time()
            seen = await live.answer(session, "tell me")
            took_s = asyncio.get_running_loop().time() - began
        assert all(each.running == 0 for each in experts)
        return live.text_of(seen), live.done_of(seen), took_s


def choose(**fields: Any) -> SessionOptions:
    return replace(OPTIONS, consensus=replace(EVERY, **fields))


def test_verify_accepted_segments_are_the_fast_experts_words(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    slow = expert("strong", "other " * 50, token_s=0.1)
    text, done, took_s = virtual_run(one_turn(live, (expert("fast", GOOD), slow)))
    spans = done.consensus.spans
    assert (text, done.status) == (GOOD, "completed")
    assert [(s.author, s.settled_by, s.agreement) for s in spans] == [("fast", "quorum", 1.0)] * 4
    assert sum(span.characters for span in spans) == len(GOOD)
    assert [(v.expert, v.choice) for v in spans[0].votes] == [("strong", "accept")]
    assert done.usage.completion_tokens == 50
    assert done.consensus.generated_tokens == 50 + 4
    assert took_s < 1


def test_verify_rejected_segment_is_written_by_the_routed_expert_from_the_settled_text(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    text, done, _ = virtual_run(
        one_turn(live, (expert("fast", WRONG_AT_20), expert("strong", GOOD.upper())))
    )
    spans = done.consensus.spans
    assert text == GOOD[: text.index("W")] + GOOD.upper()[text.index("W") :]
    assert [span.author for span in spans] == ["fast", "strong"]
    assert sum(span.characters for span in spans) == len(text)
    assert done.usage.completion_tokens == 50


@pytest.mark.parametrize(("gate", "sent"), [("none", True), ("auto", True), ("every", False)])
def test_verify_gate_decides_what_waits_and_nothing_sent_is_taken_back(
    virtual_run: Any, live: SimpleNamespace, gate: str, sent: bool
) -> None:
    text, done, _ = virtual_run(
        one_turn(
            live,
            (expert("fast", WRONG_AT_20), expert("strong", GOOD.upper())),
            choose(gate=gate),
        )
    )
    assert ("nonsense" in text) is sent
    assert done.consensus.spans[-1].author == "strong"
    if sent:
        rejected = [s for s in done.consensus.spans if s.votes and s.votes[0].choice == "reject"]
        assert [span.agreement for span in rejected] == [0.0]


def test_verify_compares_continuations_of_experts_that_cannot_judge(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    experts = (
        expert("fast", WRONG_AT_20),
        FakeExpert("strong", answer=lambda messages: GOOD, drafts=True, token_s=0.01),
    )
    text, done, _ = virtual_run(one_turn(live, experts, choose(verdict="continue")))
    assert text == GOOD
    assert [span.author for span in done.consensus.spans] == ["fast", "strong"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda e: setattr(e, "refuse", ExpertUnavailable("strong", "dead")), "dead"),
        (lambda e: setattr(e, "ttft_s", 1e6), "too slow"),
        (lambda e: setattr(e, "crash_after_tokens", 0), "not running"),
    ],
    ids=["refuses", "hangs", "dies"],
)
def test_verify_without_its_routed_expert_ends_with_the_fast_ones_words(
    virtual_run: Any, live: SimpleNamespace, broken: Any, reason: str
) -> None:
    strong = expert("strong", GOOD.upper())
    broken(strong)
    text, done, took_s = virtual_run(one_turn(live, (expert("fast", GOOD), strong)))
    assert (text, done.status) == (GOOD, "completed")
    assert {span.settled_by for span in done.consensus.spans} == {"deadline"}
    (abstained,) = done.consensus.abstained
    assert abstained.expert == "strong"
    assert reason in abstained.reason
    assert took_s < 2 * EVERY.deadline_s


def test_verify_judge_that_answers_rubbish_leaves_the_answer_to_the_routed_expert(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    strong = FakeExpert("strong", answer=lambda messages: GOOD.upper())
    text, done, _ = virtual_run(one_turn(live, (expert("fast", GOOD), strong)))
    assert text == GOOD.upper()
    assert done.consensus.abstained[0].reason == "no verdict in its answer"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda e: setattr(e, "refuse", ExpertUnavailable("fast", "dead")), "dead"),
        (lambda e: setattr(e, "ttft_s", 1e6), "too slow"),
        (lambda e: setattr(e, "crash_after_tokens", 30), "not running"),
    ],
    ids=["refuses", "hangs", "dies"],
)
def test_verify_without_its_author_the_routed_expert_goes_on(
    virtual_run: Any, live: SimpleNamespace, broken: Any, reason: str
) -> None:
    author = expert("fast", GOOD)
    broken(author)
    text, done, took_s = virtual_run(one_turn(live, (author, expert("strong", GOOD))))
    assert (text, done.status) == (GOOD, "completed")
    assert done.consensus.spans[-1].author == "strong"
    assert reason in {entry.expert: entry.reason for entry in done.consensus.abstained}["fast"]
    assert took_s < 2 * EVERY.deadline_s


def test_verify_everybody_fails_the_turn_fails_once(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    experts = (expert("fast", GOOD), expert("strong", GOOD))
    for each in experts:
        each.refuse = ExpertUnavailable(each.expert_id, "dead")
    text, done, _ = virtual_run(one_turn(live, experts))
    assert (text, done.status, done.error.code) == ("", "failed", "expert_unavailable")


@pytest.mark.parametrize("gate", ["every", "none"])
@pytest.mark.parametrize("words", [0, 30])
def test_verify_overload_of_the_routed_expert_reaches_the_client_where_the_author_fails_too(
    virtual_run: Any, live: SimpleNamespace, gate: str, words: int
) -> None:
    experts = (expert("fast", GOOD), expert("strong", GOOD))
    experts[0].crash_after_tokens = words
    experts[1].refuse = ExpertOverloaded("strong", "its queue is full", 7.0)
    _, done, _ = virtual_run(one_turn(live, experts, choose(gate=gate)))
    assert (done.status, done.error.code, done.error.status) == ("failed", "overloaded", 429)
    assert done.error.retry_after_s == 7.0


def test_verify_why_the_routed_expert_was_not_loaded_reaches_the_client(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        experts = (expert("fast", GOOD), expert("strong", GOOD))
        experts[0].crash_after_tokens = 0
        experts[1].start_error = ExpertOverloaded("strong", "no memory for it now", 7.0)
        async with (
            live.open_stage(*experts, warm=["fast"]) as stage,
            stage.session(OPTIONS) as session,
        ):
            done = live.done_of(await live.answer(session, "tell me"))
        assert (done.status, done.error.code) == ("failed", "overloaded")

    virtual_run(main())


def test_verify_neither_author_nor_routed_expert_loaded_fails_with_the_reason(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        experts = (expert("fast", GOOD), expert("third", "x"), expert("strong", GOOD))
        experts[2].start_error = ExpertUnavailable("strong", "broken")
        async with (
            live.open_stage(*experts, warm=["third"]) as stage,
            stage.session(OPTIONS) as session,
        ):
            done = live.done_of(await live.answer(session, "tell me"))
        assert (done.status, done.error.code) == ("failed", "expert_unavailable")
        assert "broken" in done.error.message

    virtual_run(main())


def test_verify_quorum_of_two_needs_two_verdicts(virtual_run: Any, live: SimpleNamespace) -> None:
    experts = (expert("fast", GOOD), expert("third", "x"), expert("strong", GOOD.upper()))
    experts[1].refuse = ExpertUnavailable("third", "dead")
    one, _, _ = virtual_run(one_turn(live, experts, choose(quorum=1)))
    two, _, _ = virtual_run(one_turn(live, experts, choose(quorum=2)))
    assert (one, two) == (GOOD, GOOD.upper())


def test_verify_server_that_cannot_continue_answers_alone(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    class Closed(FakeExpert):
        @property
        def capabilities(self) -> Capabilities:
            return replace(super().capabilities, continues=False)

    strong = Closed("strong", answer=lambda messages: GOOD.upper())
    text, done, _ = virtual_run(one_turn(live, (expert("fast", GOOD), strong)))
    assert text == GOOD.upper()
    assert "cannot continue" in done.consensus.abstained[0].reason


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        ([(" A", -0.1), ("B", -3.0)], 0.9478),
        ([("A", -0.7), ("b", -0.7)], 0.5),
        ([("B", -0.01)], 0.02),
        ([("C", -0.2), ("A", -2.0)], None),
        ([("The", -0.1), ("A", -3.0)], None),
        ([], None),
    ],
)
def test_score_of_a_verdict_is_its_share_of_yes(top: Any, expected: float | None) -> None:
    logprob = TokenLogprob("A", 0, 0.0, tuple((text, 0, value) for text, value in top))
    score = score_of(logprob)
    assert score == (None if expected is None else pytest.approx(expected, abs=1e-3))


@pytest.mark.parametrize(
    ("limit_s", "status", "error"), [(9.0, "cancelled", None), (0.3, "failed", "timeout")]
)
def test_verify_stopped_while_the_routed_expert_takes_over_ends_as_it_was_stopped(
    virtual_run: Any, live: SimpleNamespace, limit_s: float, status: str, error: str | None
) -> None:
    async def main() -> None:
        experts = (expert("fast", GOOD), expert("strong", GOOD, ttft_s=5.0))
        experts[0].refuse = ExpertUnavailable("fast", "dead")
        async with live.open_stage(*experts) as stage:
            limits = Limits(turn_timeout_s=limit_s)
            async with stage.session(choose(deadline_s=10.0), limits) as session:
                session.request_commit("tell me")
                await asyncio.sleep(0.5)
                session.cancel()
                await asyncio.sleep(0.1)
                assert experts[1].running == 0
        (done,) = stage.done
        assert (done.status, done.error and done.error.code) == (status, error)

    virtual_run(main())


@pytest.mark.parametrize(("dead", "author"), [(False, "strong"), (True, "fast")])
def test_verify_where_nobody_begins_within_the_deadline_the_last_one_left_is_waited_for(
    virtual_run: Any, live: SimpleNamespace, dead: bool, author: str
) -> None:
    experts = (expert("fast", GOOD, ttft_s=3.0), expert("strong", GOOD, ttft_s=3.0))
    if dead:
        experts[1].refuse = ExpertUnavailable("strong", "dead")
    text, done, _ = virtual_run(one_turn(live, experts))
    assert (text, done.status, done.error) == (GOOD, "completed", None)
    assert {span.author for span in done.consensus.spans} == {author}
    assert author not in {entry.expert for entry in done.consensus.abstained}


def test_verify_taken_over_stops_the_author(virtual_run: Any, live: SimpleNamespace) -> None:
    async def main() -> None:
        experts = (
            expert("fast", WRONG_AT_20 + " word" * 400),
            expert("strong", GOOD.upper() + " WORD" * 400),
        )
        async with live.open_stage(*experts) as stage, stage.session(OPTIONS) as session:
            session.request_commit("tell me")
            await asyncio.sleep(1)
            assert [each.running for each in experts] == [0, 1]

    virtual_run(main())


@pytest.mark.parametrize("gate", ["none", "every"])
def test_verify_of_servers_that_name_no_tokens_balances_its_books(
    virtual_run: Any, live: SimpleNamespace, gate: Any
) -> None:
    class Nameless(FakeExpert):
        async def generate(self, *args: Any, **given: Any) -> AsyncGenerator[Chunk, None]:
            async with aclosing(super().generate(*args, **given)) as chunks:
                async for chunk in chunks:
                    yield replace(chunk, token_ids=())

    async def main() -> None:
        experts = [
            Nameless(name, answer=expert(name, GOOD).answer, token_s=0.01)
            for name in ("fast", "strong")
        ]
        async with live.open_stage(*experts) as stage:
            async with stage.session(replace(choose(gate=gate), speculation="draft")) as session:
                session.replace("tell me. ")
                await asyncio.sleep(5)
                ledger = live.done_of(await live.answer(session)).ledger
            assert ledger.draft_speculated == sum(each.generated_tokens for each in experts)
            assert ledger.draft_adopted == 4

    virtual_run(main())


def test_verify_draft_adopted_while_it_runs_is_judged_in_the_foreground(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        experts = (expert("fast", GOOD, token_s=0.1), expert("strong", GOOD))
        options = replace(OPTIONS, speculation="draft")
        async with live.open_stage(*experts) as stage, stage.session(options) as session:
            session.replace("tell me. ")
            await asyncio.sleep(2)
            before = len(experts[1].priorities)
            await live.answer(session)
            assert Priority.FOREGROUND not in experts[1].priorities[:before]
            assert set(experts[1].priorities[before:]) == {Priority.FOREGROUND}

    virtual_run(main())


def test_verify_taken_over_is_no_longer_than_was_asked(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    options = replace(OPTIONS, params=GenerationParams(max_tokens=30))
    experts = (expert("fast", WRONG_AT_20), expert("strong", GOOD.upper()))
    text, done, _ = virtual_run(one_turn(live, experts, options))
    assert [span.author for span in done.consensus.spans] == ["fast", "strong"]
    assert (len(text.split()), done.usage.completion_tokens) == (30, 30)
    assert done.finish_reason == "length"


@pytest.mark.parametrize(("wanted", "tops"), [(None, None), (0, 0), (1, 1)])
def test_verify_shows_the_logprobs_that_were_asked_for_and_no_more(
    virtual_run: Any, live: SimpleNamespace, wanted: int | None, tops: int | None
) -> None:
    async def main() -> None:
        options = replace(OPTIONS, params=GenerationParams(logprobs=wanted))
        experts = (expert("fast", GOOD), expert("strong", GOOD))
        async with live.open_stage(*experts) as stage, stage.session(options) as session:
            seen = await live.answer(session, "tell me")
        shown = [e.logprobs for e in seen if isinstance(e, ResponseTextDelta)]
        if tops is None:
            assert set(shown) == {None}
        else:
            assert {len(entry.top) for entries in shown for entry in entries or ()} == {tops}

    virtual_run(main())


def test_verify_judge_in_time_is_heard_however_long_the_answer(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    slow = expert("strong", GOOD, ttft_s=0.9 * EVERY.deadline_s)
    _, done, took_s = virtual_run(one_turn(live, (expert("fast", GOOD), slow)))
    assert {span.settled_by for span in done.consensus.spans} == {"quorum"}
    assert took_s > 2 * EVERY.deadline_s


def test_verify_draft_that_hangs_at_a_judge_goes_on_a_deadline_after_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        experts = (expert("fast", GOOD), expert("strong", GOOD, ttft_s=1e5))
        options = replace(OPTIONS, speculation="draft")
        async with live.open_stage(*experts) as stage, stage.session(options) as session:
            session.replace("tell me. ")
            await asyncio.sleep(5)
            began = asyncio.get_running_loop().time()
            seen = await live.answer(session)
            took_s = asyncio.get_running_loop().time() - began
        assert live.text_of(seen) == GOOD
        assert took_s == pytest.approx(EVERY.deadline_s)

    virtual_run(main())
