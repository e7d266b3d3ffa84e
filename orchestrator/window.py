"""Whether a conversation fits an expert's context, and how much has to leave it.

Owns what is known of the conversation's length in tokens. An expert's own ``render`` counts; it is
asked only where a bound that needs no counting does not answer. Its time grows with the text:
``Window.fit`` of a long one belongs beside the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from ..backends.base import Expert, GenerationParams, Message
from ..backends.errors import PromptRejected
from .conversation import Conversation

ROOM_SHARE = 8
"""An eighth of the context is kept for an answer, and for the next turn."""
HEAD = ("template", "system")
TOKENS_A_MESSAGE = 16
"""What a chat template puts around a message, at most."""


@dataclass(slots=True)
class Window:
    """The view of one session's conversation through the contexts of the experts.

    Attributes:
        known: (expert id, tokens) of prompt and answer of the last turn; None = not known.
        largest_turn: tokens of the longest turn until now, at least.
    """

    known: tuple[str, float] | None = None
    largest_turn: int = 0

    def turn_ended(
        self, talk: Conversation, expert: Expert, system: Sequence[Message], tokens: int, turn: int
    ) -> tuple[int, int] | None:
        """Let things leave where the next turn would hardly fit, before its prefix is prepared.

        Args:
            talk: with the turn that ended.
            expert: who answered.
            system: the messages before the conversation.
            tokens: of the turn's prompt and answer together.
            turn: tokens of the turn alone.

        Returns:
            What ``Conversation.trim`` does.
        """
        self.known = (expert.expert_id, tokens)
        self.largest_turn = max(self.largest_turn, turn)
        limit = expert.capabilities.max_model_len
        if limit is None:
            return None
        room = min(max(limit // ROOM_SHARE, 2 * self.largest_turn), limit // 2)
        if tokens <= limit - room:
            return None
        # counted is what is committed; here letters have to do, whose tokens all together are known
        of_system = _bytes(system)
        a_byte = tokens / max(1, of_system + _bytes(talk.messages()))
        most = talk.rules.keep_share * (limit - room)
        left = talk.trim(lambda messages: (of_system + _bytes(messages)) * a_byte <= most)
        self.known = None
        return left

    def fit(
        self,
        talk: Conversation,
        expert: Expert,
        before: Sequence[Message],
        own: Sequence[Message],
        params: GenerationParams,
    ) -> tuple[int, int] | None:
        """Let things leave until the committed turn and its answer fit the expert's context.

        Args:
            talk: the conversation; those of its messages that count are in ``before``.
            expert: who is to answer.
            before: system message and history of the turn's prompt.
            own: the turn's own messages.
            params: their ``max_tokens`` is what the answer may need.

        Returns:
            What ``Conversation.trim`` does; also None where the turn alone is too long.
        """
        limit = expert.capabilities.max_model_len
        if limit is None or not self.may_exceed(talk, expert, before, own, params):
            return None
        room = _room(limit, params)
        system = tuple(takewhile(lambda message: message.role in HEAD, before[:2]))
        counted = _Count(expert, system, tuple(own))
        alone = counted(())
        if counted(before[len(system) :]) <= limit - room or alone > limit - room:
            return None
        most = alone + int(talk.rules.keep_share * (limit - room - alone))
        return talk.trim(lambda messages: counted(messages) <= most)

    def may_exceed(
        self,
        talk: Conversation,
        expert: Expert,
        before: Sequence[Message],
        own: Sequence[Message],
        params: GenerationParams,
    ) -> bool:
        """Whether ``fit`` has to count: something may leave, and letters alone do not tell."""
        limit = expert.capabilities.max_model_len
        if limit is None or talk.rules.overflow == "refuse":
            return False
        return self._at_most(expert.expert_id, before, own) > limit - _room(limit, params)

    def _at_most(self, expert_id: str, before: Sequence[Message], own: Sequence[Message]) -> float:
        """Return a number of tokens that the prompt cannot exceed: a token has a byte at least."""
        if self.known is not None and self.known[0] == expert_id:
            return self.known[1] + _bytes(own)
        return _bytes(before) + _bytes(own)


@dataclass(frozen=True, slots=True)
class _Count:
    """The tokens of a prompt with other histories in its middle."""

    expert: Expert
    system: Sequence[Message]
    own: Sequence[Message]

    def __call__(self, history: Sequence[Message]) -> float:
        """Return them; infinity where the expert refuses the prompt for its length."""
        try:
            messages = (*self.system, *history, *self.own)
            return self.expert.render(messages, open_turn=False).num_tokens
        except PromptRejected as error:
            return float("inf") if error.code == "context_length_exceeded" else 0


def _room(limit: int, params: GenerationParams) -> int:
    """Return how many tokens of the context an answer gets at least."""
    return max(1, min(params.max_tokens or limit, limit // ROOM_SHARE))


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(message.content.encode()) + TOKENS_A_MESSAGE for message in messages)
