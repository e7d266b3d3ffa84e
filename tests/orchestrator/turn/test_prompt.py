"""The prompt grows at its end only."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from livemind.backends.base import Message
from livemind.orchestrator.turn.prompt import (
    Context,
    build,
    render_documents,
    turn_messages,
    without_documents,
)
from livemind.rag.base import Passage

texts = st.sampled_from(["", "a", "b\n", " word ", "<|user|>", "é 🙂"])
passages = texts.map(lambda text: Passage(text, "s.md", text, 0.5))
messages = st.builds(Message, st.sampled_from(["documents", "user", "assistant"]), texts)


def some(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=2).map(tuple)


contexts = st.builds(
    Context, st.none() | texts, some(messages), some(texts), some(passages), some(passages)
)
quick = settings(max_examples=30, deadline=None)
FULL = Context(
    "be brief",
    (Message("user", "hi"), Message("assistant", "hello")),
    ("attached",),
    (Passage("f", "f.md", "frozen", 0.9),),
    (Passage("l", "l.md", "late", 0.8),),
)


@quick
@given(context=contexts, text=texts, more=texts)
def test_open_prompt_any_context_is_a_prefix_of_every_later_one(
    context: Context, text: str, more: str
) -> None:
    before = build(context, text, open_turn=True)
    assert before[-1] == Message("user", text)
    grown = build(context, text + more, open_turn=True)
    final = build(context, text + more + "!")
    for later in (grown, final):
        assert later[: len(before) - 1] == before[:-1]
        assert later[len(before) - 1].role == "user"
        assert later[len(before) - 1].content.startswith(text)


@quick
@given(context=contexts, text=texts, late=passages)
def test_late_passage_any_context_changes_nothing_before_itself(
    context: Context, text: str, late: Passage
) -> None:
    bare = build(replace(context, late=()), text)
    assert build(replace(context, late=(late,)), text)[: len(bare)] == bare


def test_layout_is_system_history_documents_user_late_documents() -> None:
    assert build(FULL, "question") == (
        Message("system", "be brief"),
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("documents", "[1] attached\n[2] frozen"),
        Message("user", "question"),
        Message("documents", "[3] late"),
    )


def test_open_turn_has_no_place_for_late_documents() -> None:
    assert build(FULL, "question", open_turn=True)[-1] == Message("user", "question")


def test_bare_context_is_the_user_text_alone() -> None:
    assert build(Context(), "question") == (Message("user", "question"),)


@pytest.mark.parametrize(("open_turn", "content"), [(True, " text \n"), (False, " text")])
def test_trailing_white_space_is_meant_only_while_typing(open_turn: bool, content: str) -> None:
    assert build(Context(), " text \n", open_turn=open_turn) == (Message("user", content),)


@quick
@given(first=passages, score=st.floats(0, 1), source=texts)
def test_documents_render_alike_whatever_their_score_and_source(
    first: Passage, score: float, source: str
) -> None:
    other = dataclasses.replace(first, score=score, source=source, id="other")
    rendered = [turn_messages(Context(frozen=(passage,)), "q") for passage in (first, other)]
    assert rendered[0] == rendered[1]


@pytest.mark.parametrize(
    ("first", "rendered"), [(1, "[1] a\n[2] b"), (3, "[3] a\n[4] b")], ids=["first", "late"]
)
def test_documents_are_numbered_on_from_those_before(first: int, rendered: str) -> None:
    assert render_documents(["a", "b"], first) == rendered


@quick
@given(context=contexts, text=texts)
def test_messages_before_any_context_is_where_the_turn_begins(context: Context, text: str) -> None:
    assert build(context, text)[context.messages_before :] == turn_messages(context, text)


def test_client_sees_the_conversation_without_documents() -> None:
    seen = without_documents(build(FULL, "question"))
    assert [message.content for message in seen] == [
        "be brief",
        "hi",
        "hello",
        "question",
    ]
