"""A session's conversation at work: what turns and clients do to its items, told as events.

The only writer of the ``Conversation``. Knows the running turn's two items and how much of its
answer was heard; when turns begin and end is its session's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import structs

from ..backends.base import Expert, GenerationParams, Image, Message, MessageDetails
from ..backends.rendering import beside
from .conversation import Conversation, ConversationRules, check_truncatable, id_taken
from .errors import InvalidRequest, PayloadTooLarge
from .event_queue import Outbox
from .events import ResponseDone
from .heard import SpokenWord, heard_characters
from .item_events import (
    ConversationTrimmed,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemTruncated,
)
from .window import Window


class SessionItems:
    """The items of one session, oldest first; ``session.items``.

    Every method is atomic on the event loop. Those that change something raise Overloaded while
    the session's events are not read.
    """

    def __init__(
        self,
        rules: ConversationRules,
        history: Sequence[Message],
        outbox: Outbox,
        max_text_chars: int,
        *,
        on_change: Callable[[], None],
        stop_answer: Callable[[], None],
    ) -> None:
        self._talk = Conversation(rules, history)
        self._window = Window()
        self._outbox = outbox
        self._max_text_chars = max_text_chars
        self._on_change = on_change
        self._stop_answer = stop_answer
        self._proposed: Item | None = None
        self._claimed: dict[str, Item] = {}  # of commits that wait for the turn before them
        self._question_id = ""
        self._answer_id: str | None = None
        self._heard: int | None = None
        self._answer_so_far: Callable[[], str] = lambda: ""

    def __iter__(self) -> Iterator[Item]:
        """Iterate over all items as they stand, those that left the model's sight included."""
        return iter([*map(self._current, self._talk.items), *self._outside()])

    def __len__(self) -> int:
        return len(self._talk.items) + len(self._outside())

    # ---- what a client does

    def create(self, item: Item, after: str | None = None) -> Item:
        """Put something into the conversation that was said elsewhere.

        Args:
            item: with an id of its own.
            after: the id of the item that it follows; ``root`` = none, None = the last one.

        Raises:
            NotFound: no item has the id ``after``.
            InvalidRequest: the id is taken, or a bound of the conversation is reached.
            PayloadTooLarge: the text is longer than that of a turn may be.
        """
        self._check_created(item)
        self._talk.check_new(item)
        outside = {other.id for other in self._outside()}
        if after is not None and after != "root" and after not in outside:
            self._talk.get(after, "previous_item_id")
        self.settle()
        self._talk.add(item, after)
        self._tell_added(item, self._talk.previous_of(item.id), done=True)
        self._changed()
        return item

    def propose(self, item: Item) -> Item:
        """Put a user's item at the end that is to be answered: its text is the next commit's.

        What is being prepared for that text stays prepared: the model sees the item once
        ``Session.request_commit`` was given its id, or once it is settled. One that was proposed
        before is settled. As for a commit, the oldest turns go where there is no room.

        Raises:
            InvalidRequest: the id is taken.
            PayloadTooLarge: the text is longer than that of a turn may be.
            Overloaded: the conversation is full and nothing may leave it.
        """
        self._check_created(item)
        self.settle()
        if self.make_room(len(item.text)):
            self._changed()
        standing = [*self._talk.items, *self._outside()]
        self._proposed = item
        self._tell_added(item, standing[-1].id if standing else None, done=True)
        return item

    def settle(self, *, keep: str | None = None) -> bool:
        """Let a proposed item be part of the conversation, unanswered, but for the one to ``keep``.

        Returns whether there was one.

        Raises:
            InvalidRequest: the conversation has become too long for it.
        """
        if self._proposed is None or self._proposed.id == keep:
            return False
        self._talk.add(self._proposed)
        self._proposed = None
        self._changed()
        return True

    def reopen(self) -> Item | None:
        """Return the proposed item; without one, propose the last item if it is the user's.

        Not while a turn is answered: the last item may be what it asks.
        """
        last = self._talk.items[-1] if self._talk.items else None
        if self._proposed is None and last is not None and last.role == "user":
            self._talk.delete(last.id)
            self._proposed = structs.replace(last, before="", behind="", in_context=True)
            self._changed()
        return self._proposed

    @property
    def proposed(self) -> Item | None:
        """The item that was proposed and is not committed."""
        return self._proposed

    def truncate(
        self,
        item_id: str,
        characters: int | None = None,
        *,
        audio_end_ms: int | None = None,
        words: Sequence[SpokenWord] = (),
        duration_ms: float | None = None,
    ) -> Item:
        """Say how much of an answer was heard; the model sees no more of it. Stops a running one.

        Args:
            item_id: of an answer.
            characters: heard, from its beginning.
            audio_end_ms: in place of ``characters``: where the playback stopped; see
                ``heard_characters`` for what ``words`` and ``duration_ms`` add to it.
            words: when each word was spoken.
            duration_ms: of the whole audio.

        Raises:
            NotFound: no such item.
            InvalidRequest: it is not an answer, has fewer characters, or nothing says how much.
        """
        self._outbox.refuse_unread()
        item = self.retrieve(item_id)
        check_truncatable(item)
        if characters is None:
            if audio_end_ms is None:
                message = "characters or audio_end_ms: missing"
                raise InvalidRequest(message, param="audio_end_ms", code="missing_parameter")
            characters = heard_characters(
                item.text,
                audio_end_ms,
                words=words,
                duration_ms=duration_ms,
                characters_per_s=self._talk.rules.characters_per_s,
            )
        cut = self._talk.truncate(item_id, characters, item.text)
        self._outbox.put(ItemTruncated(item_id, characters, audio_end_ms))
        if item_id == self._answer_id:
            self._heard = min(characters, len(item.text))
            self._stop_answer()
        self._changed()
        return cut

    def delete(self, item_id: str) -> None:
        """Take an item out of the conversation; a running answer is stopped.

        Raises:
            NotFound: no such item.
        """
        self._outbox.refuse_unread()
        if self._forget_outside(item_id):
            self._outbox.put(ItemDeleted(item_id))
            return
        self._talk.delete(item_id)
        self._outbox.put(ItemDeleted(item_id))
        if item_id == self._answer_id:
            self._stop_answer()
        self._changed()

    def retrieve(self, item_id: str) -> Item:
        """Return an item as it stands; of a running answer what was shown.

        Raises:
            NotFound: no such item.
        """
        for item in self._outside():
            if item.id == item_id:
                return item
        return self._current(self._talk.get(item_id))

    # ---- what its session does

    def messages(self) -> tuple[Message, ...]:
        """Return what the model sees of finished turns, document blocks included."""
        return self._talk.messages()

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse what ``replace`` would refuse."""
        self._talk.check(messages)

    def replace(self, messages: Sequence[Message]) -> bool:
        """Take the messages for the conversation; return whether that changed it."""
        changed = self._talk.replace(messages)
        if changed:
            self._window.known = None
        return changed

    def make_room(self, characters: int) -> bool:
        """Let the oldest turns go until another fits the bounds; return whether any had to.

        Raises:
            Overloaded: there is no room, and nothing may go.
        """
        gone = self._talk.make_room(characters)
        for item_id in gone:
            self._outbox.put(ItemDeleted(item_id))
        return bool(gone)

    def claim(self, item_id: str | None) -> None:
        """Keep the proposed item of this id for a commit, until its turn begins."""
        if self._proposed is not None and self._proposed.id == item_id:
            self._claimed[self._proposed.id], self._proposed = self._proposed, None

    def ask(
        self,
        text: str,
        images: tuple[Image, ...],
        item_id: str | None = None,
        follow: Sequence[Message] = (),
    ) -> None:
        """A turn begins with this text; ``item_id``: of the item that was claimed for it."""
        item = self._talk.ask(text, images, item_id, follow)
        self._question_id = item.id
        if item_id is None:
            self._tell_added(item, self._talk.previous_of(item.id), done=True)
        elif self._claimed.pop(item_id, None) is None:  # deleted while its turn waited
            self._talk.delete(item_id)

    def answer(self, so_far: Callable[[], str]) -> str:
        """Its answer begins; ``so_far`` tells what was shown of it. Returns the item's id."""
        item = self._talk.answer(self._question_id)
        self._answer_id, self._answer_so_far = item.id, so_far
        return item.id

    def tell_answer(self) -> None:
        """Tell of the answer's item, once its response was told of."""
        if self._answer_id is not None:
            answer = self._talk.get(self._answer_id)
            self._tell_added(answer, self._talk.previous_of(answer.id), done=False)

    async def fit(
        self,
        expert: Expert,
        before: Sequence[Message],
        own: Sequence[Message],
        params: GenerationParams,
    ) -> bool:
        """Let things leave until a committed turn fits; return whether any had to.

        A copy of the conversation is tried, in a thread where it is long.
        """
        rest = (expert, before, own, params)
        if not self._window.may_exceed(self._talk, *rest):
            return False
        tried, known = self._talk.copy(), self._talk.items
        size = sum(len(message.content) for message in (*before, *own))
        left = await beside(size, lambda: self._window.fit(tried, *rest))
        if left is not None and known != self._talk.items:  # it changed meanwhile
            left = self._window.fit(self._talk, *rest)
        elif left is not None:
            self._talk.become(tried)
        return self._tell_trimmed(left)

    def ended(
        self,
        done: ResponseDone,
        own: Sequence[Message],
        text: str,
        expert: Expert | None,
        system: Sequence[Message],
    ) -> None:
        """The turn is over.

        Args:
            done: its terminal event, which has not left yet.
            own: the turn's own messages; empty where its answer never began.
            text: what was shown of the answer.
            expert: who answered, if it is here.
            system: the messages before the conversation.
        """
        question = [n for n, message in enumerate(own) if message.role == "user"]
        place = question[0] if question else 0
        before, behind = _passages(own[:place]), _passages(own[place + 1 :])
        self._talk.asked_with(self._question_id, before, behind)
        if self._answer_id is not None:
            heard = len(text) if self._heard is None else self._heard
            whole = done.status == "completed" and heard == len(text)
            item = self._talk.finish(
                self._answer_id,
                text[:heard],
                "completed" if whole else "incomplete",
                MessageDetails(tool_calls=done.tool_calls),
            )
            if item is not None:
                self._outbox.put(ItemDone(item.view(), self._talk.previous_of(item.id)))
        self._answer_id = self._heard = None
        self._window.known = None
        usage = done.usage
        if expert is not None and usage is not None:
            tokens = usage.prompt_tokens + usage.completion_tokens
            turn = usage.completion_tokens + sum(len(message.content) for message in own) // 3
            self._tell_trimmed(self._window.turn_ended(self._talk, expert, system, tokens, turn))

    # ---- inside

    def _current(self, item: Item) -> Item:
        if item.id != self._answer_id:
            return item
        return structs.replace(item, text=self._answer_so_far()[: self._heard])

    def _changed(self) -> None:
        self._window.known = None
        self._on_change()

    def _outside(self) -> list[Item]:
        proposed = [] if self._proposed is None else [self._proposed]
        return [*self._claimed.values(), *proposed]

    def _forget_outside(self, item_id: str) -> bool:
        if self._proposed is not None and self._proposed.id == item_id:
            self._proposed = None
            return True
        return self._claimed.pop(item_id, None) is not None

    def _check_created(self, item: Item) -> None:
        self._outbox.refuse_unread()
        if len(item.text) > self._max_text_chars:
            message = f"item: {len(item.text)} characters, the limit is {self._max_text_chars}"
            raise PayloadTooLarge(message, param="item.content", code="text_too_long")
        if any(other.id == item.id for other in (*self._talk.items, *self._outside())):
            raise id_taken()

    def _tell_added(self, item: Item, previous: str | None, *, done: bool) -> None:
        self._outbox.put(ItemAdded(item.view(), previous))
        if done:
            self._outbox.put(ItemDone(item.view(), previous))

    def _tell_trimmed(self, left: tuple[int, int] | None) -> bool:
        if left is None:
            return False
        self._outbox.put(ConversationTrimmed(*left))
        return True


def _passages(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages if message.role == "documents")
