"""The status line and the summary of ``livemind chat``: pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.backends.base import Usage
from livemind.orchestrator.cli.chat.view import ChatView, summary
from livemind.orchestrator.errors import ErrorInfo
from livemind.orchestrator.events import (
    DraftAdopted,
    DraftCreated,
    DraftDiscarded,
    ExpertUpdated,
    Ledger,
    PrefillUpdated,
    ResponseDone,
    RetrievalUpdated,
    RetrievedPassage,
    RouteUpdated,
    Timings,
)
from livemind.orchestrator.server.live.answers import error_frame


def shown(*events: Any) -> str:
    view = ChatView()
    for event in events:
        view.apply(event)
    return view.status_line()


def test_view_before_any_event_shows_every_stage_as_open() -> None:
    assert shown() == "route -  │  documents -  │  prefill -  │  draft -"


def test_view_shows_route_with_confidence_and_the_stable_mark() -> None:
    route = RouteUpdated(1, "technical", "technical", 0.834, (), False)
    assert "route technical 0.83  │" in shown(route)
    stable = RouteUpdated(2, "technical", "technical", 0.9, (), True)
    assert "route technical 0.90 ✓" in shown(route, stable)


def test_view_shows_the_number_of_documents_or_why_they_are_missing() -> None:
    passages = (RetrievedPassage("a", "a.md", 1.0), RetrievedPassage("b", "b.md", 0.5))
    assert "documents 2 ✓" in shown(RetrievalUpdated(1, passages, True))
    assert "documents: timeout" in shown(RetrievalUpdated(1, (), False, "timeout"))


@pytest.mark.parametrize(
    ("ready", "total", "bar"), [(0, 0, "░" * 10), (30, 100, "███░░░░░░░"), (9, 9, "█" * 10)]
)
def test_view_shows_prefill_as_a_bar(ready: int, total: int, bar: str) -> None:
    assert f"prefill {bar} {ready}/{total}" in shown(PrefillUpdated(1, "x", ready, total))


def test_view_follows_the_draft() -> None:
    created, adopted = DraftCreated("d", "x", 1), DraftAdopted("d", "x", 1, 12)
    assert "draft x is drafting" in shown(created)
    assert "draft dropped" in shown(created, DraftDiscarded("d", "x", 1, 5, "input changed"))
    assert "draft adopted, 12 tokens" in shown(created, adopted)


def test_view_names_an_expert_while_it_loads() -> None:
    assert "coding loads" in shown(ExpertUpdated("coding", "loading"))
    assert "coding" not in shown(
        ExpertUpdated("coding", "loading"), ExpertUpdated("coding", "ready")
    )


def test_view_shows_an_error_instead_until_the_next_turn() -> None:
    view = ChatView()
    view.apply(error_frame(ErrorInfo(400, "too long", "invalid_request_error", None, "x")))
    assert view.status_line() == "too long"
    view.begin()
    assert view.status_line().startswith("route -")


def ended(**fields: Any) -> ResponseDone:
    return ResponseDone("r", 1, "completed", "technical", "stop", Usage(10, 2, 8), **fields)


def test_summary_tells_waiting_time_leads_and_cost() -> None:
    done = ended(
        timings=Timings(
            ttft_ms=1.25,
            route_lead_ms=1900,
            prefill_lead_ms=420,
            estimated_ttft_ms_without=412,
        ),
        ledger=Ledger(100, 90, 10, 20, 20, 0),
    )
    assert summary(done, 3.14) == (
        "technical · first word after 3.14 ms (server 1.25 ms), without LiveMind about 412 ms"
        " · ready before Enter: route 1.9 s, prefill 420 ms · tokens ahead: 110 used, 10 wasted"
    )


def test_summary_leaves_out_what_did_not_happen() -> None:
    done = ended(degraded=("retrieval: timeout",))
    assert summary(done, None) == (
        "technical · no text · tokens ahead: 0 used, 0 wasted · degraded: retrieval: timeout"
    )
