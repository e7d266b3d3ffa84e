"""The ledger of a turn balances, and what is unknown stays unknown."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from livemind.backends.base import Chunk, TokenPrompt, Usage
from livemind.orchestrator.consensus.report import Report
from livemind.orchestrator.errors import ErrorInfo
from livemind.orchestrator.events import Ledger, Timings
from livemind.orchestrator.rates import ExpertRates
from livemind.orchestrator.turn.ledger import TurnRecord
from livemind.orchestrator.turn.shared import Computed

counts = st.integers(0, 10_000)
usages = st.none() | st.builds(Usage, counts, counts, st.none() | counts)


@settings(max_examples=30, deadline=None)
@given(
    prefilled=st.dictionaries(st.sampled_from(["fast", "strong"]), counts),
    drafts=st.tuples(counts, counts),
    usage=usages,
    expert=st.sampled_from([None, "strong", "other"]),
)
def test_ledger_any_counts_balances(
    prefilled: dict[str, int], drafts: tuple[int, int], usage: Usage | None, expert: str | None
) -> None:
    adopted, wasted = drafts
    record = TurnRecord(
        expert=expert,
        usage=usage,
        prefilled=Counter(prefilled),
        draft_speculated=adopted + wasted,
        draft_adopted=adopted,
        draft_wasted=wasted,
    )
    ledger = record.ledger()
    assert ledger.prefill_speculated == sum(prefilled.values())
    assert ledger.prefill_speculated == ledger.prefill_adopted + ledger.prefill_wasted
    assert ledger.draft_speculated == ledger.draft_adopted + ledger.draft_wasted
    assert min(ledger.prefill_adopted, ledger.prefill_wasted) >= 0
    assert sum(ledger.prefill_by_expert.values()) == ledger.prefill_speculated


@pytest.mark.parametrize(
    ("computed", "cached", "adopted"), [(40, 64, 40), (64, 40, 40), (40, 0, 0)]
)
def test_prefill_is_adopted_as_far_as_it_was_found_cached(
    computed: int, cached: int, adopted: int
) -> None:
    record = TurnRecord(expert="strong", usage=Usage(100, 5, cached))
    record.prefilled["strong"] += computed
    assert record.ledger().prefill_adopted == adopted


def test_prefill_of_another_expert_is_wasted() -> None:
    record = TurnRecord(expert="strong", usage=Usage(100, 5, 64))
    record.prefilled["fast"] += 64
    assert record.ledger().prefill_wasted == 64
    assert record.ledger().prefill_by_expert == {"fast": 64}


def test_prefill_is_told_by_expert() -> None:
    record = TurnRecord(expert="strong", usage=Usage(100, 5, 64))
    record.prefilled.update(fast=30, strong=64, other=0)
    assert record.ledger().prefill_by_expert == {"fast": 30, "strong": 64}


@pytest.mark.parametrize(
    ("prefilled", "draft", "usage", "multiplier"),
    [
        (0, 0, Usage(80, 20, 0), 1.0),
        (64, 0, Usage(80, 20, 64), 1.0),
        (100, 0, Usage(80, 20, 64), 1.36),
        (0, 30, Usage(80, 20, 0), 1.3),
    ],
)
def test_cost_multiplier_compares_with_the_same_turn_without_speculation(
    prefilled: int, draft: int, usage: Usage, multiplier: float
) -> None:
    record = TurnRecord(expert="e", usage=usage, draft_speculated=draft, draft_wasted=draft)
    record.prefilled["e"] += prefilled
    assert record.ledger().cost_multiplier == multiplier


def test_prompt_that_an_adopted_draft_computed_is_adopted_with_it() -> None:
    record = TurnRecord(expert="e", usage=Usage(80, 20, 64), draft_speculated=20, draft_adopted=20)
    record.prefilled["e"], record.draft_prompt = 64 + 16, 16
    ledger = record.ledger()
    assert (ledger.prefill_adopted, ledger.cost_multiplier) == (80, 1.0)


def asked(*tokens: int) -> Report:
    report = Report()
    report.asks(TokenPrompt(tokens, len(tokens)))
    return report


PROMPT = tuple(range(100))


@pytest.mark.parametrize(
    ("pieces", "cached", "adopted"),
    [
        ([(PROMPT[:40], 40)], 64, 40),
        ([(PROMPT[:64], 24)], 64, 24),
        ([(PROMPT[:64], 24)], 48, 8),
        ([(PROMPT[:32], 32), (PROMPT[:64], 32)], 64, 64),
        ([((*PROMPT[:16], *range(900, 940)), 56)], 64, 16),
        ([(tuple(range(900, 940)), 40)], 64, 0),
        ([(PROMPT[:64], 64), (PROMPT[:64], 24)], 64, 64),
        ([(PROMPT[:64], 64)], 0, 0),
    ],
    ids=[
        "all of it",
        "the rest was there before",
        "not all of it was found",
        "slice by slice",
        "the text was edited",
        "another text",
        "computed twice",
        "lost from the cache",
    ],
)
def test_prefill_is_adopted_where_the_prompt_has_what_the_session_computed(
    pieces: list[tuple[tuple[int, ...], int]], cached: int, adopted: int
) -> None:
    """What another session, or an earlier turn, put into the cache is not this turn's."""
    record = TurnRecord(expert="e", usage=Usage(100, 5, cached), report=asked(*PROMPT))
    for prompt, tokens in pieces:
        record.computed("e", Computed(prompt, tokens))
    ledger = record.ledger()
    assert ledger.prefill_adopted == adopted
    assert ledger.prefill_speculated == sum(tokens for _, tokens in pieces)


