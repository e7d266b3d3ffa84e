"""Texts that mean nothing, of many kinds: what goes to the default expert."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Mapping, Sequence

_ROWS = ("qwertyuiop", "asdfghjklñ", "zxcvbnm,./", "asdfghjkl;", "poiuytrewq")
_HEADS = ("bl", "gl", "spr", "z", "qu", "vr", "thn", "sk", "fl", "m", "gn", "tr", "kr", "w")
_TAILS = (
    "ip",
    "orp",
    "ax",
    "int",
    "ulb",
    "ing",
    "ently",
    "ish",
    "oo",
    "ark",
    "arg",
    "imble",
    "unk",
)
_SOUNDS = ("lol", "ha", "bla", "zzz", "aaa", "mm", "la", "xx", "uh", "na", "pf", "da", "tk", "we")


def noise(rng: random.Random, words: Sequence[str]) -> Mapping[str, Callable[[], str]]:
    """Return makers of texts that mean nothing, by kind; ``words`` are twisted by one of them."""

    def several(most: int, one: Callable[[], str], least: int = 2) -> str:
        return " ".join(one() for _ in range(rng.randint(least, most)))

    def row() -> str:
        keys, at = rng.choice(_ROWS), rng.randint(0, 9)
        return "".join(keys[(at + step) % 10] for step in range(rng.randint(2, 7)))

    def letters() -> str:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9)))

    def syllables() -> str:
        return "".join(
            rng.choice("bcdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))
        )

    def repeated() -> str:
        sound = rng.choice(_SOUNDS)
        return f"{sound * rng.randint(2, 6)} {rng.choice(('hm', '??', 'blub', '..', 'tralala'))}"

    def beaten() -> str:
        key = rng.choice(string.ascii_lowercase)
        other = rng.choice(string.ascii_lowercase)
        return key * rng.randint(3, 7) + other * rng.randint(0, 3)

    def near() -> str:
        line, at, found = rng.randint(0, 2), rng.randint(0, 9), ""
        for _ in range(rng.randint(3, 9)):
            found += _ROWS[line][at]
            line = min(2, max(0, line + rng.choice((-1, 0, 0, 1))))
            at = min(9, max(0, at + rng.choice((-1, 0, 1, 1))))
        return found

    def twisted() -> str:
        word = list(rng.choice(words))
        for _ in range(max(2, len(word) // 2)):
            word[rng.randrange(len(word))] = rng.choice(string.ascii_lowercase)
        return "".join(word)

    def jabber() -> str:
        return rng.choice(_HEADS) + rng.choice(("o", "i", "a", "u", "ee")) + rng.choice(_TAILS)

    def again() -> str:
        word = rng.choice((row, letters, near))()[:6]
        return " ".join(word[: rng.randint(2, 6)] for _ in range(rng.randint(2, 5)))

    def mixed() -> str:
        return "".join(rng.choices(string.ascii_letters + string.digits + "#%&*_-", k=6))

    return {
        "rows": lambda: several(8, row),
        "letters": lambda: several(7, letters),
        "syllables": lambda: several(7, syllables),
        "repeated": repeated,
        "beaten": lambda: several(6, beaten),
        "digits": lambda: several(6, lambda: str(rng.randint(10, 99_999))),
        "near": lambda: several(6, near, 1),
        "twisted": lambda: several(8, twisted),
        "jabber": lambda: several(7, jabber),
        "again": again,
        "mixed": lambda: several(5, mixed, 1),
    }
