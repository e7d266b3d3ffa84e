"""From frames and events of ``/v1/live`` to lines of a recording."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.orchestrator.cli.record.live_turns import LiveTurns
from livemind.orchestrator.cli.record.turns import MAX_CHARS, MAX_MS, Turns

Json = dict[str, Any]


def made() -> LiveTurns:
    return LiveTurns(Turns("s", texts=True))


def done(revision: int, **given: Any) -> Json:
    return {"type": "response.done", "revision": revision, "status": "completed",
            "response_id": f"r{revision}", **given}  # fmt: skip


def append(text: str, **given: Any) -> Json:
    return {"type": "input_text.append", "text": text, **given}


def replace(text: str) -> Json:
    return {"type": "input_text.replace", "text": text}


def test_turn_becomes_one_line_a_state_and_a_final_one_with_its_figures() -> None:
    turns = made()
    turns.sent({"type": "session.update"}, 0.0)
    turns.sent(append("What "), 10.0)
    turns.sent(append("is"), 10.2)
    turns.sent(replace("What was"), 10.5)
    turns.sent({"type": "input_text.commit", "text": None}, 11.0)
    assert (
        turns.received({"type": "response.created", "response_id": "r4", "revision": 4}, 11) == []
    )
    turns.received({"type": "response.output_text.delta", "response_id": "r4", "delta": "a"}, 11.02)
    turns.received({"type": "response.output_text.delta", "response_id": "r4", "delta": "b"}, 11.9)
    ledger = {"prefill_wasted": 3, "draft_wasted": 2, "draft_adopted": 7}
    lines = turns.received(done(4, expert="one", ledger=ledger), 12.0)
    assert [(line["t_ms"], line["text"], line["final"]) for line in lines] == [
        (0.0, "What ", False),
        (200.0, "What is", False),
        (500.0, "What was", False),
        (1000.0, "What was", True),
    ]
    assert {line["id"] for line in lines} == {"s-1"}
    figures = lines[-1]["turn"]
    assert (figures["ttft_ms"], figures["expert"], figures["tokens_wasted"]) == (20.0, "one", 5)


def test_text_of_the_commit_wins_and_a_paste_has_a_final_line_alone() -> None:
    turns = made()
    turns.sent({"type": "input_text.commit", "text": "pasted", "revision": 7}, 3.0)
    [line] = turns.received(done(7), 4.0)
    assert (line["text"], line["t_ms"], line["final"]) == ("pasted", 0.0, True)


def test_turns_that_did_not_end_well_leave_no_line_and_the_next_is_told_apart() -> None:
    turns = made()
    for revision, text in ((5, "refused"), (6, "cancelled"), (7, "answered")):
        turns.sent({"type": "input_text.commit", "text": text, "revision": revision}, 1.0)
    assert turns.received(done(6, status="cancelled"), 2.0) == []
    [line] = turns.received(done(7), 3.0)
    assert line["text"] == "answered"
    assert turns.received(done(7), 4.0) == []


def test_cleared_input_begins_anew() -> None:
    turns = made()
    turns.sent(append("first"), 1.0)
    turns.sent({"type": "input_text.clear"}, 2.0)
    turns.sent(append("second"), 5.0)
    turns.sent({"type": "input_text.commit"}, 6.0)
    lines = turns.received(done(4), 7.0)
    assert [(line["t_ms"], line["text"]) for line in lines] == [(0.0, "second"), (1000.0, "second")]


@pytest.mark.parametrize("frame", [{}, {"type": 3}, {"type": "input_text.append", "text": 4}])
def test_frames_that_are_none_change_nothing(frame: Json) -> None:
    turns = made()
    turns.sent(frame, 1.0)
    assert turns.received({"type": "response.done", "revision": 0}, 1.0) == []


def test_turn_without_end_is_bounded() -> None:
    turns = made()
    for number in range(20):
        turns.sent(replace(str(number) + "x" * (MAX_CHARS // 10)), float(number))
    turns.sent({"type": "input_text.commit"}, 30.0)
    lines = turns.received(done(21), 31.0)
    assert sum(len(line["text"]) for line in lines[:-1]) <= MAX_CHARS
    turns.sent(append("slept on"), 40.0)
    turns.sent({"type": "input_text.commit"}, 41.0 + MAX_MS / 1000)
    assert turns.received(done(23), 10_000.0) == []
