"""What leaves a conversation for it to fit an expert's context, and how often it is counted."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.backends.base import GenerationParams, Message, TokenPrompt
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.conversation import Conversation, ConversationRules
from livemind.orchestrator.window import Window

LIMIT = 200
NO_PARAMS = GenerationParams()


class Counted(FakeExpert):
    """Counts how often it is asked to count."""

    renders = 0

    def render(self, messages: Any, *, open_turn: bool) -> TokenPrompt:
        self.renders += 1
        return super().render(messages, open_turn=open_turn)


def talk_of(turns: int, rules: ConversationRules | None = None) -> Conversation:
    """Return a conversation of ten tokens a turn."""
    said = [Message(role, f"{n} b c") for n in range(turns) for role in ("user", "assistant")]
    return Conversation(rules or ConversationRules(), said)


def tokens(expert: FakeExpert, talk: Conversation) -> int:
    return expert.render([*talk.messages(), Message("user", "")], open_turn=True).num_tokens


@pytest.mark.parametrize(("turns", "left"), [(17, 0), (18, 20)])
def test_ended_turn_leaves_room_for_the_next_one_and_keeps_a_share(turns: int, left: int) -> None:
    """An eighth of the context is kept free: 25 tokens; half of the rest is 87."""
    expert, talk, window = Counted("e", max_model_len=LIMIT), talk_of(turns), Window()
    trimmed = window.turn_ended(talk, expert, (), turns * 10, 10)
    assert trimmed == ((0, left) if left else None)
    assert expert.renders == 0
    assert window.known == (None if left else ("e", turns * 10))


def test_ended_turn_as_long_as_the_ones_before_has_room_for_two_more() -> None:
    expert, talk, window = Counted("e", max_model_len=LIMIT), talk_of(15), Window()
    assert window.turn_ended(talk, expert, (), 150, 40) is not None
    assert tokens(expert, talk) <= 60


def test_committed_turn_that_fits_by_its_letters_is_not_counted() -> None:
    expert, talk, window = Counted("e", max_model_len=LIMIT), talk_of(5), Window(("e", 50))
    assert window.fit(talk, expert, talk.messages(), [Message("user", "short")], NO_PARAMS) is None
    assert expert.renders == 0


def test_committed_turn_that_fits_by_its_tokens_changes_nothing() -> None:
    expert, talk, window = Counted("e", max_model_len=LIMIT), talk_of(5), Window()
    own = [Message("user", "w" * 500)]
    assert window.fit(talk, expert, talk.messages(), own, NO_PARAMS) is None
    assert expert.renders > 0


@pytest.mark.parametrize("max_tokens", [None, 1])
def test_committed_turn_that_does_not_fit_makes_room_for_its_answer_too(
    max_tokens: int | None,
) -> None:
    expert, talk, window = Counted("e", max_model_len=LIMIT), talk_of(12), Window()
    own = [Message("user", "w " * 80)]
    params = GenerationParams(max_tokens=max_tokens)
    assert window.fit(talk, expert, talk.messages(), own, params) is not None
    whole = expert.render([*talk.messages(), *own], open_turn=False).num_tokens
    assert whole <= LIMIT - (max_tokens or 25)


def test_turn_that_is_too_long_by_itself_takes_nothing_away() -> None:
    expert, talk, window = Counted("e", max_model_len=LIMIT), talk_of(5), Window()
    own = [Message("user", "w " * 300)]
    assert window.fit(talk, expert, talk.messages(), own, NO_PARAMS) is None
    assert len(talk.messages()) == 10


@pytest.mark.parametrize("limit", [None, LIMIT])
def test_nothing_is_counted_without_a_limit_or_where_nothing_may_leave(limit: int | None) -> None:
    rules = ConversationRules(overflow="refuse") if limit else ConversationRules()
    expert, talk = Counted("e", max_model_len=limit), talk_of(30, rules)
    own = [Message("user", "w " * 300)]
    assert Window().fit(talk, expert, talk.messages(), own, NO_PARAMS) is None
    if limit is None:
        assert Window().turn_ended(talk, expert, (), 10_000, 10) is None
    assert expert.renders == 0
