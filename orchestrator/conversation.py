"""The items of one conversation: what was said, by whom, how much of it was heard, and their order.

Owns the items of a session, their bounds and which of them the model still sees. Synchronous; knows
nothing of turns, experts or sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ..backends.base import Image, Message, MessageDetails
from .errors import InvalidRequest, NotFound, Overloaded
from .item_events import Item, ItemStatus, new_item_id

Overflow = Literal["passages_then_turns", "refuse"]
Fits = Callable[[tuple[Message, ...]], bool]


class ConversationRules(Struct, frozen=True):
    """Bounds of a conversation, and what leaves it when the model's context is full.

    Attributes:
        max_items, max_chars: of the whole conversation, seen by the model or not.
        overflow: ``passages_then_turns`` = the passages of earlier turns leave the prompt, oldest
            first, then the oldest turns; ``refuse`` = nothing leaves, and a turn that does not fit
            fails with ``context_length_exceeded``.
        keep_share: of the context, what is left after something had to leave. Whatever leaves
            moves all that stands behind it, so the whole rest is computed again; much has to
            leave at once, so that the prompt then only grows for many turns.
        characters_per_s: of speech, for a truncation that brings a time and nothing else.
    """

    max_items: int = 4096
    max_chars: int = 1_000_000
    overflow: Overflow = "passages_then_turns"
    keep_share: float = 0.5
    characters_per_s: float = 15.0


class Conversation:
    """Items in order; every method is atomic on the event loop."""

    def __init__(self, rules: ConversationRules, messages: Sequence[Message] = ()) -> None:
        self.rules = rules
        self._items: list[Item] = []
        self.replace(messages)

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, oldest first."""
        return tuple(self._items)

    def messages(self) -> tuple[Message, ...]:
        """Return what the model sees, oldest first, passages in blocks of their own."""
        return _rendered(item for item in self._items if item.in_context)

    def copy(self) -> Conversation:
        """Return a conversation of the same items, with a life of its own."""
        other = Conversation(self.rules)
        other.become(self)
        return other

    def become(self, other: Conversation) -> None:
        """Take the items of another conversation."""
        self._items = list(other._items)

    def get(self, item_id: str, param: str = "item_id") -> Item:
        """Return an item.

        Raises:
            NotFound: there is none with this id.
        """
        return self._items[self._place(item_id, param)]

    def previous_of(self, item_id: str) -> str | None:
        """Return the id of the item before this one, None for the first."""
        place = self._place(item_id, "item_id")
        return self._items[place - 1].id if place else None

    def add(self, item: Item, after: str | None = None) -> Item:
        """Insert an item.

        Args:
            item: its id must be new.
            after: the id of the item that it follows; ``root`` = none, None = the last one.

        Raises:
            NotFound: no item has the id ``after``.
            InvalidRequest: the id is taken, or a bound of the conversation is reached.
        """
        self.check_new(item)
        place = len(self._items)
        if after == "root":
            place = 0
        elif after is not None:
            place = self._place(after, "previous_item_id") + 1
        self._items.insert(place, item)
        return item

    def ask(
        self,
        text: str,
        images: tuple[Image, ...] = (),
        item_id: str | None = None,
        follow: Sequence[Message] = (),
    ) -> Item:
        """Append what a turn asks, whatever its length: ``make_room`` was asked before.

        The turn's prompt has it at its end; as part of the conversation the model sees it once
        ``asked_with`` has been called. ``follow``: what stands behind the text in the same turn.
        """
        item = Item(item_id or new_item_id(), "user", text, images, in_context=False)
        behind = [replace(said, in_context=False) for said in _items_of(follow)]
        self._items += [item, *behind]
        return item

    def answer(self, question_id: str) -> Item:
        """Insert the answer that is beginning behind its question and what follows that."""
        item = Item(new_item_id(), "assistant", "", status="in_progress", in_context=False)
        self._items.insert(self._asked(question_id).stop, item)
        return item

    def asked_with(self, item_id: str, before: str, behind: str) -> None:
        """The question's turn is over; these passages stood beside it. Deleted: passed over."""
        for place in self._asked(item_id):
            self._items[place] = replace(self._items[place], in_context=True)
        self._put(item_id, before=before, behind=behind)

    def finish(
        self, item_id: str, text: str, status: ItemStatus, details: MessageDetails
    ) -> Item | None:
        """Set what an answer said that is over, and how; None when its item was deleted."""
        return self._put(item_id, text=text, status=status, in_context=True, details=details)

    def truncate(self, item_id: str, characters: int, so_far: str | None = None) -> Item:
        """Cut an assistant's item to what was heard of it, counted from its beginning.

        ``so_far``: the text of an answer that is still being given.

        Raises:
            NotFound: no such item.
            InvalidRequest: it is not the assistant's, or has fewer characters.
        """
        item = self.get(item_id)
        check_truncatable(item)
        text = item.text if so_far is None else so_far
        if not 0 <= characters <= len(text):
            message = f"characters: got {characters}, the item has {len(text)}"
            raise InvalidRequest(message, param="characters")
        if item.status == "in_progress":
            return replace(item, text=text[:characters])
        if characters == len(text):
            return item
        cut = replace(item, text=text[:characters], status="incomplete")
        self._items[self._place(item_id, "item_id")] = cut
        return cut

    def delete(self, item_id: str) -> None:
        """Take an item out.

        Raises:
            NotFound: no such item.
        """
        del self._items[self._place(item_id, "item_id")]

    def spoken(self) -> tuple[Message, ...]:
        """Return the conversation as a client that knows nothing of passages has it."""
        return tuple(item.message for item in self._items if item.says)

    def replace(self, messages: Sequence[Message]) -> bool:
        """Take the messages for the conversation; return whether that changed it.

        What was said before in the same order keeps its id, its passages and whether the model
        sees it. Blocks of documents before and behind a user's message are its passages; one at
        the end stands before what is asked next.

        Raises:
            InvalidRequest: more than the bounds of a conversation.
        """
        old = [item for item in self._items if item.says]
        was, now = [_key(item) for item in old], [_key(said) for said in _without_blocks(messages)]
        given = _items_of(messages)
        if was == now and all(item.says for item in given):
            return False
        for block in SequenceMatcher(None, was, now, autojunk=False).get_matching_blocks():
            given[block.b : block.b + block.size] = old[block.a : block.a + block.size]
        self._check_bounds(_without_blocks(messages), "messages")
        self._items = given
        return True

    # ---- bounds

    def check_new(self, item: Item) -> None:
        """Refuse an item that ``add`` would refuse, wherever it is to stand."""
        if any(other.id == item.id for other in self._items):
            raise id_taken()
        self._check_bounds([*(other.message for other in self._items), item.message], "item")

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse what ``replace`` would refuse, with the same error."""
        self._check_bounds(_without_blocks(messages), "messages")

    def make_room(self, characters: int) -> list[str]:
        """Let the oldest turns go until a turn of so many characters and its answer fit the bounds.

        Returns:
            The ids that are gone.

        Raises:
            Overloaded: the policy is ``refuse`` and there is no room.
        """
        gone: list[str] = []
        rules, total = self.rules, sum(len(item.text) for item in self._items) + characters
        while self._items and (len(self._items) + 2 > rules.max_items or total > rules.max_chars):
            if rules.overflow == "refuse":
                message = (
                    f"the conversation has {len(self._items)} items and {total} characters, the "
                    f"limits are {rules.max_items} (conversation.max_items) and "
                    f"{rules.max_chars} (conversation.max_chars)"
                )
                raise Overloaded(message, code="conversation_full")
            end = _turn_ends(self._items)[0]
            gone += [item.id for item in self._items[:end]]
            total -= sum(len(item.text) for item in self._items[:end])
            del self._items[:end]
        return gone

    def trim(self, fits: Fits) -> tuple[int, int] | None:
        """Let as little as possible leave the model's sight until the rest fits.

        First the passages of the turns, oldest first, then the turns, oldest first. The items
        stay in the conversation.

        Args:
            fits: whether such messages do; asked O(log n) times.

        Returns:
            How many blocks of passages and how many items left, None if nothing has to or may.
        """
        if self.rules.overflow == "refuse" or fits(self.messages()):
            return None
        seen = [item for item in self._items if item.in_context]
        with_passages = [n for n, item in enumerate(seen) if item.before or item.behind]
        ends = _turn_ends(seen)
        steps = len(with_passages) + len(ends)

        def after(step: int) -> list[Item]:
            bare = set(with_passages[:step])
            left = ends[step - len(with_passages) - 1] if step > len(with_passages) else 0
            return [
                replace(
                    item,
                    before="" if n in bare else item.before,
                    behind="" if n in bare else item.behind,
                    in_context=n >= left,
                )
                for n, item in enumerate(seen)
            ]

        low, high = 0, steps  # the last step leaves nothing, which has to do
        while low + 1 < high:
            middle = (low + high) // 2
            kept = _rendered(item for item in after(middle) if item.in_context)
            low, high = (low, middle) if fits(kept) else (middle, high)
        if not steps:
            return None
        changed = {item.id: item for item in after(high)}
        self._items = [changed.get(item.id, item) for item in self._items]
        left = sum(not item.in_context for item in changed.values())
        return min(high, len(with_passages)), left

    # ---- inside

    def _place(self, item_id: str, param: str) -> int:
        for place, item in enumerate(self._items):
            if item.id == item_id:
                return place
        raise NotFound(f"{param}: no such item", param=param, code="item_not_found")

    def _asked(self, question_id: str) -> range:
        """Return the places of a turn's question and of what follows it, before it is answered."""
        ids = [item.id for item in self._items]
        begin = ids.index(question_id) if question_id in ids else len(ids)
        end = begin + 1
        while (
            end < len(ids)
            and self._items[end].role != "user"
            and (self._items[end].status != "in_progress" and not self._items[end].in_context)
        ):
            end += 1
        return range(begin, min(end, len(ids)))

    def _put(self, item_id: str, **changes: object) -> Item | None:
        for place, item in enumerate(self._items):
            if item.id == item_id:
                self._items[place] = replace(item, **changes)
                return self._items[place]
        return None

    def _check_bounds(self, said: Sequence[Message], param: str) -> None:
        rules, total = self.rules, sum(len(message.content) for message in said)
        for what, got, limit in (
            ("items", len(said), rules.max_items),
            ("characters", total, rules.max_chars),
        ):
            if got > limit:
                key = "max_items" if what == "items" else "max_chars"
                message = (
                    f"{param}: the conversation would have {got} {what}, the limit is {limit} "
                    f"(conversation.{key})"
                )
                raise InvalidRequest(message, param=param, code="conversation_full")


