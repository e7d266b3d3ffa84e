"""Where a pre-tokenizer parts a text whose end is not known yet: the word that is still open.

Each stage sees the open word of the stage before it and knows it up to some character. It says
where its own open word begins, whatever follows, and how much of it is certain.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .automaton import Automaton
from .pattern import UnknownPattern

Description = Mapping[str, Any]

# What tokenizers' ByteLevel splits by when it splits at all.
_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LOOK_AT_TWO = (
    "BertPreTokenizer",
    "CharDelimiterSplit",
    "Digits",
    "Punctuation",
    "Whitespace",
    "WhitespaceSplit",
)
_REMEMBERED = 1 << 16
# Characters read for each of a text before what is left is taken as not understood.
_MOST_READ = 8


class Stage(Protocol):
    """One pre-tokenizer."""

    def open(self, known: str) -> tuple[int, str]:
        """Return where the open word begins, and what it certainly begins with.

        Args:
            known: how a word of the stage before begins; more may follow, or nothing.

        Returns:
            The first character of the open word; the words before it are final. What the model
            sees of it for certain, "" where nothing is.
        """
        ...


class Unknown:
    """A pre-tokenizer of which nothing is known: it may do anything."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def open(self, known: str) -> tuple[int, str]:
        """See ``Stage``."""
        return 0, ""


class TwoCharacters:
    """A pre-tokenizer that parts a text by looking at two neighbouring characters alone."""

    def __init__(self, pre_tokenizer: Any) -> None:
        self._pre_tokenizer = pre_tokenizer
        self._kind = functools.lru_cache(_REMEMBERED)(self._kind_of)
        self._examples: dict[tuple[bool, ...], str] = {}
        self._parts = functools.cache(self._does_part)

    def open(self, known: str) -> tuple[int, str]:
        """See ``Stage``."""
        if not known:
            return 0, ""
        begin = len(known) - 1
        after = self._kind(known[begin])
        while begin > 0:
            before = self._kind(known[begin - 1])
            if self._parts(before, after):
                break
            begin, after = begin - 1, before
        keeps = self._pre_tokenizer.pre_tokenize_str(known[begin])
        return begin, known[begin:] if keeps else ""

    def _kind_of(self, character: str) -> str:
        """Return the first character seen that this pre-tokenizer treats alike."""
        pairs = (f"a{character}", f"{character}a", character * 2)
        keeps = bool(self._pre_tokenizer.pre_tokenize_str(character))
        alike = (*(self._does_part(*pair) for pair in pairs), keeps)
        return self._examples.setdefault(alike, character)

    def _does_part(self, before: str, after: str) -> bool:
        words = self._pre_tokenizer.pre_tokenize_str(before + after)
        return not words or any(1 in place for _, place in words)


class Pattern:
    """A split at what a regular expression matches and at what lies between.

    Args:
        automaton: the expression.
        split: does the same with a whole text.
        drops_matches, drops_between: which of the two is thrown away.
    """

    def __init__(
        self,
        automaton: Automaton,
        split: Any,
        *,
        drops_matches: bool = False,
        drops_between: bool = False,
    ) -> None:
        self._automaton = automaton
        self._split = split
        self._drops_matches = drops_matches
        self._drops_between = drops_between

    def open(self, known: str) -> tuple[int, str]:
        """See ``Stage``."""
        if not self._automaton.is_exact:
            return self._open_by_reach(known)
        begin = between = self._forced(known)
        left = _MOST_READ * (len(known) - begin + 1)
        while begin < len(known):
            end, is_final, read = self._automaton.match(known, begin)
            left -= read
            if left < 0:  # each place of a gap is read on and on
                return between, ""
            if not is_final:
                if between < begin:
                    return between, "" if self._drops_between else known[between:begin]
                return begin, "" if self._drops_matches else known[begin:end] if end else ""
            if end is None:
                begin += 1
            else:
                begin = between = end
        return between, "" if self._drops_between else known[between:]

    def _open_by_reach(self, known: str) -> tuple[int, str]:
        """Go back to where no match, nor what it looks at, can reach across: all before is final.

        Whether something ends there is not known, only that the word before it reaches so far.
        """
        place = len(known)
        after: int | None = None
        while place > 0:
            before = self._automaton.kind(known[place - 1])
            if after is not None and not self._automaton.may_hold(before, after):
                break
            place, after = place - 1, before
        words = self._split.pre_tokenize_str(known)
        begin = max((edge for _, edges in words for edge in edges if edge < place), default=0)
        drops = self._drops_matches or self._drops_between
        return begin, "" if drops else known[begin:place]

    def _forced(self, known: str) -> int:
        """Return the last place at which the text is parted whatever stands around it.

        No match can hold both characters there, and one of them always is part of a match.
        """
        seen = self._automaton
        after = seen.kind(known[-1]) if known else 0
        for place in range(len(known) - 1, 0, -1):
            before = seen.kind(known[place - 1])
            one_matches = seen.matches_alone(before) or seen.matches_alone(after)
            if one_matches and not seen.may_hold(before, after):
                return place
            after = before
        return 0


class Blanks:
    """SentencePiece's: each blank is a mark that a word begins with, and may part the text.

    Args:
        mark: what a blank becomes.
        parts: whether each mark begins a word.
        prepends: whether a word without a mark gets one.
    """

    def __init__(self, mark: str, *, parts: bool, prepends: bool) -> None:
        self._mark = mark
        self._parts_words = parts
        self._prepends = prepends

    def open(self, known: str) -> tuple[int, str]:
        """See ``Stage``."""
        marked = known.replace(" ", self._mark)
        begin = max(marked.rfind(self._mark), 0) if self._parts_words else 0
        word = marked[begin:]
        if begin == 0 and word and self._prepends and not word.startswith(self._mark):
            word = self._mark + word
        return begin, word


