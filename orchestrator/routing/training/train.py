"""Train, calibrate, write ``data/model.npz``: run it as a module, ``…routing.training.train``.

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

from ....rag.base import FloatArray, LayeredEmbedder
from ..dataset import DOMAINS, HOUSE_LANGUAGES, Prompt, load_prompts, load_terms, prefixes
from ..features import LAYERS, SIZE, features
from ..language import identify
from ..model import MODEL_FILE, Calibration, RouteModel, sharpness, silu
from .calibrate import fit_final, fit_own, fit_sharpness

IntArray = npt.NDArray[np.int64]

SEED = 1
FOLDS = 5
TERM_SHARE = 0.4
HIDDEN = 64
EPOCHS = 12
BATCH = 512
RATE = 2e-3
DECAY = 0.01
ROW_DROPOUT, HIDDEN_DROPOUT = 0.15, 0.3
LABEL_SMOOTHING = 0.03
ENCODER_SCALE, WORDS_SCALE = 12.0, 2.0
"""What the rows are multiplied with while the weights are fitted. These numbers, the layer and the
shape of the network were chosen by the predictions of five folds of the training and validation
prompts."""
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
        prog="python -m livemind.orchestrator.routing.training.train", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=MODEL_FILE, help="default: the shipped file")
    options = parser.parse_args(argv)
    from ....rag.encoder.embedder import MiniLMEmbedder

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
        inner, inner_bias, outer = fit(asked, terms, asked.fold != fold)
        sums = asked.rows[asked.fold == fold] @ inner + inner_bias
        logits[asked.fold == fold] = silu(sums[:, :HIDDEN]) @ outer + sums[:, HIDDEN:]
    told = Calibration((), 0.0, 0.0, (), 0.0)
    told = replace(told, sharpness=fit_sharpness(logits, asked.texts, asked.labels, asked.weights))
    logits *= np.array([[sharpness(told.sharpness, text)] for text in asked.texts], np.float32)
    print("all prompts", file=sys.stderr)
    inner, inner_bias, outer = fit(asked, terms, np.ones(len(asked.texts), bool))
    whole = _is_whole(asked.prompt)
    prototypes = {
        name: asked.vectors[whole & (asked.labels == label)] for label, name in enumerate(DOMAINS)
    }
    told = replace(told, **fit_own(logits, asked, whole))
    told = replace(told, **fit_final(logits, asked))
    return RouteModel(inner, inner_bias, outer, prototypes, told, encoder)


def fit(
    asked: Texts, terms: Texts, used: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``RouteModel.inner``, ``inner_bias`` and ``outer`` (AdamW, one cycle, dropout)."""
    import torch
    from torch.nn import functional as f

    torch.manual_seed(SEED)
    scale = np.full(SIZE, ENCODER_SCALE, np.float32)
    scale[LAYERS + 1 :] = WORDS_SCALE
    rows = torch.from_numpy(np.vstack([asked.rows[used], terms.rows]) * scale)
    labels = torch.from_numpy(np.concatenate([asked.labels[used], terms.labels]))
    share = np.concatenate(
        [_shares(asked.weights[used]) * (1 - TERM_SHARE), _shares(terms.weights) * TERM_SHARE]
    )
    importance = torch.from_numpy((share / share.mean()).astype(np.float32))
    start = torch.randn(SIZE, HIDDEN + len(DOMAINS)) * 0.01
    start[: LAYERS + 1, :HIDDEN] = (torch.rand(LAYERS + 1, HIDDEN) * 2 - 1) * LAYERS**-0.5
    inner = start.requires_grad_()
    inner_bias = torch.zeros(HIDDEN + len(DOMAINS), requires_grad=True)
    outer = ((torch.rand(HIDDEN, len(DOMAINS)) * 2 - 1) * HIDDEN**-0.5).requires_grad_()
    search = torch.optim.AdamW([inner, inner_bias, outer], lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(rows) // BATCH)
    pace = torch.optim.lr_scheduler.OneCycleLR(search, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(rows)), BATCH):
            sums = f.dropout(rows[batch], ROW_DROPOUT) @ inner + inner_bias
            hidden = f.dropout(f.silu(sums[:, :HIDDEN]), HIDDEN_DROPOUT)
            wrong = f.cross_entropy(
                hidden @ outer + sums[:, HIDDEN:],
                labels[batch],
                reduction="none",
                label_smoothing=LABEL_SMOOTHING,
            )
            search.zero_grad()
            (wrong * importance[batch]).mean().backward()  # type: ignore[no-untyped-call]
            search.step()
            pace.step()
    weights: FloatArray = inner.detach().numpy() * scale[:, None]
    return weights, inner_bias.detach().numpy(), outer.detach().numpy()


def as_texts(prompts: Sequence[Prompt], embedder: LayeredEmbedder) -> Texts:
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


def term_texts(embedder: LayeredEmbedder) -> Texts:
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
    embedder: LayeredEmbedder,
) -> Texts:
    layers = embedder.embed_layers(texts)
    margins = [identify(text, HOUSE_LANGUAGES).margin for text in texts]
    rows = np.stack([features(v, t, m) for v, t, m in zip(layers, texts, margins, strict=True)])
    kind = np.array(labels)
    scale = np.array(weights)
    for label in range(len(DOMAINS)):
        scale[kind == label] /= scale[kind == label].sum()
    vectors = np.ascontiguousarray(layers[:, : embedder.dim])
    return Texts(texts, vectors, rows, margins, kind, scale, np.array(prompt), np.array(fold))


def _shares(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = weights / weights.sum()
    return found


def _is_whole(prompt: IntArray) -> npt.NDArray[np.bool_]:
    """Return which texts are the last prefix of their prompt."""
    return np.append(prompt[1:] != prompt[:-1], True)


if __name__ == "__main__":
    sys.exit(main())