@pytest.mark.parametrize(("paused", "adopted"), [(False, 10), (True, 36)])
def test_draft_did_not_compute_what_it_found_in_the_cache(paused: bool, adopted: int) -> None:
    """A paused draft's own part is found by the request that goes on with it."""
    record = TurnRecord(
        expert="e",
        usage=Usage(100, 5, 90),
        report=asked(*PROMPT),
        draft_adopted=5,
        draft_speculated=5,
        draft_prompt=36,
        draft_paused=paused,
    )
    record.prefilled["e"] = 36
    assert record.ledger().prefill_adopted == adopted


def test_answer_that_was_broken_off_has_the_usage_of_its_prompt_and_text() -> None:
    record = TurnRecord(expert="e", report=asked(*PROMPT))
    record.showed(Chunk("a b", (1, 2)))
    record.showed(Chunk(" c"))
    record.complete_usage()
    assert record.usage == Usage(100, 3)
    assert record.ledger().cost_multiplier is None


def test_usage_that_the_expert_told_is_kept() -> None:
    record = TurnRecord(expert="e", report=asked(*PROMPT), usage=Usage(99, 7, 3))
    record.complete_usage()
    assert record.usage == Usage(99, 7, 3)
    unknown = TurnRecord(expert="e")
    unknown.complete_usage()
    assert unknown.usage is None


def test_prompt_of_a_lost_draft_is_wasted() -> None:
    record = TurnRecord(expert="e", usage=Usage(80, 20, 64), draft_speculated=5, draft_wasted=5)
    record.prefilled["e"], record.draft_prompt = 64 + 16, 16
    ledger = record.ledger()
    assert (ledger.prefill_adopted, ledger.cost_multiplier) == (64, 1.21)


def test_adopted_draft_costs_nothing_extra() -> None:
    record = TurnRecord(expert="e", usage=Usage(80, 20, 0), draft_speculated=20, draft_adopted=20)
    assert record.ledger().cost_multiplier == 1.0


@pytest.mark.parametrize("usage", [None, Usage(0, 0, 0)])
def test_cost_multiplier_without_an_answer_is_unknown(usage: Usage | None) -> None:
    assert TurnRecord(expert="e", usage=usage).ledger().cost_multiplier is None


def test_timings_of_a_turn_that_did_nothing_are_unknown() -> None:
    assert TurnRecord().timings(5.0, None) == Timings()


def test_timings_are_milliseconds_from_the_commit() -> None:
    record = TurnRecord(first_input_s=1.0, commit_s=3.0, first_delta_s=3.05)
    timings = record.timings(3.5, 80.0)
    assert (timings.typing_ms, timings.ttft_ms, timings.total_ms) == (2000, 50, 500)
    assert timings.estimated_ttft_ms_without == 80.0


