"""Train, calibrate and write ``data/model.npz``: ``python -m livemind.orchestrator.routing.train``.

Every prefix of a training prompt is a training text, so that half a question is judged as what it
is. Terms stand alone and in carrier phrases ("What is the …"), so that the phrase says nothing.
What the calibration sees are predictions for families the classifier was not fitted on. The test
split is not read. Takes about three minutes on one core; needs torch, nothing else does.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...rag.base import Embedder, FloatArray
from .calibrate import fit_final, fit_own, fit_temperature
from .dataset import DOMAINS, HOUSE_LANGUAGES, Prompt, load_prompts, load_terms, prefixes
from .features import SIZE, features
from .language import identify
from .model import MODEL_FILE, Calibration, RouteModel

IntArray = npt.NDArray[np.int64]

SEED = 1
FOLDS = 5
TERM_SHARE = 0.6
STRENGTH = 60_000.0
"""Inverse weight of the L2 penalty; it and TERM_SHARE were chosen on the validation split."""
STEPS = 60
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


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts as the classifier sees them.

    Attributes:
        texts, vectors, rows: n texts, their float32 (n, 384) and (n, SIZE).
        margins: of the language, nats.
        labels: index into DOMAINS.
        weights: sum to one over each domain.
        prompt: index of the prompt each is a prefix of; the last prefix is the whole.
        fold: -1 for terms, which every fold is fitted on.
    """

    texts: list[str]
    vectors: FloatArray
    rows: FloatArray
    margins: list[float]
    labels: IntArray
    weights: npt.NDArray[np.float64]
    prompt: IntArray
    fold: IntArray


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m livemind.orchestrator.routing.train", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=MODEL_FILE, help="default: the shipped file")
    options = parser.parse_args(argv)
    from ...rag.embedder import MiniLMEmbedder

    embedder = MiniLMEmbedder()
    print("embedding the prompts and the terms", file=sys.stderr)
    asked = as_texts(load_prompts("train", "validation"), embedder)
    terms = term_texts(embedder)
    model = train(asked, terms, embedder.name)
    model.save(options.out)
    print(f"{options.out}: {model.calibration}", file=sys.stderr)
    return 0


def train(asked: Texts, terms: Texts, encoder: str) -> RouteModel:
    """Return the model: fitted on all texts, calibrated on what each fold did not see."""
    logits = np.empty((len(asked.texts), len(DOMAINS)), np.float32)
    for fold in range(FOLDS):
        print(f"fold {fold + 1} of {FOLDS}", file=sys.stderr)
        weights, bias = fit(asked, terms, asked.fold != fold)
        left_out = asked.fold == fold
        logits[left_out] = asked.rows[left_out] @ weights + bias
    temperature = fit_temperature(logits, asked.labels, asked.weights)
    print("all prompts", file=sys.stderr)
    weights, bias = fit(asked, terms, np.ones(len(asked.texts), bool))
    whole = _is_whole(asked.prompt)
    prototypes = {
        name: asked.vectors[whole & (asked.labels == label)] for label, name in enumerate(DOMAINS)
    }
    told = Calibration(temperature, 0.0, 0.0, (), 0.0)
    told = replace(told, **fit_own(logits / temperature, asked, whole))
    told = replace(told, **fit_final(logits / temperature, asked))
    return RouteModel(weights, bias, prototypes, told, encoder)


def fit(asked: Texts, terms: Texts, used: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Return weights (SIZE, 5) and bias (5,) of a multinomial logistic regression (L-BFGS)."""
    import torch

    rows = torch.from_numpy(np.vstack([asked.rows[used], terms.rows]))
    labels = torch.from_numpy(np.concatenate([asked.labels[used], terms.labels]))
    importance = np.concatenate(
        [_shares(asked.weights[used]) * (1 - TERM_SHARE), _shares(terms.weights) * TERM_SHARE]
    )
    scale = torch.from_numpy(importance.astype(np.float32))
    weights = torch.zeros(SIZE, len(DOMAINS), requires_grad=True)
    bias = torch.zeros(len(DOMAINS), requires_grad=True)
    search = torch.optim.LBFGS(
        [weights, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        wrong = torch.nn.functional.cross_entropy(rows @ weights + bias, labels, reduction="none")
        total = (wrong * scale).sum() + 0.5 / STRENGTH * (weights * weights).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), bias.detach().numpy()


def as_texts(prompts: Sequence[Prompt], embedder: Embedder) -> Texts:
    """Return every prefix of every prompt; a prompt's prefixes share its weight."""
    texts, labels, weights, prompt, fold = [], [], [], [], []
    families = sorted({item.family for item in prompts})
    random.Random(SEED).shuffle(families)
    folds = {family: at % FOLDS for at, family in enumerate(families)}
    for number, item in enumerate(prompts):
        parts = prefixes(item.text)
        texts += parts
        labels += [DOMAINS.index(item.domain)] * len(parts)
        weights += [1 / len(parts)] * len(parts)
        prompt += [number] * len(parts)
        fold += [folds[item.family]] * len(parts)
    return _texts(texts, labels, weights, prompt, fold, embedder)


def term_texts(embedder: Embedder) -> Texts:
    """Return every term alone and in one carrier phrase of its language."""
    rng = random.Random(SEED)
    texts, labels = [], []
    for domain, language, term in load_terms():
        texts += [term, rng.choice(CARRIERS[language]).format(term)]
        labels += [DOMAINS.index(domain)] * 2
    alone = [-1] * len(texts)
    return _texts(texts, labels, [1.0] * len(texts), alone, alone, embedder)


def _texts(
    texts: list[str],
    labels: list[int],
    weights: list[float],
    prompt: list[int],
    fold: list[int],
    embedder: Embedder,
) -> Texts:
    vectors = embedder.embed(texts)
    margins = [identify(text, HOUSE_LANGUAGES).margin for text in texts]
    rows = np.stack([features(v, t, m) for v, t, m in zip(vectors, texts, margins, strict=True)])
    kind = np.array(labels)
    scale = np.array(weights)
    for label in range(len(DOMAINS)):
        scale[kind == label] /= scale[kind == label].sum()
    return Texts(texts, vectors, rows, margins, kind, scale, np.array(prompt), np.array(fold))


def _shares(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = weights / weights.sum()
    return found


def _is_whole(prompt: IntArray) -> npt.NDArray[np.bool_]:
    """Return which texts are the last prefix of their prompt."""
    return np.append(prompt[1:] != prompt[:-1], True)


if __name__ == "__main__":
    sys.exit(main())
