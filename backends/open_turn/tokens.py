"""The tokens of a text that is still being written which no further text can change.

A tokenizer works in steps: added tokens are found, the rest is normalised, parted into words, and
each word is tokenized by a model. Each step is asked what it does for certain with a text of which
only the begin is known; every module of this folder answers for one of them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .added import added_tokens
from .normalising import OpenNormalizer
from .subwords import Subwords, why_whole_words
from .words import Words, component


def why_no_cut(description: Mapping[str, Any]) -> str | None:
    """Return why a tokenizer cannot be asked for the tokens of an open text; None = it can.

    Args:
        description: a ``tokenizer.json``; no look at the vocabulary is taken.
    """
    steps = _Steps(description["normalizer"], description["pre_tokenizer"], description["model"])
    return steps.why_not


class _Steps:
    """What is done with a text before the model, and whether it and the model are understood."""

    def __init__(
        self,
        normalizer: Mapping[str, Any] | None,
        pre_tokenizer: Mapping[str, Any] | None,
        model: Mapping[str, Any],
    ) -> None:
        self.normalizer = OpenNormalizer(normalizer, functools.partial(component, "normalizer"))
        self.words = Words(pre_tokenizer, functools.partial(component, "pre_tokenizer"))
        self.why_whole_words = why_whole_words(model)
        self.why_not = self.normalizer.why_not or self.words.why_not
        if self.why_not is None and not self.words.parts:
            self.why_not = self.why_whole_words


class OpenTokens:
    """The certain tokens of open texts, for one tokenizer.

    Args:
        backend: a tokenizer of ``tokenizers``.

    Attributes:
        why_not: why nothing is known of this tokenizer; None = something is.
    """

    def __init__(self, backend: Any) -> None:
        model = backend.model
        names = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
        settings = {name: getattr(model, name, None) for name in names}
        self._steps = _Steps(
            _description(backend.normalizer),
            _description(backend.pre_tokenizer),
            {"type": type(model).__name__, **settings},
        )
        self.why_not = self._steps.why_not
        self._normalizer, self._words = self._steps.normalizer, self._steps.words
        self._normalise = _normalise_with(backend.normalizer)
        self._model = model
        vocabulary = backend.get_vocab(with_added_tokens=False)
        self._subwords = Subwords(self._model, vocabulary)
        added = backend.get_added_tokens_decoder()
        self._raw = added_tokens(added, normalized=False, normalise=self._normalise)
        self._normalised = added_tokens(added, normalized=True, normalise=self._normalise)

    def known(self, text: str) -> str:
        """Return the begin of a text whose tokens ``stable`` can be asked for.

        Without what a chat template may trim at its end, and what may become an added token.
        """
        return self._raw.certain(text.rstrip())

    def stable(self, known: str, ids: Sequence[int]) -> int:
        """Return how many tokens are the first ones of every text that begins like this one.

        Linear in the text; microseconds to a few milliseconds.

        Args:
            known: from ``known``, or the end of it behind an added token.
            ids: its tokens.
        """
        if self.why_not is not None:
            return 0
        begin = self._raw.last_end(known)
        segment = known[begin:]
        if not segment:
            return len(ids)
        normal = self._normalise(segment)
        open_normal = self._normalised.certain(self._normalizer.known(segment))
        if not normal.startswith(open_normal):
            return 0
        behind = self._normalised.last_end(open_normal)
        at_start = begin == behind == 0
        rest = self._words.prefixed(normal[behind:], at_start=at_start)
        start = self._words.prefixed(open_normal[behind:], at_start=at_start)
        first, begin_of_open, word = self._words.open(start)
        before, after = self._tokens_around(rest[first:], begin_of_open - first)
        count = len(ids) - len(before) - len(after)
        if count < 0 or list(ids[count:]) != before + after:
            return 0  # the tokenizer does something else than its description says
        certain: list[int] = []
        if word and self._steps.why_whole_words is None:
            certain = self._subwords.stable(word, after)
        if after[: len(certain)] != certain:
            certain = []
        return count + len(before) + len(certain)

    def _tokens_around(self, text: str, place: int) -> tuple[list[int], list[int]]:
        """Return the tokens of the words that begin before a place, and of those behind."""
        before: list[int] = []
        after: list[int] = []
        passed = 0
        for number, (part, token) in enumerate(self._normalised.split(text)):
            if token is not None:
                (before if passed < place else after).append(token)
            else:
                part = self._words.prefixed(part, at_start=False) if number else part
                for word, begin in self._words.words(part):
                    ids = [found.id for found in self._model.tokenize(word)]
                    (before if passed + begin < place else after).extend(ids)
            passed += len(part)
        return before, after


def _normalise_with(normalizer: Any) -> Callable[[str], str]:
    return normalizer.normalize_str if normalizer is not None else lambda text: text


def _description(component: Any) -> Any:
    """Return a component as ``tokenizer.json`` has it."""
    return json.loads(component.__getstate__()) if component is not None else None
