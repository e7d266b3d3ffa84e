"""Added tokens: texts that are found before anything else and tokenized by themselves."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AddedToken:
    """One of them: its text as it is looked for, its id, and what it wants around it."""

    text: str
    token_id: int = 0
    single_word: bool = False
    takes_left: bool = False
    takes_right: bool = False


class AddedTokens:
    """Those that are looked for at the same time, the longest one at the leftmost place."""

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self._by_text = {token.text: token for token in tokens if token.text}
        self._texts = sorted(self._by_text)
        self._longest = max(map(len, self._texts), default=0)
        longest_first = sorted(self._texts, key=len, reverse=True)
        self._takes_left = any(token.takes_left for token in tokens)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if tokens else None

    def certain(self, known: str) -> str:
        """Return a text up to where a token may begin that more text completes or takes back."""
        while True:
            if self._takes_left:
                known = known.rstrip()
            for begin in range(max(0, len(known) - self._longest), len(known)):
                if self._may_begin(known[begin:]):
                    known = known[:begin]
                    break
            else:
                return known

    def _may_begin(self, end: str) -> bool:
        found = self._by_text.get(end)
        if found is not None and found.single_word:
            return True
        place = bisect_right(self._texts, end)
        return place < len(self._texts) and self._texts[place].startswith(end)

    def split(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Yield a text's parts, each with its token, None for what is no added token."""
        done = 0
        for begin, end, token in self._found(text):
            if done < begin:
                yield text[done:begin], None
            yield text[begin:end], token.token_id
            done = end
        if done < len(text):
            yield text[done:], None

    def last_end(self, text: str) -> int:
        """Return where the last token ends, 0 if there is none."""
        return max((end for _, end, _ in self._found(text)), default=0)

    def _found(self, text: str) -> Iterator[tuple[int, int, AddedToken]]:
        done = 0
        for found in self._pattern.finditer(text) if self._pattern is not None else ():
            token = self._by_text[found[0]]
            begin, end = found.span()
            if token.single_word and (_is_word(text, begin - 1) or _is_word(text, end)):
                continue
            while token.takes_left and begin > done and text[begin - 1].isspace():
                begin -= 1
            while token.takes_right and end < len(text) and text[end].isspace():
                end += 1
            yield begin, end, token
            done = end


def _is_word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and re.match(r"\w", text[place]) is not None


def added_tokens(
    decoder: Mapping[int, Any], *, normalized: bool, normalise: Callable[[str], str]
) -> AddedTokens:
    """Return those that are looked for before (``normalized`` False) or after normalisation."""
    return AddedTokens(
        [
            AddedToken(
                normalise(token.content) if normalized else token.content,
                number,
                token.single_word,
                token.lstrip,
                token.rstrip,
            )
            for number, token in decoder.items()
            if token.normalized == normalized
        ]
    )
