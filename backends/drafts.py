"""Drafts: a proposed continuation of an answer, and following an answer along it.

Pure: no engine, no I/O. An engine that verifies drafts asks a ``DraftCursor`` what to propose, and
the side that reads the answer asks one how much of the draft came true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

# What a refused token costs, in plain decode steps: a step over twelve positions takes about one
# and a half times as long as a step over one (98M and 5M parameters on a CPU).
REFUSED_COST_STEPS = 0.05
# Part of the answer's steps that a draft may cost while it has gained nothing.
ALLOWED_LOSS = 0.03
FIRST_LENGTH = 8
SHORTEST_MATCH = 2
LONGEST_MATCH = 8
SEARCH_TOKENS = 256


class DraftFeed:
    """A draft that still grows while it is verified: another expert is writing it.

    Belongs to one event loop. The writer calls ``push`` and, when nothing more will come,
    ``close``; one reader, the expert that verifies, iterates over ``later``.
    """

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self.tokens = list(tokens)
        self.closed = False
        self._changed = asyncio.Event()

    @classmethod
    def of(cls, tokens: Sequence[int]) -> DraftFeed:
        """Return a closed feed: a draft that is complete."""
        feed = cls(tokens)
        feed.close()
        return feed

    def push(self, tokens: Sequence[int]) -> None:
        """Append drafted tokens. Raises ValueError once the feed is closed."""
        if self.closed:
            raise ValueError("the feed is closed")
        self.tokens += tokens
        self._changed.set()

    def close(self) -> None:
        """Say that nothing more will come. Idempotent."""
        self.closed = True
        self._changed.set()

    async def later(self, known: int) -> list[int]:
        """Wait for tokens after the first ``known`` and return them; an empty list is the end."""
        while len(self.tokens) <= known and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        return self.tokens[known:]


class DraftCursor:
    """Follows an answer along its draft, token by token.

    Where the answer leaves the draft nothing is proposed until its last few tokens occur again
    further on in the draft; each time that was a mistake more of them must agree. No token of the
    draft is used twice.

    Attributes:
        accepted: tokens of the draft that the answer has taken over.
    """

    def __init__(self, draft: Sequence[int] = ()) -> None:
        self.accepted = 0
        self._draft = list(draft)
        self._output: list[int] = []
        self._at: int | None = 0  # index of the drafted token that should come next
        self._left_at = 0  # where in the draft the answer left it
        self._proposed: list[int] = []
        self._length = FIRST_LENGTH
        self._match = SHORTEST_MATCH
        self._gained = self._refused = 0

    def __len__(self) -> int:
        return len(self._draft)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens to the draft."""
        self._draft += tokens
        if self._at is None:
            self._find_again()

    def advance(self, tokens: Sequence[int]) -> None:
        """Tell what the answer continues with: what one engine step yielded."""
        if self._proposed and tokens:
            self._learn(tokens)
        for token in tokens:
            self._output.append(token)
            if self._at is None:
                self._find_again()
            elif self._at < len(self._draft) and self._draft[self._at] == token:
                self._at += 1
                self.accepted += 1
            else:
                self._left_at, self._at = self._at, None

    def propose(self, most: int) -> list[int]:
        """Return the tokens to verify in the next step, at most ``most``; normally call once."""
        self._proposed = []
        worth = self._refused * REFUSED_COST_STEPS <= self._gained + ALLOWED_LOSS * len(
            self._output
        )
        if self._at is not None and worth:
            self._proposed = self._draft[self._at : self._at + min(most, self._length)]
        return self._proposed

    def _learn(self, tokens: Sequence[int]) -> None:
        """Adapt the length of the proposals to how much of the last one was right."""
        proposed, self._proposed = self._proposed, []
        right = 0
        for drafted, token in zip(proposed, tokens, strict=False):
            if drafted != token:
                break
            right += 1
        self._gained += right
        self._refused += len(proposed) - right
        if right == len(proposed):
            self._length *= 2
            self._match = max(SHORTEST_MATCH, self._match - 1)
        elif right:
            self._length = right + 1
        else:
            self._length = 2
            self._match = min(LONGEST_MATCH, self._match + 1)

    def _find_again(self) -> None:
        """Continue after the next place in the draft that ends as the answer does now."""
        size = min(self._match, len(self._output))
        tail, draft = self._output[-size:], self._draft
        first = max(self._left_at + 1, size)
        for end in range(first, min(len(draft), self._left_at + SEARCH_TOKENS) + 1):
            if draft[end - 1] == tail[-1] and draft[end - size : end] == tail:
                break
        else:
            return
        begin = end
        while begin > self._left_at and draft[begin - 1] == self._output[begin - 1 - end]:
            begin -= 1
            if end - begin == len(self._output):
                break
        self.accepted += end - begin
        self._at = end


class DraftCount:
    """Counts, on the side that reads the answer, how much of a draft it took over.

    Args:
        feed: the draft; None = there is none, and nothing is counted.
    """

    def __init__(self, feed: DraftFeed | None) -> None:
        self._feed = feed
        self._cursor = DraftCursor()

    def saw(self, tokens: Sequence[int]) -> None:
        """Tell what the answer continues with."""
        if self._feed is not None:
            self._cursor.extend(self._feed.tokens[len(self._cursor) :])
            self._cursor.advance(tokens)

    def accepted_and_rejected(self) -> tuple[int | None, int | None]:
        """Return the drafted tokens taken over and the rest, both None without a draft."""
        if self._feed is None:
            return None, None
        return self._cursor.accepted, len(self._feed.tokens) - self._cursor.accepted
