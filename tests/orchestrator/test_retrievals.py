"""One retrieval at a time while somebody types; the final query goes first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.events import RetrievalUpdated
from livemind.orchestrator.retrievals import Retrievals, Turn
from livemind.orchestrator.session import SessionOptions
from livemind.orchestrator.turn import Retrieve

OPTIONS = SessionOptions(pinned="strong", retrieval=True, speculation="prefill")
KEYS_S = 1 / 3  # three words a second
TEXTS = {"kestrel": "kestrel port 361", "wren": "wren port 7"}


def partial(text: str, deadline_s: float = 0.6) -> Retrieve:
    return Retrieve(text, 1, partial=True, deadline_s=deadline_s)


def final(text: str, deadline_s: float = 0.6) -> Retrieve:
    return Retrieve(text, 2, partial=False, deadline_s=deadline_s)


def test_first_query_starts_and_newer_ones_wait_the_newest_alone() -> None:
    retrievals = Retrievals()
    assert retrievals.ask(partial("a b"), 0.0) is Turn.START
    assert retrievals.ask(partial("a b c"), 0.1) is Turn.WAIT
    assert retrievals.ask(partial("a b c d"), 0.2) is Turn.WAIT
    assert retrievals.answered(0.3) == partial("a b c d")
    assert retrievals.answered(0.6) is None
    assert retrievals.ask(partial("x"), 0.7) is Turn.START


def test_final_query_replaces_the_running_and_the_waiting_one() -> None:
    retrievals = Retrievals()
    retrievals.ask(partial("a b"), 0.0)
    retrievals.ask(partial("a b c"), 0.1)
    assert retrievals.ask(final("a b c d"), 0.2) is Turn.REPLACE
    assert retrievals.answered(0.3) is None


@pytest.mark.parametrize(
    ("wait_s", "turn"), [(0.6, Turn.JOIN), (0.4, Turn.JOIN), (0.06, Turn.REPLACE)]
)
def test_final_query_of_the_running_text_joins_it_when_it_ends_in_time(
    wait_s: float, turn: Turn
) -> None:
    retrievals = Retrievals()
    retrievals.ask(partial("a b", 0.6), 0.0)
    retrievals.ask(partial("a", 0.6), 0.1)  # a word typed and taken back
    assert retrievals.ask(final("a b", wait_s), 0.2) is turn
    assert retrievals.answered(0.3) is None


def test_deadline_of_a_query_that_waited_counts_from_its_start() -> None:
    retrievals = Retrievals()
    retrievals.ask(partial("a b"), 0.0)
    retrievals.ask(partial("a b c", 0.6), 0.1)
    retrievals.answered(0.5)
    assert retrievals.ask(final("a b c", 0.5), 0.6) is Turn.JOIN
    assert retrievals.ask(final("a b c", 0.4), 0.6) is Turn.REPLACE


def test_cleared_nothing_waits() -> None:
    retrievals = Retrievals()
    retrievals.ask(partial("a b"), 0.0)
    retrievals.ask(partial("a b c"), 0.0)
    retrievals.clear()
    assert retrievals.ask(partial("d e"), 0.1) is Turn.START


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
            for word in text.split():
                session.append(word + " ")
                await asyncio.sleep(KEYS_S)
            asked = [len(query.split()) for query in retriever.asked]
            assert asked == [2, 3, 5, 6, 8, 10, 11]  # the newest when the one before it answered
            seen = await live.answer(session, text)
            assert live.done_of(seen).timings.retrieval_lead_ms > 0

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
            session.append("port of ")
            await asyncio.sleep(0.3)
            session.append("kestrel ")  # waits behind the first
            await asyncio.sleep(0.1)
            began_s = asyncio.get_running_loop().time()
            seen = await live.answer(session, "port of kestrel and wren")
            assert retriever.asked == ["port of", "port of kestrel and wren"]
            assert retriever.running == 0
            first = next(event for event in seen if isinstance(event, RetrievalUpdated))
            assert [p.id for p in first.passages] == ["wren", "kestrel"]
            assert live.done_of(seen).timings.ttft_ms >= 500
            assert asyncio.get_running_loop().time() - began_s < 0.9

    virtual_run(main())
