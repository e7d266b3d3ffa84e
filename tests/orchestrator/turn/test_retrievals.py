"""Two retrievals at a time while somebody types; the final query goes first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.events import RetrievalUpdated
from livemind.orchestrator.session import SessionOptions
from livemind.orchestrator.turn.retrievals import Retrievals, Verdict
from livemind.orchestrator.turn.values import Retrieve

OPTIONS = SessionOptions(pinned="strong", retrieval=True, speculation="prefill")
KEYS_S = 1 / 3  # three words a second
TEXTS = {"kestrel": "kestrel port 361", "wren": "wren port 7"}


def partial(text: str, deadline_s: float = 0.6) -> Retrieve:
    return Retrieve(text, 1, partial=True, deadline_s=deadline_s)


def final(text: str, deadline_s: float = 0.6) -> Retrieve:
    return Retrieve(text, 2, partial=False, deadline_s=deadline_s)


WAITS = Verdict()


def test_two_queries_run_and_of_the_newer_ones_the_newest_waits() -> None:
    retrievals = Retrievals()
    assert retrievals.ask(partial("a b"), 0.0) == Verdict(0)
    assert retrievals.ask(partial("a b c"), 0.1) == Verdict(1)
    assert retrievals.ask(partial("a b c d"), 0.2) == WAITS
    assert retrievals.ask(partial("a b c d e"), 0.3) == WAITS
    assert retrievals.answered(1, 0.4) == partial("a b c d e")
    assert retrievals.answered(0, 0.5) is None
    assert retrievals.ask(partial("x"), 0.6) == Verdict(0)


def test_final_query_stops_the_running_ones_and_the_waiting_one() -> None:
    retrievals = Retrievals()
    for text in ("a b", "a b c", "a b c d"):
        retrievals.ask(partial(text), 0.0)
    assert retrievals.ask(final("a b c d e"), 0.2) == Verdict(0, (0, 1))
    assert retrievals.answered(0, 0.3) is None
    assert retrievals.ask(partial("x"), 0.4) == Verdict(0)


@pytest.mark.parametrize(
    ("wait_s", "verdict"),
    [(0.6, Verdict(None, (0,))), (0.5, Verdict(None, (0,))), (0.06, Verdict(0, (0, 1)))],
)
def test_final_query_of_a_running_text_joins_it_when_it_ends_in_time(
    wait_s: float, verdict: Verdict
) -> None:
    retrievals = Retrievals()
    retrievals.ask(partial("a b", 0.6), 0.0)
    retrievals.ask(partial("a b c", 0.6), 0.1)
    retrievals.ask(partial("a b", 0.6), 0.1)  # a word typed and taken back
    assert retrievals.ask(final("a b c", wait_s), 0.2) == verdict
    assert retrievals.answered(verdict.stop[-1] if wait_s < 0.1 else 1, 0.3) is None


def test_deadline_of_a_query_that_waited_counts_from_its_start() -> None:
    retrievals = Retrievals()
    retrievals.ask(partial("a"), 0.0)
    retrievals.ask(partial("a b"), 0.0)
    retrievals.ask(partial("a b c", 0.6), 0.1)
    retrievals.answered(0, 0.5)
    assert retrievals.ask(final("a b c", 0.5), 0.6) == Verdict(None, (1,))
    assert retrievals.ask(final("a b c", 0.4), 0.6) == Verdict(0, (0,))


def test_cleared_nothing_runs_or_waits() -> None:
    retrievals = Retrievals()
    for text in ("a b", "a b c", "a b c d"):
        retrievals.ask(partial(text), 0.0)
    retrievals.clear()
    assert retrievals.ask(partial("d e"), 0.1) == Verdict(0)
    assert retrievals.answered(0, 0.2) is None


def test_retrieval_slower_than_the_words_answers_while_they_are_typed(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever(TEXTS, delay_s=0.55)
        async with (
            live.open_stage(FakeExpert("strong"), retriever=retriever) as stage,
            stage.session(OPTIONS) as session,
        ):
            text = "where does kestrel listen when the machine has just been booted"
            most = 0
            for word in text.split():
                session.append(word + " ")
                await asyncio.sleep(0.01)
                most = max(most, retriever.running)
                await asyncio.sleep(KEYS_S - 0.01)
            asked = [len(query.split()) for query in retriever.asked]
            assert (asked, most) == ([2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 2)
            seen = await live.answer(session, text)
            assert live.done_of(seen).timings.retrieval_lead_ms > 300

    virtual_run(main())


def test_retrieval_slower_than_two_words_skips_the_texts_in_between(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever(TEXTS, delay_s=0.9)
        slow = {"retrieve_deadline_s": 1.0}
        async with (
            live.open_stage(FakeExpert("strong"), retriever=retriever) as stage,
            stage.session(OPTIONS, **slow) as session,
        ):
            text = "where does kestrel listen when the machine starts"
            for word in text.split():
                session.append(word + " ")
                await asyncio.sleep(KEYS_S)
            assert [len(query.split()) for query in retriever.asked] == [2, 3, 4, 5, 7, 8]
            assert retriever.running == 2

    virtual_run(main())


def test_commit_while_another_text_is_retrieved_waits_for_its_own_retrieval_alone(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever(TEXTS, delay_s=0.5)
        async with (
            live.open_stage(FakeExpert("strong"), retriever=retriever) as stage,
            stage.session(OPTIONS) as session,
        ):
            for word in ("port of ", "the ", "kestrel "):  # the third waits behind the two
                session.append(word)
                await asyncio.sleep(0.1)
            began_s = asyncio.get_running_loop().time()
            seen = await live.answer(session, "port of the kestrel and wren")
            assert retriever.asked == ["port of", "port of the", "port of the kestrel and wren"]
            assert retriever.running == 0
            first = next(event for event in seen if isinstance(event, RetrievalUpdated))
            assert [p.id for p in first.passages] == ["wren", "kestrel"]
            assert live.done_of(seen).timings.ttft_ms >= 500
            assert asyncio.get_running_loop().time() - began_s < 0.9

    virtual_run(main())
