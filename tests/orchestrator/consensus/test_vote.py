"""`vote` in whole turns on fakes: who wins, who waits for whom, who abstains."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Message
from livemind.backends.errors import ExpertOverloaded, ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.consensus.team import Team
from livemind.orchestrator.consensus.vote import Ballot, winner
from livemind.orchestrator.session import SessionOptions

NUMBER = Consensus("vote", deadline_s=1.0, answer="number")
VOTE = SessionOptions(pinned="strong", consensus=NUMBER)
OFF = replace(VOTE, speculation="off")
ACCURACY = {"strong": 0.9, "fast": 0.8, "third": 0.8}


def says(text: str) -> Any:
    def answer(messages: Sequence[Message]) -> str:
        return text

    return answer


def expert(name: str, text: str, **given: Any) -> FakeExpert:
    return FakeExpert(name, answer=says(text), **{"token_s": 0.01, **given})


def team(experts: Sequence[FakeExpert]) -> Team:
    names = [expert.expert_id for expert in experts]
    shares = {name: {"general": ACCURACY[name]} for name in names}
    return Team(dict.fromkeys(names, "general"), "fast", shares)


async def one_turn(
    live: SimpleNamespace, experts: Sequence[FakeExpert], options: SessionOptions = OFF
) -> Any:
    """Return (text, done, seconds) of one committed turn."""
    async with live.open_stage(*experts) as stage:
        stage.shared.team = team(experts)
        async with stage.session(options) as session:
            began = asyncio.get_running_loop().time()
            seen = await live.answer(session, "how many?")
            took_s = asyncio.get_running_loop().time() - began
        assert all(expert.running == 0 for expert in experts)
        return live.text_of(seen), live.done_of(seen), took_s


def test_vote_two_that_agree_outweigh_the_leader(virtual_run: Any, live: SimpleNamespace) -> None:
    experts = (
        expert("strong", "it is 4"),
        expert("fast", "it is 5"),
        expert("third", "5.0 pieces"),
    )
    text, done, _ = virtual_run(one_turn(live, experts))
    (span,) = done.consensus.spans
    assert (text, done.status, done.consensus.policy) == ("it is 5", "completed", "vote")
    assert (span.author, span.settled_by, span.characters) == ("fast", "quorum", len(text))
    assert {vote.expert: vote.choice for vote in span.votes} == {
        "strong": "4",
        "fast": "5",
        "third": "5",
    }
    assert 0.5 < span.agreement < 1
    assert done.consensus.generated_tokens == 3 + 3 + 2


def test_vote_of_equals_the_leader_breaks_the_tie(virtual_run: Any, live: SimpleNamespace) -> None:
    experts = (expert("strong", "4", ttft_s=0.5), expert("fast", "5"))
    assert virtual_run(one_turn(live, experts))[0] == "4"


def test_vote_stops_the_rest_once_no_rival_can_win(virtual_run: Any, live: SimpleNamespace) -> None:
    slow = expert("third", "5 " + "word " * 200)
    text, done, took_s = virtual_run(
        one_turn(live, (expert("strong", "4"), expert("fast", "4"), slow))
    )
    assert (text, slow.aborted) == ("4", 1)
    assert took_s < 0.1
    assert [entry.expert for entry in done.consensus.abstained] == ["third"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda e: setattr(e, "refuse", ExpertUnavailable("strong", "dead")), "dead"),
        (lambda e: setattr(e, "crash_after_tokens", 1), "not running"),
        (lambda e: setattr(e, "ttft_s", 1e6), "not heard (deadline)"),
        (lambda e: setattr(e, "answer", says("no idea at all")), "no number"),
    ],
    ids=["killed", "dies", "hangs", "rubbish"],
)
def test_vote_without_its_leader_is_settled_by_the_others_who_name_it(
    virtual_run: Any, live: SimpleNamespace, broken: Any, reason: str
) -> None:
    strong = expert("strong", "it is 4")
    broken(strong)
    experts = (strong, expert("fast", "5"), expert("third", "5"))
    text, done, took_s = virtual_run(one_turn(live, experts))
    assert (text, done.status) == ("5", "completed")
    assert took_s <= NUMBER.deadline_s + 0.01
    (abstained,) = done.consensus.abstained
    assert abstained.expert == "strong"
    assert reason in abstained.reason


def test_vote_leader_that_is_loading_is_not_waited_for_beyond_the_deadline(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        experts = (expert("strong", "4", start_s=20.0), expert("fast", "5"))
        async with live.open_stage(*experts, warm=["fast"]) as stage:
            stage.shared.team = team(experts)
            async with stage.session(OFF) as session:
                began = asyncio.get_running_loop().time()
                seen = await live.answer(session, "how many?")
                took_s = asyncio.get_running_loop().time() - began
            assert (live.text_of(seen), live.done_of(seen).status) == ("5", "completed")
            assert took_s <= NUMBER.deadline_s + 0.1
            assert live.done_of(seen).consensus.abstained[0].reason == "not loaded in time"

    virtual_run(main())


def test_vote_nobody_says_a_number_the_leader_is_shown(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    experts = (expert("strong", "none here"), expert("fast", "nor here"))
    text, done, _ = virtual_run(one_turn(live, experts))
    assert text == "none here"
    assert done.consensus.spans[0].settled_by == "leader"
    assert done.consensus.spans[0].agreement is None


def test_vote_everybody_fails_the_turn_fails_once(virtual_run: Any, live: SimpleNamespace) -> None:
    experts = (expert("strong", "4"), expert("fast", "4"))
    for each in experts:
        each.refuse = ExpertUnavailable(each.expert_id, "dead")
    text, done, _ = virtual_run(one_turn(live, experts))
    assert (text, done.status, done.error.code) == ("", "failed", "expert_unavailable")
    assert {entry.expert for entry in done.consensus.abstained} == {"strong", "fast"}


def test_vote_overload_of_the_leader_reaches_the_client_where_the_others_fail_too(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        experts = (expert("strong", "4"), expert("fast", "4"))
        experts[0].start_error = ExpertOverloaded("strong", "no memory for it now", 7.0)
        experts[1].refuse = ExpertUnavailable("fast", "dead")
        async with (
            live.open_stage(*experts, warm=["fast"]) as stage,
            stage.session(OFF) as session,
        ):
            done = live.done_of(await live.answer(session, "how many?"))
        assert (done.status, done.error.code) == ("failed", "overloaded")

    virtual_run(main())


def test_vote_in_the_typing_gap_is_settled_before_the_commit_and_in_the_books(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        experts = (expert("strong", "it is 4"), expert("fast", "4"), expert("third", "7 or 5"))
        async with live.open_stage(*experts) as stage:
            stage.shared.team = team(experts)
            async with stage.session(VOTE) as session:
                await live.type_text(session, "how many?")
                await asyncio.sleep(1)
                seen = await live.answer(session)
            done = live.done_of(seen)
            (span,) = done.consensus.spans
            assert live.text_of(seen) == "it is 4"
            assert (span.before_commit, span.added_ms, done.timings.ttft_ms) == (True, 0.0, 0.0)
            ledger = done.ledger
            generated = sum(each.generated_tokens for each in experts)
            assert ledger.draft_speculated == generated == done.consensus.generated_tokens
            assert ledger.draft_adopted == 3
            assert ledger.draft_wasted == generated - 3

    virtual_run(main())


@pytest.mark.parametrize("committed", ["how many?", "how many now?"], ids=["same", "another"])
def test_vote_in_the_typing_gap_the_prompts_of_all_voters_are_in_the_books(
    virtual_run: Any, live: SimpleNamespace, committed: str
) -> None:
    async def main() -> None:
        experts = (expert("strong", "it is 4"), expert("fast", "4"), expert("third", "7 or 5"))
        async with live.open_stage(*experts) as stage:
            stage.shared.team = team(experts)
            async with stage.session(VOTE) as session:
                await live.type_text(session, "how many?")
                await asyncio.sleep(1)
                before = sum(each.prefilled_tokens for each in experts)
                ledger = live.done_of(await live.answer(session, committed)).ledger
            assert before > experts[0].prefilled_tokens
            assert ledger.prefill_speculated == before
            assert ledger.prefill_adopted <= experts[0].prefilled_tokens

    virtual_run(main())


def test_vote_interrupted_by_foreground_work_starts_anew_at_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        experts = (expert("strong", "it is 4", token_s=0.3), expert("fast", "4 of 5", token_s=0.3))
        async with live.open_stage(*experts) as stage:
            stage.shared.team = team(experts)
            async with stage.session(VOTE) as session, stage.session(OFF) as other:
                session.replace("how many?")
                await asyncio.sleep(0.5)
                assert experts[1].running == 1
                other.request_commit("now")
                await asyncio.sleep(0.2)
                assert experts[1].aborted == 1
                done = live.done_of(await live.answer(session))
            assert (done.status, done.ledger.draft_adopted) == ("completed", 0)

    virtual_run(main())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_winner_does_not_depend_on_who_was_faster(order: tuple[int, ...]) -> None:
    ballots = [Ballot("a", 2.0), Ballot("b", 1.5), Ballot("c", 1.5)]
    answers = [("4", 0.6), ("5", 1.4), ("5", 1.1)]
    decided = []
    for number in order:
        ballots[number].vote, ballots[number].weight = answers[number]
        ballots[number].cast = True
        if (found := winner(ballots)) is not None:
            decided.append(found.expert)
    assert set(decided) == {"b"}
