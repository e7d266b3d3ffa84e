"""What the classifier is fitted and calibrated on: prompts, their beginnings, and their vectors."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ....rag.base import LayeredEmbedder
from ..dataset import (
    DOMAINS,
    FOREIGN_DOMAIN,
    HOUSE_LANGUAGES,
    Prompt,
    load_prompts,
    load_terms,
)
from ..model import LAYERS
from .families import FOLDER, write_prompts

SEED = 7
BEGINNINGS = 2
ENCODED_EACH = 8
"""Prompts of a family that the encoder's vectors are learned from."""
WRITTEN, WRITTEN_WEIGHT = "written", 4.0
"""Prompts that were written one by one, of which there are few, and what each weighs."""
SHARES = {"en": 0.45, "es": 0.35}
"""Of the weight of a domain; the rest is other languages'."""
AT_A_TIME = 32
CARRIERS = {
    "en": (
        "What is the {}?", "How does the {} work", "Tell me about {}", "Which {} is better",
        "Can you help me with {}", "I have a question about {}", "Why is the {} so", "How do I {}",
        "Explain {}", "Show me {}", "Find {}", "My {} is", "the {} of",
    ),
    "es": (
        "¿Cuál es {}?", "¿Cómo funciona {}", "Háblame de {}", "¿Qué {} es mejor", "Ayúdame con {}",
        "Tengo una pregunta sobre {}", "¿Por qué {}", "¿Cómo {}", "Explica {}", "Muéstrame {}",
        "Mi {} es", "el {} de", "¿Para qué sirve {}",
    ),
}  # fmt: skip
"""What a term is said in, so that these words say nothing."""


@dataclass(frozen=True, slots=True)
class Items:
    """Texts of prompts.

    Attributes:
        texts: whole prompts, each followed by some of its beginnings.
        labels: index into DOMAINS.
        weights: they add up to one; each domain has the same, its languages their shares.
        prompt: index of the prompt that each text is of.
        whole: whether it is the whole prompt.
        encoded: whether the network learns from the encoder's vector of it as well.
    """

    texts: list[str]
    labels: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    prompt: npt.NDArray[np.int64]
    whole: npt.NDArray[np.bool_]
    encoded: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a network is fitted on.

    Attributes:
        texts: prompts and their beginnings.
        labels: index into DOMAINS.
        weights: of each text.
        layers: float16 (texts, LAYERS) of the encoder, where ``encoded``.
        encoded: texts that have any.
        noise: texts that mean nothing.
        noise_layers: float16 (noise, LAYERS), None = the encoder does not learn of them.
    """

    texts: Sequence[str]
    labels: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    layers: npt.NDArray[np.float16]
    encoded: npt.NDArray[np.bool_]
    noise: Sequence[str]
    noise_layers: npt.NDArray[np.float16] | None = None


def training_prompts() -> list[Prompt]:
    """Return the prompts of training and validation, those of the families, and the terms.

    Without those that are of the domain multilingual for their language alone: what a text is about
    and in which language it is are judged apart.
    """
    asked = [
        prompt
        for prompt in load_prompts("train", "validation")
        if prompt.domain != FOREIGN_DOMAIN or prompt.language in HOUSE_LANGUAGES
    ]
    return [*asked, *write_prompts(SEED), *_apart(WRITTEN, "train"), *_terms()]


def tuning_prompts() -> list[Prompt]:
    """Return prompts that were written apart, each a family of its own, for the calibration."""
    return list(_apart("tuning", "validation"))


def _apart(name: str, split: Literal["train", "validation"]) -> Iterator[Prompt]:
    """Yield prompts that were written one by one, each a family of its own."""
    lines = (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()
    for number, row in enumerate(map(json.loads, lines)):
        yield Prompt(row["text"], row["domain"], row["language"], f"{name}-{number}", split)


def _terms() -> Iterator[Prompt]:
    """Yield every term alone and in one carrier phrase of its language."""
    rng = random.Random(SEED)
    for domain, language, term in load_terms():
        family = f"terms-{language}-{domain}"
        for text in (term, rng.choice(CARRIERS[language]).format(term)):
            yield Prompt(text, domain, language, family, "train")


def as_items(prompts: Sequence[Prompt], *, everywhere: bool = False) -> Items:
    """Return the whole prompts and, of each, some beginnings.

    Args:
        prompts: of training.
        everywhere: the encoder knows every language; else only texts of ``HOUSE_LANGUAGES`` are
            ``encoded``.
    """
    rng = random.Random(SEED)
    texts, number, whole, encoded = [], [], [], []
    families = Counter[str]()
    for at, prompt in enumerate(prompts):
        known = everywhere or prompt.language in HOUSE_LANGUAGES
        families[prompt.family] += known
        learns = known and families[prompt.family] <= ENCODED_EACH
        words = prompt.text.split()
        cuts = {rng.randint(1, len(words) - 1) for _ in range(BEGINNINGS)} if words[1:] else set()
        parts = [" ".join(words[:cut]) for cut in sorted(cuts)]
        if not cuts and len(prompt.text) > 3 and not prompt.text.isascii():
            parts = [prompt.text[: len(prompt.text) // 2]]
        for text in (prompt.text, *parts):
            texts.append(text)
            number.append(at)
            whole.append(text is prompt.text)
            encoded.append(learns and text in (prompt.text, *parts[-1:]))
    index = np.array(number)
    labels = np.array([DOMAINS.index(prompts[at].domain) for at in number])
    weights = _weights(prompts, index)
    return Items(texts, labels, weights, index, np.array(whole), np.array(encoded, bool))


def embed(embedder: LayeredEmbedder, texts: Sequence[str]) -> npt.NDArray[np.float16]:
    """Return float16 (texts, LAYERS); texts of about one length are encoded together."""
    found = np.empty((len(texts), LAYERS), np.float16)
    order = np.argsort([len(text) for text in texts], kind="stable")
    for start in range(0, len(order), AT_A_TIME):
        some = order[start : start + AT_A_TIME]
        found[some] = embedder.embed_layers([texts[at] for at in some])
    return found


def _weights(prompts: Sequence[Prompt], prompt: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    alone = 1.0 / np.bincount(prompt)[prompt]
    written = [prompts[at].family.startswith(f"{WRITTEN}-") for at in prompt]
    alone[np.array(written)] *= WRITTEN_WEIGHT
    kinds = np.array([f"{prompts[at].domain} {_language(prompts[at])}" for at in prompt])
    found = np.zeros(len(prompt))
    for domain in DOMAINS:
        for language in (*SHARES, "other"):
            mine = kinds == f"{domain} {language}"
            share = SHARES.get(language, 1.0 - sum(SHARES.values())) / len(DOMAINS)
            found[mine] = alone[mine] / alone[mine].sum() * share
    return found


def _language(prompt: Prompt) -> str:
    return prompt.language if prompt.language in SHARES else "other"
