"""A pattern on a text that goes on: what is called final is what the engine finds in the end."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from tokenizers import Regex, pre_tokenizers

from livemind.backends.open_turn.automaton import Automaton
from livemind.backends.open_turn.pattern import UnknownPattern, read_pattern

from .conftest import CL100K, DEEPSEEK, O200K, PIECES, POSSESSIVE, QWEN, random_text

PATTERNS = {
    "cl100k": CL100K,
    "qwen": QWEN,
    "o200k": O200K,
    "possessive": POSSESSIVE,
    "deepseek": DEEPSEEK[2],
    "lazy": r"a+?b|ab*?c|\s+?x|[a-z]",
    "gives back": r"\p{L}*a|\d++1|\d|x{2,3}y|x",
    "gives nothing back": r"[ab]++c|[ab]?+b|a",
    "looks": r"a(?=[bc])|\p{L}+(?!\d)|\d+$|.",
    "in groups": r"(?:ab|a)(?:bc|c)?|(?i)dog|d",
}


@cache
def matches_of(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "removed", invert=True).pre_tokenize_str


def first_match(pattern: str, text: str) -> int | None:
    """Return where the engine's match that begins at 0 ends."""
    found = matches_of(pattern)(text)
    return found[0][1][1] if found and found[0][1][0] == 0 else None


@pytest.mark.parametrize("name", PATTERNS)
def test_match_called_final_is_the_engines_however_the_text_goes_on(name: str) -> None:
    pattern, chance = PATTERNS[name], random.Random(name)
    automaton = Automaton(pattern)
    pieces = [*PIECES, *"abcx1", "ab", "abc", "xxy", "xxxy", "  x", "Dog", "11", "a1"]
    finals = 0
    for _ in range(1500):
        known = "".join(chance.choices(pieces, k=chance.randrange(1, 6)))
        end, is_final, _ = automaton.match(known, 0)
        finals += is_final
        for rest in ["", *chance.choices(pieces, k=6)]:
            found = first_match(pattern, known + rest)
            if is_final:
                assert found == end, (known, rest)
            elif end is not None:
                assert found is not None
                assert found == end or found >= len(known), (known, rest)
    assert finals > 300


@pytest.mark.parametrize("name", PATTERNS)
def test_may_hold_no_match_holds_two_characters_that_it_says_no_to(name: str) -> None:
    pattern, chance = PATTERNS[name], random.Random(name)
    automaton = Automaton(pattern)
    for _ in range(300):
        text = random_text(chance, 20)
        for word, _ in matches_of(pattern)(text):
            kinds = [automaton.kind(character) for character in word]
            assert all(map(automaton.may_hold, kinds, kinds[1:])), (text, word)


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"^a", r"\Aa", r"(?<=a)b", r"(?<!a)b", r"(?>a+)b", r"(a)\1", r"(?x) a b", r"a{2}?"),
        *("(a", "[a", r"a*", r"(?:a?|b*)", r"(?i)\p{L}", r"(?i)stra(ss)e", "(?i)é", r"a{1000}{9}"),
    ],
)
def test_read_pattern_refuses_what_it_does_not_follow(pattern: str) -> None:
    with pytest.raises(UnknownPattern):
        read_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "exact"),
    [
        (r"\p{L}++", True),
        (r"[ab]++c", True),
        (r"(?:ab)++c", False),
        (r"\bword\b", False),
        (r"(?:a?)+b", False),
        (r"\d{1,3}+", True),
    ],
)
def test_read_pattern_says_whether_a_match_can_be_followed(pattern: str, exact: bool) -> None:
    assert read_pattern(pattern).exact is exact