@pytest.mark.parametrize(("ready_s", "lead_ms"), [(2.5, 500), (3.0, 0), (3.1, None), (None, None)])
@pytest.mark.parametrize(
    ("moment", "lead"),
    [
        ("route_stable_s", "route_lead_ms"),
        ("documents_frozen_s", "retrieval_lead_ms"),
        ("prefill_ready_s", "prefill_lead_ms"),
        ("draft_ready_s", "draft_lead_ms"),
    ],
)
def test_lead_counts_only_when_ready_before_the_commit(
    moment: str, lead: str, ready_s: float | None, lead_ms: float | None
) -> None:
    record = TurnRecord(expert="e", commit_s=3.0, draft_adopted=1)
    if isinstance(getattr(record, moment), dict):
        getattr(record, moment).update({} if ready_s is None else {"e": ready_s})
    else:
        setattr(record, moment, ready_s)
    assert getattr(record.timings(4.0, None), lead) == lead_ms


def test_draft_that_was_not_adopted_has_no_lead() -> None:
    record = TurnRecord(commit_s=3.0, draft_ready_s=1.0)
    assert record.timings(4.0, None).draft_lead_ms is None


def test_record_keeps_usage_and_reason_of_the_last_chunk() -> None:
    record = TurnRecord()
    record.saw(Chunk("a", (1,)), 1.0)
    record.saw(Chunk("b", (2,), finish_reason="length", usage=Usage(3, 2)), 1.0)
    assert (record.usage, record.finish_reason) == (Usage(3, 2), "length")


def test_record_keeps_usage_and_reason_that_come_apart() -> None:
    record = TurnRecord()
    record.saw(Chunk("b", (2,), finish_reason="length"), 1.0)
    record.saw(Chunk("", usage=Usage(3, 2)), 1.0)
    assert (record.usage, record.finish_reason) == (Usage(3, 2), "length")


def test_terminal_event_carries_the_books() -> None:
    error = ErrorInfo(503, "gone", "server_error", None, "expert_unavailable")
    record = TurnRecord(expert="e", commit_s=1.0, degraded=("timeout",), usage=Usage(10, 1))
    rates = ExpertRates(prefill_ms_per_token=2.0, decode_ms=5.0)
    done = record.end("r1", 4, "failed", error, now_s=2.0, rates=rates)
    assert (done.response_id, done.revision, done.status) == ("r1", 4, "failed")
    assert (done.expert, done.error, done.degraded) == ("e", error, ("timeout",))
    assert done.timings.estimated_ttft_ms_without == 25.0
    assert done.ledger == Ledger(cost_multiplier=1.0)


def test_turn_that_ended_keeps_its_first_end() -> None:
    record = TurnRecord(expert="e", commit_s=1.0)
    done = record.end("r1", 4, "cancelled", None, now_s=2.0, rates=None)
    assert record.end("r1", 4, "completed", None, now_s=3.0, rates=None) is done is record.ended


def test_first_delta_is_the_first_chunk_that_shows_anything() -> None:
    record = TurnRecord(commit_s=1.0)
    seen = [
        record.saw(chunk, 2.0 + n) for n, chunk in enumerate((Chunk(""), Chunk("a"), Chunk("b")))
    ]
    assert (seen, record.first_delta_s) == ([False, True, True], 3.0)


@pytest.mark.parametrize("usage", [None, Usage(10, 1)])
@pytest.mark.parametrize("rates", [None, ExpertRates(), ExpertRates(2.0), ExpertRates(None, 5.0)])
def test_estimate_from_unmeasured_rates_is_unknown(
    rates: ExpertRates | None, usage: Usage | None
) -> None:
    done = TurnRecord(usage=usage).end("r", 1, "completed", None, now_s=1.0, rates=rates)
    assert done.timings.estimated_ttft_ms_without is None


def test_leads_are_those_of_the_answering_expert() -> None:
    record = TurnRecord(expert="strong", commit_s=3.0)
    record.route_stable_s.update(fast=1.0, strong=2.0)
    record.prefill_ready_s.update(fast=1.0)
    timings = record.timings(4.0, None)
    assert (timings.route_lead_ms, timings.prefill_lead_ms) == (1000, None)
