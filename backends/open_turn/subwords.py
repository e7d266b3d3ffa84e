"""Which tokens of a word no longer word can change.

The token that holds the end of the known text begins at a place from which the rest of it begins
some token of the vocabulary. What stands before such a place is tokenized as if it stood alone, by
every method here:

- BPE merges neighbours in an order of its own; where no merge ever crosses a place, the merges on
  its left are those of the left part alone.
- Unigram keeps the best way to every place; the best way through a place begins with the best way
  to it.

So the tokens that all those left parts begin with are the tokens of every longer word.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

# Tokens before the first place that may change, from which the end is tokenized again.
_FIRST_REACH = 8


def why_whole_words(model: Mapping[str, Any]) -> str | None:
    """Why nothing is known of a word that goes on; None = it is.

    Args:
        model: as ``tokenizer.json`` has it; only its settings are looked at.
    """
    kind = model["type"]
    if kind == "Unigram":
        return None
    if kind != "BPE":
        return f"its model {kind} decides on whole words"
    if model.get("dropout"):
        return "its model drops merges at random"
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return "its tokens are marked as inside or end of a word"
    return None


class Subwords:
    """The tokens of words that go on.

    Args:
        model: a model of ``tokenizers``.
        vocabulary: its tokens and their ids.
    """

    def __init__(self, model: Any, vocabulary: Mapping[str, int]) -> None:
        self._model = model
        self._is_bpe = type(model).__name__ == "BPE"
        self._vocabulary = sorted(vocabulary)
        self._longest = max(map(len, vocabulary), default=0)
        self._sizes = self._sizes_in_bytes(vocabulary)
        self._whole = vocabulary.keys() if getattr(model, "ignore_merges", False) else frozenset()
        codes = range(0xE000, 0xF8FF)
        self._stranger = next(chr(code) for code in codes if chr(code) not in vocabulary)
        self._of_stranger = len(model.tokenize(self._stranger))
        # Without a token for what it does not know BPE joins what stands around it.
        drops = self._is_bpe and not self._of_stranger
        self._alphabet = {text for text in vocabulary if len(text) == 1} if drops else None

    def _sizes_in_bytes(self, vocabulary: Mapping[str, int]) -> array[int]:
        """Return by id how many bytes of a word a token holds, 0 where that differs."""
        sizes = array("I", bytes(4 * (max(vocabulary.values(), default=0) + 1)))
        for text, number in vocabulary.items():
            sizes[number] = len(text.encode())
        if getattr(self._model, "byte_fallback", False):
            for byte in range(256):
                if (fallback := f"<0x{byte:02X}>") in vocabulary:
                    sizes[vocabulary[fallback]] = 1
        unknown: str | None = getattr(self._model, "unk_token", None)
        if unknown is not None and unknown in vocabulary:
            sizes[vocabulary[unknown]] = 0
        return sizes

    def stable(self, word: str, ids: Sequence[int]) -> list[int]:
        """Return the first tokens of every word that begins like this one, this one included.

        ``why_whole_words`` has to say None of the model. Linear, but for a word of which no end can
        be tokenized alone.

        Args:
            word: what is known of the word.
            ids: the tokens of some word that begins like it.
        """
        if self._alphabet is not None and not self._alphabet.issuperset(word):
            return []
        places = self._places(word)
        if places[0] == 0:
            return []
        raw = word.encode()
        first = len(word[: places[0]].encode())
        ends = self._ends(ids, first)
        kept = len(ends)
        reach = _FIRST_REACH
        while True:
            kept = self._seam(ends, raw, kept - reach)
            begin = ends[kept - 1] if kept else 0
            rest = raw[begin:].decode()
            done = len(word) - len(rest)
            ways = [self._tokens(rest[: place - done]) for place in places]
            if kept == 0 or all(self._part(ids, ends, kept, raw, way) for way in ways):
                return [*ids[:kept], *_common(ways)]
            reach *= 4

    def _places(self, word: str) -> list[int]:
        """Return where the token that holds the end may begin, first ones first."""
        first = max(0, len(word) - self._longest)
        places = [place for place in range(first, len(word)) if self._begins(word[place:])]
        if word in self._whole:
            places.insert(0, 0)
        return [*places, len(word)]

    def _begins(self, text: str) -> bool:
        """Whether some token is this text and more."""
        found = bisect_right(self._vocabulary, text)
        return found < len(self._vocabulary) and self._vocabulary[found].startswith(text)

    def _ends(self, ids: Sequence[int], limit: int) -> list[int]:
        """Return the byte behind each token that ends before ``limit`` in every longer word."""
        ends: list[int] = []
        if self._is_bpe:
            for number in ids:
                end = self._sizes[number] + (ends[-1] if ends else 0)
                if end > limit:
                    break
                if self._sizes[number] == 0:
                    return []
                ends.append(end)
        return ends

    def _seam(self, ends: list[int], raw: bytes, most: int) -> int:
        """Return how many tokens to keep at most: the last begins and ends with a character."""
        for kept in range(most, 0, -1):
            begin = ends[kept - 2] if kept > 1 else 0
            if _is_edge(raw, begin) and _is_edge(raw, ends[kept - 1]):
                return kept
        return 0

    def _part(
        self, ids: Sequence[int], ends: list[int], kept: int, raw: bytes, way: list[int]
    ) -> bool:
        """Whether BPE tokenizes what was kept and what follows as it tokenizes each alone.

        It does if that is so for the tokens at the seam: the first merge across it would join parts
        of these two, after the same merges as in these two alone.
        """
        begin, end = ends[kept - 2] if kept > 1 else 0, ends[kept - 1]
        after: list[int] = []
        for number in way:
            after.append(number)
            end += self._sizes[number]
            if self._sizes[number] == 0:
                return False
            if _is_edge(raw, end):
                return self._tokens(raw[begin:end].decode()) == [ids[kept - 1], *after]
        return False

    def _tokens(self, word: str) -> list[int]:
        """Return the tokens of a part of a word by merges alone."""
        if word in self._whole:
            tokens = self._model.tokenize(word + self._stranger)
            return [token.id for token in tokens[: len(tokens) - self._of_stranger]]
        return [token.id for token in self._model.tokenize(word)]


def _is_edge(raw: bytes, place: int) -> bool:
    """Whether a character of UTF-8 begins at this byte."""
    return place >= len(raw) or raw[place] & 0xC0 != 0x80


def _common(ways: list[list[int]]) -> list[int]:
    """Return what all lists begin with: what the first and the last in order begin with."""
    pairs = zip(min(ways), max(ways), strict=False)
    return [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
