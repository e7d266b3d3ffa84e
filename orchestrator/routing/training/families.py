"""Prompts by the thousand: families of sentences, said in many manners.

A family is a line of ``families/*.txt``: ``{this|that}`` is a choice, ``<slot>`` one of a list of
the same file, ``# language domain writer`` stands above its families. ``families/manners.txt`` says
how people wrap a question: greetings, small talk that has nothing to do with it, thanks. The rest
of a manner is made here: typing errors, no marks, no accents, a pasted line with a foreign text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..dataset import Prompt

FOLDER = Path(__file__).parent / "families"
HOUSE_EACH, OTHER_EACH = 28, 9
"""Prompts of a family, in English and Spanish and in other languages."""

_HEAD = re.compile(r"# (\w+) (\w+) (\w+)$")
_SLOT = re.compile(r"<(\w+)>")
_CHOICE = re.compile(r"\{([^{}]*)\}")
_SEVERAL = re.compile(r"(?<=\S)[;；؛]\s*")  # noqa: RUF001
_MARKS = re.compile(r"[,.?!:;¿¡]")
_BEFORE_MARK = re.compile(r" ([,?.!;])(?=\s|$)")
_PLAIN_VOWELS = str.maketrans("áéíóúÁÉÍÓÚ", "aeiouAEIOU")
_SHORT = {
    "en": ((r"\byou\b", "u"), (r"\bplease\b", "pls")),
    "es": ((r"\bque\b", "q"), (r"\bpor\b", "x")),
}
_NO_CAPITALS = frozenset({"zh", "ja", "ko", "th", "ar", "hi"})
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Family:
    """Sentences of one pattern; ``slots``: what ``<name>`` may be."""

    name: str
    language: str
    domain: str
    writer: str
    pattern: str
    slots: Mapping[str, tuple[str, ...]]


def load_families() -> list[Family]:
    """Return all families in the order of their files."""
    found: list[Family] = []
    for name in ("english", "spanish", "others"):
        slots: dict[str, tuple[str, ...]] = {}
        language = domain = writer = ""
        lines = (FOLDER / f"{name}.txt").read_text("utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if head := _HEAD.match(line):
                language, domain, writer = head.groups()
            elif line.startswith("= "):
                key, _, values = line[2:].partition(":")
                slots[key] = tuple(values.strip().split("|"))
            elif line:
                parts = _SEVERAL.split(line) if name == "others" else [line]
                for part, pattern in enumerate(parts):
                    key = f"{name}-{number}-{part}"
                    found.append(Family(key, language, domain, writer, pattern, slots))
    return found


def write_prompts(seed: int) -> list[Prompt]:
    """Return prompts of every family, each once, all of the split *train*."""
    rng, manners = random.Random(seed), _Manners()
    found: dict[str, Prompt] = {}
    for family in load_families():
        wanted = HOUSE_EACH if family.language in ("en", "es") else OTHER_EACH
        for _ in range(wanted):
            text = manners(sentence(family, rng), family, rng)
            if text:
                prompt = Prompt(text, family.domain, family.language, family.name, "train")
                found.setdefault(text, prompt)
    return list(found.values())


def sentence(family: Family, rng: random.Random) -> str:
    """Return one sentence of a family; ``{{`` and ``}}`` are braces."""

    def slot(match: re.Match[str]) -> str:
        return rng.choice(family.slots.get(match[1], (match[0],)))

    def choice(match: re.Match[str]) -> str:
        return rng.choice(str(match[1]).split("|"))

    text = family.pattern.replace("{{", "\1").replace("}}", "\2")
    while _CHOICE.search(text):
        text = _SLOT.sub(slot, _CHOICE.sub(choice, _SLOT.sub(slot, text)))
    text = _SLOT.sub(slot, text).replace("\1", "{").replace("\2", "}").replace("\\n", " ")
    return _BEFORE_MARK.sub(r"\1", " ".join(text.split()))


class _Manners:
    """How a sentence is said; the lists of ``manners.txt``."""

    def __init__(self) -> None:
        self._lists = dict(_manners())

    def __call__(self, text: str, family: Family, rng: random.Random) -> str:
        language = family.language
        if family.domain == "coding" and rng.random() < 0.15:
            line = rng.choice(self._lists["code", "lines"])
            line = line.replace("{s}", rng.choice(self._lists["foreign", "strings"]))
            text = f"{text} {line}" if rng.random() < 0.7 else f"{line} {text}"
        text = self._wrapped(text, language, rng)
        chance = rng.random()
        if chance < 0.25 and language not in _NO_CAPITALS:
            text = text[:1].upper() + text[1:] + rng.choice("?.")
        elif chance < 0.35:
            text += "?"
        if rng.random() < 0.12:
            text = _mistyped(text, rng)
        if rng.random() < 0.12:
            text = _MARKS.sub("", text)
        if language == "es" and rng.random() < 0.3:
            text = text.translate(_PLAIN_VOWELS)
        if rng.random() < 0.08:
            for long, short in _SHORT.get(language, ()):
                text = re.sub(long, short, text)
        return " ".join(text.split())

    def _wrapped(self, text: str, language: str, rng: random.Random) -> str:
        opening, closing, talk = (
            self._lists.get((language, kind), ()) for kind in ("open", "close", "context")
        )
        if opening and rng.random() < 0.35:
            text = f"{rng.choice(opening)} {text}"
        if talk and (chance := rng.random()) < 0.24:
            said = rng.choice(talk)
            if chance < 0.06:
                text = f"{text}. {said}"
            else:
                text = f"{said if chance < 0.15 else said.rstrip('.:') + ','} {text}"
        if closing and rng.random() < 0.2:
            text = text + rng.choice((" ", ", ", ". ")) + rng.choice(closing)
        return text


def _manners() -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    kind = "", ""
    for line in (FOLDER / "manners.txt").read_text("utf-8").splitlines():
        if line.startswith("# "):
            language, _, name = line[2:].partition(" ")
            kind = language, name
        elif line:
            yield kind, tuple(line.split("|"))


def _mistyped(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    for _ in range(max(1, len(words) // 8)):
        at = rng.randrange(len(words))
        word = words[at]
        if len(word) < 4 or not word.isalpha():
            continue
        place = rng.randrange(1, len(word) - 1)
        left, here, after, right = word[:place], word[place], word[place + 1], word[place + 2 :]
        words[at] = rng.choice((
            left + after + right,
            left + after + here + right,
            left + here + here + after + right,
            left + (rng.choice(_LETTERS) if word.isascii() else here) + after + right,
        ))  # fmt: skip
    return " ".join(words)
