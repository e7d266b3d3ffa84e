"""Train, calibrate, write a file of ``model.MODEL_FILES``: a module, ``…routing.training.train``.

Beginnings of a training prompt are training texts, so that half a question is judged as what it is:
also as what it may still become. The calibration sees prompts that were written apart, on which
nothing was fitted. The test split and ``benchmarks/data/routing_registers.jsonl`` are not read.
Takes about five minutes on two cores; needs torch, nothing else does. What reads another encoder
than the first takes the words of the shipped file, which is trained before it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....rag.base import FloatArray, LayeredEmbedder
from ....rag.encoder.e5 import E5Embedder
from ....rag.encoder.embedder import MiniLMEmbedder
from ..dataset import DOMAINS, Prompt
from ..encoders import encoder as encoder_kind
from ..model import FIRST_ENCODER, LAYERS, MODEL_FILES, RouteModel, load_model
from .calibrate import EMPTY, Typed, beginnings, calibrate
from .noise import noise
from .texts import Items, Lesson, as_items, embed, training_prompts, tuning_prompts

SEED = 1
NOISE = 6000
PROTOTYPES_EACH = 2
"""Prompts of a family that stand for their domain."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m livemind.orchestrator.routing.training.train", description=__doc__
    )
    parser.add_argument("--encoder", choices=MODEL_FILES, default=FIRST_ENCODER, help="to read")
    parser.add_argument("--out", type=Path, help="default: the shipped file")
    parser.add_argument("--vectors", type=Path, help="keep the encoder's vectors in this file")
    options = parser.parse_args(argv)
    embedder = encoder_kind(options.encoder).questions()
    assert isinstance(embedder, MiniLMEmbedder | E5Embedder)
    everywhere = isinstance(embedder, E5Embedder)
    out: Path = options.out or MODEL_FILES[embedder.name]
    prompts = training_prompts()
    items, typed = as_items(prompts, everywhere=everywhere), tuning_prompts()
    texts, _ = beginnings([prompt.text for prompt in typed])
    print(f"{len(prompts)} prompts, {len(items.texts)} + {len(texts)} texts", file=sys.stderr)
    learned = [text for text, is_in in zip(items.texts, items.encoded, strict=True) if is_in]
    vectors = _vectors(embedder, [*learned, *texts], options.vectors)
    layers = np.zeros((len(items.texts), LAYERS), np.float16)
    layers[items.encoded], typed_layers = np.split(vectors, [len(learned)])
    prototypes = prototypes_of(prompts, items, layers[:, : embedder.dim])
    lesson = _lesson(items, layers)
    if everywhere:
        lesson = replace(lesson, noise_layers=embed(embedder, lesson.noise))
    model = fitted(lesson, prototypes, embedder.name, everywhere=everywhere)
    told = calibrate(model, as_typed(typed, typed_layers))
    print(told, file=sys.stderr)
    replace(model, calibration=told).save(out)
    print(f"{out}: {out.stat().st_size} bytes", file=sys.stderr)
    return 0


def fitted(
    lesson: Lesson, prototypes: Mapping[str, FloatArray], encoder: str, *, everywhere: bool = False
) -> RouteModel:
    """Return a model that is not calibrated: first its words, then what reads the encoder too."""
    from .net import fit, fit_both

    if encoder == FIRST_ENCODER:
        table, words = fit(lesson, SEED)
    else:
        table, words = load_model().table, load_model().words
    model = RouteModel(table, words, words, prototypes, EMPTY, encoder, everywhere)
    texts = [*itertools.compress(lesson.texts, lesson.encoded)]
    if lesson.noise_layers is not None:
        texts += lesson.noise
    reads = np.stack([model.read(text) for text in texts])
    return replace(model, both=fit_both(lesson, reads, SEED))


def as_typed(prompts: Sequence[Prompt], layers: npt.NDArray[np.float16]) -> Typed:
    """Return the prompts word by word; ``layers``: of their ``beginnings``."""
    texts, number = beginnings([prompt.text for prompt in prompts])
    families = {name: at for at, name in enumerate(dict.fromkeys(p.family for p in prompts))}
    return Typed(
        texts,
        layers,
        np.array([DOMAINS.index(prompts[at].domain) for at in number]),
        number,
        np.array([families[prompts[at].family] for at in number]),
        [prompts[at].language for at in number],
    )


def prototypes_of(
    prompts: Sequence[Prompt], items: Items, vectors: npt.NDArray[np.float16]
) -> Mapping[str, FloatArray]:
    """Return unit vectors of some whole prompts of each family, by domain."""
    taken: dict[str, int] = {}
    rows: dict[str, list[int]] = {domain: [] for domain in DOMAINS}
    for at in np.flatnonzero(items.whole & items.encoded).tolist():
        prompt = prompts[items.prompt[at]]
        count = taken[prompt.family] = taken.get(prompt.family, 0) + 1
        if count <= PROTOTYPES_EACH:
            rows[prompt.domain].append(at)
    found = {domain: vectors[at].astype(np.float32) for domain, at in rows.items()}
    return {
        name: some / np.linalg.norm(some, axis=1, keepdims=True) for name, some in found.items()
    }


def _lesson(items: Items, layers: npt.NDArray[np.float16]) -> Lesson:
    rng = random.Random(SEED)
    words = {word for text in items.texts for word in text.lower().split()}
    makers = list(noise(rng, sorted(w for w in words if w.isalpha() and len(w) > 3)).values())
    return Lesson(
        items.texts,
        items.labels,
        items.weights,
        layers,
        items.encoded,
        [rng.choice(makers)() for _ in range(NOISE)],
    )


def _vectors(
    embedder: LayeredEmbedder, texts: Sequence[str], file: Path | None
) -> npt.NDArray[np.float16]:
    """Return the encoder's layers; from ``file`` where they are kept, else into it."""
    if file is not None and file.is_file():
        kept: npt.NDArray[np.float16] = np.load(file)
        if len(kept) == len(texts):
            return kept
    found = embed(embedder, texts)
    if file is not None:
        np.save(file, found)
    return found


if __name__ == "__main__":
    sys.exit(main())