class Bytes:
    """Byte level: each byte of a word becomes a character of its own, perhaps after a split.

    What stages after it do with bytes is not followed.
    """

    def __init__(self, split: Stage | None, byte_level: Any, *, is_last: bool) -> None:
        self._split = split
        self._as_bytes = byte_level
        self._is_last = is_last

    def open(self, known: str) -> tuple[int, str]:
        """See ``Stage``."""
        begin, word = self._split.open(known) if self._split is not None else (0, known)
        if not self._is_last:
            return begin, ""
        return begin, "".join(text for text, _ in self._as_bytes.pre_tokenize_str(word))


class Words:
    """All stages of a tokenizer's pre-tokenizer.

    Args:
        description: the pre-tokenizer as ``tokenizer.json`` has it, None = there is none.
        make: builds a pre-tokenizer from such a description.
    """

    def __init__(self, description: Description | None, make: Callable[[Description], Any]) -> None:
        stages = _stages(description)
        first = stages[0] if stages else {}
        self._prefix, self._prefix_at_start_only, self._is_prefixed = _prefix(first)
        later = [_without_prefix(first), *stages[1:]] if stages else []
        self._stages: list[Stage] = []
        for number, stage in enumerate(later):
            self._stages.append(_stage(stage, make, is_last=number == len(later) - 1))
        self._split = make({"type": "Sequence", "pretokenizers": later}) if later else None

    @property
    def parts(self) -> bool:
        """Whether a text is parted into words at all."""
        return bool(self._stages)

    @property
    def why_not(self) -> str | None:
        """Why nothing is known of a text that goes on; None = something is."""
        first = self._stages[0] if self._stages else None
        if isinstance(first, Unknown):
            return f"its pre-tokenizer {first.kind} is not understood"
        return None

    def prefixed(self, text: str, *, at_start: bool) -> str:
        """Return a text with the mark that its first word gets; ``at_start``: of all there is."""
        if not text or not self._prefix or (self._prefix_at_start_only and not at_start):
            return text
        return text if self._is_prefixed(text) else self._prefix + text

    def open(self, known: str) -> tuple[int, int, str]:
        """Return where the open word of the first and of the last stage begin, and its text.

        See ``Stage.open``. ``known`` is what ``prefixed`` returned.
        """
        if not self._stages:
            return 0, 0, known
        (first, word), begin = self._stages[0].open(known), 0
        for stage in self._stages[1:]:
            added, word = stage.open(word)
            begin += added
            if not word:
                break
        return first, first + begin, word

    def words(self, text: str) -> list[tuple[str, int]]:
        """Return the words of a text that ends here, with the place where each begins."""
        if self._split is None:
            return [(text, 0)] if text else []
        return [(word, begin) for word, (begin, _) in self._split.pre_tokenize_str(text)]


def _stages(description: Description | None) -> list[Description]:
    if description is None:
        return []
    if description["type"] != "Sequence":
        return [description]
    return [stage for part in description["pretokenizers"] for stage in _stages(part)]


def _prefix(first: Description) -> tuple[str, bool, Callable[[str], bool]]:
    """Return what the first stage puts before a text, if only at the start, and what has it."""
    if first.get("type") == "Metaspace":
        mark = first["replacement"]
        scheme = first.get("prepend_scheme", "always")
        has = lambda text: text.startswith((mark, " "))  # noqa: E731
        return ("" if scheme == "never" else mark), scheme == "first", has
    if first.get("type") == "ByteLevel" and first.get("add_prefix_space", True):
        return " ", False, lambda text: text[0].isspace()
    return "", False, bool


def _without_prefix(stage: Description) -> Description:
    if stage["type"] == "Metaspace":
        return {**stage, "prepend_scheme": "never"}
    if stage["type"] == "ByteLevel":
        return {**stage, "add_prefix_space": False}
    return stage


def _stage(stage: Description, make: Callable[[Description], Any], *, is_last: bool) -> Stage:
    kind = stage["type"]
    try:
        if kind in _LOOK_AT_TWO:
            return TwoCharacters(make(stage))
        if kind == "Split":
            return _split(stage, make)
        if kind == "Metaspace" and stage["prepend_scheme"] != "first":
            prepends = stage["prepend_scheme"] == "always"
            return Blanks(stage["replacement"], parts=stage["split"], prepends=prepends)
        if kind == "ByteLevel" and not stage.get("add_prefix_space", True):
            splits = stage.get("use_regex", True)
            split = Pattern(Automaton(_BYTE_LEVEL), make(stage)) if splits else None
            return Bytes(split, make({**stage, "use_regex": False}), is_last=is_last)
    except UnknownPattern:
        pass
    return Unknown(kind)


def _split(stage: Description, make: Callable[[Description], Any]) -> Stage:
    pattern = stage["pattern"]
    source = pattern["Regex"] if "Regex" in pattern else re.escape(pattern["String"])
    automaton = Automaton(source)
    if automaton.takes_one:
        return TwoCharacters(make(stage))
    if stage["behavior"] not in ("Isolated", "Removed"):
        return Unknown(stage["behavior"])
    removes, inverts = stage["behavior"] == "Removed", stage["invert"]
    return Pattern(
        automaton,
        make(stage),
        drops_matches=removes and not inverts,
        drops_between=removes and inverts,
    )


def component(kind: str, description: Description) -> Any:
    """Return a ``normalizer`` or ``pre_tokenizer`` of ``tokenizers`` from its description."""
    from tokenizers import Tokenizer

    whole: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {}, "unk_token": ""},
    }
    return getattr(Tokenizer.from_str(json.dumps({**whole, kind: description})), kind)
