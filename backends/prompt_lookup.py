"""Drafts out of the prompt itself: what followed the last tokens where they stood before.

Prompt lookup decoding (Saxena 2023): answers quote their documents, earlier answers and themselves.
Pure: no engine, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from .drafts import LONGEST_MATCH, SHORTEST_LENGTH, ProposalPace

KEY_TOKENS = 3
"""Fewer equal tokens are chance: they are not looked up."""
MOST_PLACES = 16
"""Earlier places that one lookup compares, the latest first."""

_Key = tuple[int, int, int]


class PromptLookup:
    """Follows one answer; every lookup takes a time that does not depend on the prompt's length.

    Where proposals were wrong from their beginning, more of the last tokens must agree the next
    time.

    Args:
        tokens: the prompt.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = list(tokens)
        self._prompt = len(self._tokens)
        self._latest: dict[_Key, int] = {}
        self._earlier: dict[int, int] = {}  # end of a place -> end of the place before with its key
        self._indexed = KEY_TOKENS - 1
        self._pace = ProposalPace(SHORTEST_LENGTH)

    def advance(self, tokens: Sequence[int]) -> None:
        """Tell what the answer continues with: what one engine step yielded."""
        self._pace.learn(tokens)
        self._tokens += tokens

    def propose(self, most: int) -> list[int]:
        """Return the tokens to verify in the next step, at most ``most``; normally call once."""
        answered = len(self._tokens) - self._prompt
        # Reading a long prompt takes milliseconds, which the first token is not to wait for.
        if answered < KEY_TOKENS or not self._pace.may_propose(answered):
            return self._pace.propose(())
        end = self._find()
        if end is None:
            return self._pace.propose(())
        return self._pace.propose(self._tokens[end : end + min(most, self._pace.length)])

    def _find(self) -> int | None:
        """Return where the longest earlier place that ends like the tokens ends, the latest one."""
        tokens, length = self._tokens, len(self._tokens)
        for end in range(self._indexed + 1, length):  # not the last place: that is the one to find
            key = (tokens[end - 3], tokens[end - 2], tokens[end - 1])
            before = self._latest.get(key)
            if before is not None:
                self._earlier[end] = before
            self._latest[key] = end
        self._indexed = max(self._indexed, length - 1)
        if length < KEY_TOKENS:
            return None
        place = self._latest.get((tokens[-3], tokens[-2], tokens[-1]))
        found, longest = None, max(KEY_TOKENS, 1 + self._pace.mistakes) - 1
        for _ in range(MOST_PLACES):
            if place is None or longest >= LONGEST_MATCH:
                break
            equal = KEY_TOKENS
            while (
                equal < min(LONGEST_MATCH, place)
                and tokens[place - 1 - equal] == tokens[-1 - equal]
            ):
                equal += 1
            if equal > longest:
                found, longest = place, equal
            place = self._earlier.get(place)
        return found
