"""Fit ``data/novelty.npz``: ``python -m livemind.orchestrator.routing.training.novelty``.

Noise is made of nine kinds; ``--held-out`` fits without each of them in turn and prints how much of
that kind is still told from prompts. Prompts of the split *train* and their beginnings are what
means something; what is printed of prompts is of the other splits. A minute or two on two cores.
"""

from __future__ import annotations

import argparse
import random
import re
import string
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ....rag.base import FloatArray, LayeredEmbedder
from ..dataset import load_prompts
from ..novelty import FILE, is_judged, novelty_features
from .calibrate import logistic

SEED = 5
EACH = 250
PROMPTS = 1500
RIDGE = 0.1
THRESHOLD = 0.35
"""Default of ``router.default_below``."""

_ROWS = ("qwertyuiop", "asdfghjkl;", "zxcvbnm,./")
_HEADS = ("bl", "gl", "spr", "z", "qu", "vr", "thn", "sk", "fl", "m")
_TAILS = ("ip", "orp", "ax", "int", "ulb", "ing", "ently", "ish", "oo", "ark")


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
            rng.choice("bcdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(1, 4))
        )

    def repeated() -> str:
        sound = rng.choice(("lol", "ha", "bla", "zzz", "aaa", "mm", "la", "xx", "uh"))
        return f"{sound * rng.randint(2, 6)} {rng.choice(('hm', '??', 'blub', '..', 'tralala'))}"

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

    def mixed() -> str:
        return "".join(rng.choices(string.ascii_letters + string.digits + "#%&*_-", k=6))

    return {
        "rows": lambda: several(8, row),
        "letters": lambda: several(7, letters),
        "syllables": lambda: several(7, syllables),
        "repeated": repeated,
        "digits": lambda: several(6, lambda: str(rng.randint(10, 99_999))),
        "near": lambda: several(6, near, 1),
        "twisted": lambda: several(8, twisted),
        "jabber": lambda: several(7, jabber),
        "mixed": lambda: several(5, mixed, 1),
    }


def main() -> int:
    """Fit, print what the weights make of prompts and noise, and write them."""
    from ....rag.encoder.embedder import MiniLMEmbedder

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-out", action="store_true", help="leave each kind out in turn")
    options = parser.parse_args()
    embedder, rng = MiniLMEmbedder(), random.Random(SEED)
    prompts = [prompt.text for prompt in load_prompts("train") if is_judged(prompt.text)]
    words = sorted({w for text in prompts for w in re.findall("[a-záéíóúñ]{3,}", text.lower())})
    makers = noise(rng, words)
    kinds = [kind for kind in makers for _ in range(EACH)]
    chosen = rng.sample(prompts, min(PROMPTS, len(prompts)))
    meant = chosen + [_beginning(text, rng) for text in chosen]
    good = _rows(embedder, meant)
    bad = _rows(embedder, [makers[kind]() for kind in kinds])
    judged = [p.text for p in load_prompts("validation", "test") if is_judged(p.text)]
    halves = [" ".join(text.split()[: max(1, len(text.split()) // 2)]) for text in judged]
    whole, half = _rows(embedder, judged), _rows(embedder, halves)
    names = np.array(kinds)
    for out in (*makers, None) if options.held_out else (None,):
        used, asked = names != out, (names == out) | (out is None)
        weights = _fit(good, bad[used])
        kept = [np.mean(_chance(rows, weights) >= THRESHOLD) for rows in (whole, half)]
        caught = np.mean(_chance(bad[asked], weights) < THRESHOLD)
        print(f"{out or 'all kinds'}: noise found {caught:.3f}, prompts kept {kept[0]:.3f} whole, "
              f"{kept[1]:.3f} half")  # fmt: skip
    np.savez(FILE, weights=weights.astype(np.float32), encoder=embedder.name)
    return 0


def _beginning(text: str, rng: random.Random) -> str:
    words = text.split()
    return " ".join(words[: rng.randint(1, len(words))])


def _rows(embedder: LayeredEmbedder, texts: list[str]) -> FloatArray:
    return novelty_features(embedder.embed_layers(texts), texts)


def _fit(good: FloatArray, bad: FloatArray) -> FloatArray:
    rows = np.concatenate([good, bad]).astype(np.float64)
    right = np.arange(len(rows)) < len(good)
    weights = np.where(right, len(rows) / 2 / len(good), len(rows) / 2 / len(bad))
    return np.asarray(logistic(rows, right, weights, RIDGE), np.float32)


def _chance(rows: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(rows @ weights, -30.0, 30.0))), np.float32)


if __name__ == "__main__":
    sys.exit(main())
