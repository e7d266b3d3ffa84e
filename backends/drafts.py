"""Drafts: a proposed continuation of an answer, and following an answer along it.

Pure: no engine, no I/O. An engine that verifies drafts asks a ``DraftCursor`` what to propose, and
the side that reads the answer asks one how much of the draft came true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

# What verifying costs beyond a plain decode step, in such steps: per proposal and per token of it
# (98M parameters on a CPU; with 5M per proposal as much, per token half).
PROPOSAL_COST_STEPS = 0.2
TOKEN_COST_STEPS = 0.03
# What a draft may cost while it has gained nothing: steps, and part of the answer's steps.
ALLOWED_LOSS_STEPS = 0.3
ALLOWED_LOSS = 0.03
FIRST_LENGTH = 7
SHORTEST_LENGTH = 3
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
        """Append drafted tokens.

        Raises:
            ValueError: the feed is closed.
        """
        if self.closed:
            raise ValueError("the feed is closed")
        self.tokens += tokens
        self._changed.set()

    def close(self) -> None:
        """Say that nothing more will come. Idempotent."""
        self.closed = True
        self._changed.set()

    async def later(self, known: int) -> list[int]:
        """Wait for tokens after the first ``known`` and return them; an empty list is the end.

        Waits without a limit: cancel it, or ``close`` the feed.
        """
        while len(self.tokens) <= known and not self.closed:
            self._changed.clear()
            await self._changed.wait()
        return self.tokens[known:]


class ProposalPace:
    """How much to propose, by how much of it came true, and whether it still pays.

    Attributes:
        length: tokens of the next proposal.
        mistakes: proposals wrong from their beginning, less those right to their end.
    """

    def __init__(self, length: int = FIRST_LENGTH) -> None:
        self.length = length
        self.mistakes = 0
        self._proposed: Sequence[int] = ()
        self._gained = 0
        self._cost_steps = 0.0

    def may_propose(self, answered: int) -> bool:
        """Whether proposals have cost little enough so far, for an answer of so many tokens."""
        return self._cost_steps <= self._gained + ALLOWED_LOSS_STEPS + ALLOWED_LOSS * answered

    def propose(self, tokens: Sequence[int]) -> list[int]:
        """Keep what is proposed for the next step, and return it."""
        self._proposed = tokens
        return list(tokens)

    def learn(self, tokens: Sequence[int]) -> None:
        """Tell what the answer continued with: what the step yielded."""
        if not self._proposed or not tokens:
            return
        proposed, self._proposed = self._proposed, ()
        right = 0
        for drafted, token in zip(proposed, tokens, strict=False):
            if drafted != token:
                break
            right += 1
        self._gained += right
        self._cost_steps += PROPOSAL_COST_STEPS + TOKEN_COST_STEPS * len(proposed)
        if right == len(proposed):
            self.length *= 2
            self.mistakes = max(0, self.mistakes - 1)
        else:
            self.length = max(SHORTEST_LENGTH, right + 1)
            self.mistakes += not right


class DraftCursor:
    """Follows an answer along its draft, token by token.

    Where the answer leaves the draft, its token stands in for one of the draft's, which goes on
    behind that: at once as long as proposals are right where they begin. Where they were not, or
    the next token is another one as well, nothing is proposed until the last few tokens of the
    answer occur again further on in the draft; each time that was a mistake more of them must
    agree. No token of the draft is used twice.

    Attributes:
        accepted: tokens of the draft that the answer has taken over.
    """

    def __init__(self, draft: Sequence[int] = ()) -> None:
        self.accepted = 0
        self._draft = list(draft)
        self._output: list[int] = []
        self._at: int | None = 0  # index of the drafted token that should come next
        self._left_at = 0  # where in the draft the answer left it
        self._followed = 0  # tokens since the place in the draft was found
        self._pace = ProposalPace()

    def __len__(self) -> int:
        return len(self._draft)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens to the draft."""
        self._draft += tokens
        if self._at is None:
            self._find_again()

    def advance(self, tokens: Sequence[int]) -> None:
        """Tell what the answer continues with: what one engine step yielded."""
        self._pace.learn(tokens)
        for token in tokens:
            self._output.append(token)
            if self._at is None:
                self._find_again()
            elif self._at < len(self._draft) and self._draft[self._at] == token:
                self._at += 1
                self._followed += 1
                self.accepted += 1
            else:
                self._leave(self._at)

    def propose(self, most: int) -> list[int]:
        """Return the tokens to verify in the next step, at most ``most``; normally call once."""
        if self._at is None or not self._pace.may_propose(len(self._output)):
            return self._pace.propose(())
        length, left = self._pace.length, len(self._draft) - self._at
        if left <= length + length // 2:  # another step for so few would be one too many
            length = left
        return self._pace.propose(self._draft[self._at : self._at + min(most, length)])

    def _leave(self, at: int) -> None:
        """Go on behind the drafted token that another one stands for, or look for the place."""
        replaced = self._followed > 0 and not self._pace.mistakes and at < len(self._draft)
        if self._followed:
            self._left_at = at
        self._at = at + 1 if replaced else None
        self._followed = 0

    def _find_again(self) -> None:
        """Continue after the next place in the draft that ends as the answer does now."""
        size = min(max(SHORTEST_MATCH, 1 + self._pace.mistakes), LONGEST_MATCH, len(self._output))
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
        self._at, self._followed = end, end - begin


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
