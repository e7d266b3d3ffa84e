"""The items of a conversation: order, bounds, truncation, and what leaves a full context."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st
from msgspec.structs import replace

from livemind.backends.base import Image, Message
from livemind.orchestrator.conversation import Conversation, ConversationRules
from livemind.orchestrator.errors import InvalidRequest, NotFound, Overloaded
from livemind.orchestrator.item_events import Item

RULES = ConversationRules()


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def passages(text: str) -> Message:
    return Message("documents", text)


TALK = (user("one"), assistant("ONE"), user("two"), assistant("TWO"))


def words(messages: tuple[Message, ...]) -> int:
    return sum(len(message.content.split()) for message in messages)


def test_conversation_seeded_with_messages_renders_them() -> None:
    talk = Conversation(RULES, TALK)
    assert talk.messages() == talk.spoken() == TALK
    assert [item.status for item in talk.items] == ["completed"] * 4
    assert all(item.id.startswith("item_") for item in talk.items)


def test_conversation_keeps_the_passages_of_a_question_beside_it() -> None:
    given_ = (passages("[1] a"), user("one"), passages("[2] b"), assistant("ONE"))
    talk = Conversation(RULES, given_)
    assert talk.messages() == given_
    assert talk.spoken() == (user("one"), assistant("ONE"))


@pytest.mark.parametrize("before", [(), TALK])
def test_conversation_that_ends_with_passages_renders_them(before: tuple[Message, ...]) -> None:
    talk = Conversation(RULES, (*before, passages("[1] port")))
    assert talk.messages() == (*before, passages("[1] port"))
    assert talk.spoken() == before
    assert not talk.replace(before)


@pytest.mark.parametrize(
    ("after", "order"), [(None, "one ONE new"), ("root", "new one ONE"), ("a", "one new ONE")]
)
def test_item_is_inserted_behind_the_one_that_is_named(after: str | None, order: str) -> None:
    talk = Conversation(RULES)
    talk.add(Item("a", "user", "one"))
    talk.add(Item("b", "assistant", "ONE"))
    talk.add(Item("c", "user", "new"), after)
    assert " ".join(item.text for item in talk.items) == order


def test_item_with_a_taken_id_is_refused_by_name() -> None:
    talk = Conversation(RULES)
    talk.add(Item("a", "user", "one"))
    with pytest.raises(InvalidRequest, match=r"item\.id: an item with this id"):
        talk.add(Item("a", "user", "two"))


def test_item_behind_one_that_is_not_there_is_refused() -> None:
    with pytest.raises(NotFound, match="previous_item_id: no such item"):
        Conversation(RULES).add(Item("a", "user", "one"), "nowhere")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (ConversationRules(max_items=4), r"5 items, the limit is 4 \(conversation.max_items\)"),
        (ConversationRules(max_chars=14), r"15 characters, the limit is 14 \(conv.*max_chars\)"),
    ],
)
def test_item_over_a_bound_is_refused_with_the_bound(
    rules: ConversationRules, message: str
) -> None:
    talk = Conversation(rules, TALK)
    with pytest.raises(InvalidRequest, match=message):
        talk.add(Item("a", "user", "new"))
    assert talk.messages() == TALK


def test_truncated_item_shows_the_model_what_was_heard() -> None:
    talk = Conversation(RULES, TALK)
    cut = talk.truncate(talk.items[1].id, 2)
    assert (cut.text, cut.status) == ("ON", "incomplete")
    assert talk.messages()[1] == assistant("ON")


def test_item_truncated_to_nothing_is_not_shown_to_the_model() -> None:
    talk = Conversation(RULES, TALK)
    talk.truncate(talk.items[1].id, 0)
    assert talk.messages() == (TALK[0], *TALK[2:])
    assert len(talk.items) == 4


@pytest.mark.parametrize(
    ("place", "characters", "message"),
    [(1, 4, "got 4, the item has 3"), (1, -1, "got -1, the item has 3"), (0, 1, "of the user")],
)
def test_truncation_that_cannot_be_is_refused_by_name(
    place: int, characters: int, message: str
) -> None:
    talk = Conversation(RULES, TALK)
    with pytest.raises(InvalidRequest, match=message):
        talk.truncate(talk.items[place].id, characters)


def test_deleted_item_is_gone_and_unknown_ones_are_refused() -> None:
    talk = Conversation(RULES, TALK)
    gone = talk.items[0].id
    talk.delete(gone)
    assert talk.messages() == TALK[1:]
    with pytest.raises(NotFound, match="item_id: no such item"):
        talk.get(gone)


# ---- another history -----------------------------------------------------------------------------


def seen_by(talk: Conversation) -> dict[str, str]:
    return {item.text: item.id for item in talk.items}


@pytest.mark.parametrize(
    "now",
    [
        TALK[2:],
        TALK[:2],
        (assistant("Hello!"), *TALK),
        (*TALK[:3], assistant("TW")),
        (TALK[0], TALK[3]),
    ],
)
def test_replaced_conversation_keeps_the_ids_of_what_was_said_before(
    now: tuple[Message, ...],
) -> None:
    talk = Conversation(RULES, TALK)
    before = seen_by(talk)
    assert talk.replace(now)
    assert talk.messages() == now
    after = seen_by(talk)
    assert all(after[text] == before[text] for text in after.keys() & before.keys())


def test_replaced_conversation_keeps_the_passages_of_its_questions() -> None:
    talk = Conversation(RULES, (passages("[1] a"), *TALK))
    talk.replace(TALK[:2])
    assert talk.messages() == (passages("[1] a"), *TALK[:2])


def test_same_conversation_changes_nothing() -> None:
    talk = Conversation(RULES, (passages("[1] a"), *TALK))
    talk.truncate(talk.items[3].id, 0)
    before = talk.items
    assert not talk.replace((user("one \n"), *TALK[1:3]))
    assert talk.items == before


def test_other_images_are_another_conversation() -> None:
    talk = Conversation(RULES, (Message("user", "one", (Image("image/png", b"a"),)),))
    assert talk.replace((user("one"),))


def test_too_long_conversation_is_refused_and_leaves_the_old_one() -> None:
    talk = Conversation(ConversationRules(max_items=4), TALK)
    with pytest.raises(InvalidRequest, match="messages: the conversation would have 5 items"):
        talk.replace((*TALK, user("three")))
    assert talk.messages() == TALK


# ---- room ----------------------------------------------------------------------------------------


def test_full_conversation_lets_its_oldest_turn_go() -> None:
    talk = Conversation(ConversationRules(max_items=5), TALK)
    oldest = [item.id for item in talk.items[:2]]
    assert talk.make_room(5) == oldest
    assert talk.messages() == TALK[2:]


def test_full_conversation_that_refuses_says_its_bounds() -> None:
    talk = Conversation(ConversationRules(max_items=5, overflow="refuse"), TALK)
    with pytest.raises(Overloaded, match=r"4 items .* the limits are 5 \(conversation.max_items\)"):
        talk.make_room(5)


def long_talk(turns: int) -> list[Message]:
    found: list[Message] = []
    for turn in range(turns):
        found += [passages("p " * 10), user(f"question {turn}"), assistant(f"answer {turn}")]
    return found


@pytest.mark.parametrize(
    ("limit", "passages_left", "items_left"),
    [(1000, 0, 0), (140, 0, 0), (139, 1, 0), (40, 10, 0), (39, 10, 2), (4, 10, 18), (0, 10, 20)],
)
def test_trim_takes_passages_first_and_no_more_than_has_to_leave(
    limit: int, passages_left: int, items_left: int
) -> None:
    talk = Conversation(RULES, long_talk(10))
    left = talk.trim(lambda messages: words(messages) <= limit)
    assert left == (None if limit >= 140 else (passages_left, items_left))
    assert words(talk.messages()) <= limit
    assert len(talk.items) == 20


def test_trim_never_moves_what_already_left_back_into_sight() -> None:
    talk = Conversation(RULES, long_talk(10))
    talk.trim(lambda messages: words(messages) <= 20)
    assert talk.messages()[0] == user("question 5")
    assert talk.trim(lambda messages: words(messages) <= 10) == (0, 6)
    assert talk.messages()[0] == user("question 8")
    assert len(talk.spoken()) == 20


def test_trim_of_a_conversation_that_refuses_changes_nothing() -> None:
    talk = Conversation(replace(RULES, overflow="refuse"), long_talk(3))
    assert talk.trim(lambda messages: False) is None
    assert len(talk.messages()) == 9


histories = st.lists(
    st.sampled_from([user("a"), user("b"), assistant("A"), assistant("B"), Message("system", "s")]),
    max_size=8,
).map(tuple)


@settings(max_examples=200, deadline=None)
@given(before=histories, after=histories)
def test_replaced_conversation_is_what_was_given_with_unique_ids(
    before: tuple[Message, ...], after: tuple[Message, ...]
) -> None:
    talk = Conversation(RULES, before)
    assert talk.replace(after) == (before != after)
    assert talk.messages() == after
    assert len({item.id for item in talk.items}) == len(after)