def id_taken() -> InvalidRequest:
    """Return the error of a second item of one id."""
    message = "item.id: an item with this id is in the conversation"
    return InvalidRequest(message, param="item.id", code="item_id_taken")


def check_truncatable(item: Item) -> None:
    """Refuse to cut what is no answer."""
    if item.role != "assistant":
        message = f"item_id: an item of the {item.role}; only the assistant's can be truncated"
        raise InvalidRequest(message, param="item_id", code="not_truncatable")


def _rendered(items: Iterable[Item]) -> tuple[Message, ...]:
    return tuple(message for item in items for message in item.messages())


def _key(said: Item | Message) -> tuple[object, ...]:
    """White space at the end of a user's text is typed, not meant."""
    text = said.text if isinstance(said, Item) else said.content
    text = text.rstrip() if said.role == "user" else text
    return said.role, text, said.images, said.details


def _without_blocks(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if message.role != "documents"]


def _items_of(messages: Sequence[Message]) -> list[Item]:
    items: list[Item] = []
    before = ""
    for number, message in enumerate(messages):
        if message.role == "documents":
            follower = messages[number + 1].role if number + 1 < len(messages) else None
            if follower == "user" or not items or items[-1].role != "user":
                before = f"{before}\n{message.content}" if before else message.content
            else:
                items[-1] = replace(items[-1], behind=message.content)
            continue
        if message.role == "template":
            continue
        item = Item(
            new_item_id(),
            message.role,
            message.content,
            message.images,
            before=before,
            details=message.details,
        )
        items.append(item)
        before = ""
    if before:  # they stand before what is asked next
        items.append(Item(new_item_id(), "user", "", before=before))
    return items


def _turn_ends(items: Sequence[Item]) -> list[int]:
    """Return where each turn ends: before the next user's item, and at the end."""
    starts = [n for n, item in enumerate(items) if item.role == "user" and n]
    return [*starts, len(items)] if items else []
