"""What can be told again of a conversation when its server is gone."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.backends.messages import ToolCall
from livemind.orchestrator.client.answer import LiveAnswer
from livemind.orchestrator.client.conversation import SaidSoFar
from livemind.orchestrator.events import ResponseDone


def answer(text: str, said: str, **given: Any) -> LiveAnswer:
    made = LiveAnswer("commit-1", text, lambda _: None, 1.0, **given)
    made.said = said
    return made


def done(status: Any = "completed", **more: Any) -> ResponseDone:
    return ResponseDone("resp_1", 1, status, "a", **more)


def texts(said: SaidSoFar) -> list[tuple[str, str]]:
    messages: Any = said.told({})["messages"]
    return [(message["role"], message["content"]) for message in messages]


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        ("completed", "yes", [("user", "hi"), ("assistant", "yes")]),
        ("cancelled", "ye", [("user", "hi"), ("assistant", "ye")]),
        ("cancelled", "", [("user", "hi")]),
        ("failed", "", [("user", "hi")]),
        (None, "ye", [("user", "hi"), ("assistant", "ye")]),
    ],
)
def test_told_again_is_what_both_said_however_the_turn_ended(
    status: str | None, text: str, expected: list[tuple[str, str]]
) -> None:
    said = SaidSoFar({})
    said.ended(answer("hi", text), None if status is None else done(status))
    assert said.is_known
    assert texts(said) == expected


def test_told_again_begins_with_the_messages_of_the_options() -> None:
    before = {"role": "assistant", "content": "Hello?"}
    said = SaidSoFar({"messages": [before], "model": "a"})
    assert said.told({"model": "a"}) == {"model": "a"}  # the options say it themselves
    said.ended(answer("hi", "yes"), done())
    assert texts(said) == [("assistant", "Hello?"), ("user", "hi"), ("assistant", "yes")]
    said.updated({"messages": []})
    assert texts(said) == []


def test_told_again_cannot_be_what_called_tools() -> None:
    called, resulted = SaidSoFar({}), SaidSoFar({})
    called.ended(answer("hi", ""), done(tool_calls=(ToolCall("c", "f", "{}"),)))
    resulted.ended(answer("", "yes", has_results=True), None)
    assert not called.is_known
    assert not resulted.is_known
    called.ended(answer("again", "yes"), done())
    assert not called.is_known
