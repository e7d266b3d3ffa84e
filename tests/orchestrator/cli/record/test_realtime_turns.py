"""From frames and events of ``/v1/realtime`` to lines of a recording."""

from __future__ import annotations

from typing import Any

from livemind.orchestrator.cli.record.realtime_turns import RealtimeTurns
from livemind.orchestrator.cli.record.turns import Turns

Json = dict[str, Any]
ASK: Json = {"type": "response.create"}


def made() -> RealtimeTurns:
    return RealtimeTurns(Turns("s", texts=True))


def item(text: str, role: str = "user") -> Json:
    content = [{"type": "input_text", "text": text}]
    said = {"type": "message", "role": role, "content": content}
    return {"type": "conversation.item.create", "item": said}


def typed(text: str, kind: str = "replace") -> Json:
    return {"type": f"input_text.{kind}", "text": text}


def answer(turns: RealtimeTurns, name: str, at_s: float, status: str = "completed") -> list[Json]:
    told = {"id": name, "status": status, "livemind": {"expert": "one"}}
    turns.received({"type": "response.created", "response": {"id": name}}, at_s)
    turns.received({"type": "response.output_text.delta", "response_id": name}, at_s)
    return turns.received({"type": "response.done", "response": told}, at_s + 1)


def test_item_that_is_asked_is_a_turn_with_its_time_and_figures() -> None:
    turns = made()
    turns.sent(item("What is it?"), 10.0)
    turns.sent(ASK, 10.5)
    lines = answer(turns, "r1", 10.6)
    assert [(line["t_ms"], line["text"]) for line in lines] == [
        (0.0, "What is it?"),
        (500.0, "What is it?"),
    ]
    assert (lines[-1]["turn"]["expert"], lines[-1]["turn"]["ttft_ms"]) == ("one", 100.0)


def test_partial_text_before_its_item_is_the_typing_of_the_turn() -> None:
    turns = made()
    turns.sent(typed("What "), 1.0)
    turns.sent(typed("is it", "append"), 1.5)
    turns.sent(item("What is it"), 2.0)
    turns.sent(ASK, 2.1)
    lines = answer(turns, "r1", 2.2)
    assert [line["text"] for line in lines] == ["What ", "What is it", "What is it"]


def test_text_typed_behind_an_item_belongs_to_the_next_turn() -> None:
    turns = made()
    turns.sent(item("first"), 1.0)
    turns.sent(typed("sec", "append"), 1.5)
    turns.sent(ASK, 2.0)
    assert answer(turns, "r1", 2.1)[-1]["text"] == "first"
    turns.sent(typed("ond", "append"), 3.0)
    turns.sent({"type": "input_text.commit"}, 4.0)
    lines = answer(turns, "r2", 4.1)
    assert [line["text"] for line in lines] == ["sec", "second", "second"]


def test_refused_request_leaves_no_line_and_its_answer_is_not_anothers() -> None:
    turns = made()
    turns.sent({**ASK, "event_id": "e1"}, 1.0)
    turns.received({"type": "error", "error": {"event_id": "e1"}}, 1.1)
    turns.sent(ASK, 1.2)
    turns.received({"type": "error", "error": {"event_id": None}}, 1.3)
    turns.sent(item("good"), 2.0)
    turns.sent(ASK, 2.5)
    assert answer(turns, "r1", 2.6)[-1]["text"] == "good"


def test_error_about_another_frame_takes_no_turn_away() -> None:
    turns = made()
    turns.sent(item("good"), 2.0)
    turns.sent({**ASK, "event_id": "e2"}, 2.5)
    turns.received({"type": "error", "error": {"event_id": "e1"}}, 2.55)
    assert answer(turns, "r1", 2.6)[-1]["text"] == "good"


def test_cancelled_answer_leaves_no_line_and_a_full_one_does() -> None:
    turns = made()
    for status, lines in (("cancelled", 0), ("failed", 0), ("incomplete", 2)):
        turns.sent(item(status), 1.0)
        turns.sent(ASK, 1.1)
        assert len(answer(turns, status, 1.2, status)) == lines


def test_items_of_others_and_frames_that_are_none_change_nothing() -> None:
    turns = made()
    turns.sent(item("said before", "assistant"), 1.0)
    for frame in ({}, {"type": "conversation.item.create", "item": 3}, typed(4)):  # type: ignore[arg-type]
        turns.sent(frame, 1.0)
    turns.received({"type": "response.created", "response": {"id": "r0"}}, 1.0)
    turns.sent(item("mine"), 2.0)
    turns.sent(ASK, 2.5)
    assert [line["text"] for line in answer(turns, "r1", 2.6)] == ["mine", "mine"]
