"""The prompts that routing is trained, calibrated and judged on; written for this project.

``data/prompts.jsonl``: one prompt per line with its domain, language, family (prompts that share
an idea or a template) and split. A family lies in one split only, so that no held-out prompt has a
sibling in training. ``data/terms.jsonl``: words of each domain, for training alone. What the
domains mean, and how the split was drawn, is told in docs/routing.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .domains import BUILTIN

DATA = Path(__file__).parent / "data"
DOMAINS = BUILTIN
FOREIGN_DOMAIN = "multilingual"
"""Where a text goes that is in no language of the house."""
HOUSE_LANGUAGES = ("en", "es")
"""The languages in which every domain has prompts."""

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line of ``prompts.jsonl``."""

    text: str
    domain: str
    language: str
    family: str
    split: Split


def load_prompts(*splits: Split) -> list[Prompt]:
    """Return the prompts of these splits (none = all) in the order of the file."""
    lines = (DATA / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [Prompt(**json.loads(line)) for line in lines]
    return [prompt for prompt in prompts if prompt.split in (splits or get_args(Split))]


def load_terms() -> Iterator[tuple[str, str, str]]:
    """Yield (domain, language, term)."""
    for line in (DATA / "terms.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for term in row["terms"]:
            yield row["domain"], row["language"], term


def prefixes(text: str) -> list[str]:
    """Return the text after its first word, after its second, … and whole; white space as one."""
    words = text.split()
    return [" ".join(words[:count]) for count in range(1, len(words) + 1)]
