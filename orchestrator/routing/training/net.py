"""The network of ``model.RouteModel`` in torch, and how it is fitted."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from ....rag.base import FloatArray
from ..dataset import DOMAINS
from ..features import BUCKETS, Ids, token_ids
from ..model import COUNT_SCALE, LAYERS, Layer
from .texts import Lesson

WIDTH = 32
READ = 2 * WIDTH + 1
WORDS_HIDDEN, BOTH_HIDDEN = 48, 64
ENCODER_SCALE = 12.0
"""What the encoder's layers are multiplied with while the weights are fitted."""
EPOCHS = 3
BATCH = 512
RATE = 4e-3
BOTH_EPOCHS, BOTH_BATCH, BOTH_RATE = 12, 256, 2e-3
TOKEN_DROPOUT = 0.15
SMOOTHING = 0.02
MEANING_WEIGHT = 0.4


class Net(nn.Module):
    """The network; ``read`` computes what ``RouteModel.read`` does."""

    def __init__(self) -> None:
        super().__init__()
        outputs = len(DOMAINS)
        self.table = nn.EmbeddingBag(BUCKETS, WIDTH, mode="mean")
        nn.init.normal_(self.table.weight, 0, 0.1)
        self.words = _Head(READ, WORDS_HIDDEN, outputs + 1, 0.1, 0.2)

    def read(self, ids: Tensor, starts: Tensor, text: Tensor, count: int) -> Tensor:
        """Return (count, READ); ``text``: which text each token is of."""
        tokens = self.table(ids, starts)
        sizes = torch.bincount(text, minlength=count).float()[:, None]
        sums = torch.zeros(count, WIDTH).index_add_(0, text, tokens)
        most = torch.full((count, WIDTH), -1e9)
        most = most.scatter_reduce(0, text[:, None].expand(-1, WIDTH), tokens, "amax")
        return torch.cat([sums / sizes.sqrt(), most, torch.log1p(sizes) * COUNT_SCALE], 1)


class _Head(nn.Module):
    """``model.Layer``."""

    def __init__(
        self, size: int, hidden: int, outputs: int, dropout: float, hidden_dropout: float
    ) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(size, hidden), nn.Linear(hidden, outputs, bias=False)
        self.direct = nn.Linear(size, outputs)
        self._dropout, self._hidden_dropout = dropout, hidden_dropout

    def forward(self, rows: Tensor) -> Tensor:
        rows = f.dropout(rows, self._dropout, self.training)
        hidden = f.dropout(f.silu(self.inner(rows)), self._hidden_dropout, self.training)
        found: Tensor = self.outer(hidden) + self.direct(rows)
        return found

    def layer(self, scale: FloatArray) -> Layer:
        """Return it for rows that are not multiplied with ``scale``."""
        inner, direct = (
            part.weight.detach().numpy().T * scale[:, None] for part in (self.inner, self.direct)
        )
        rest = (self.inner.bias, self.outer.weight.T, self.direct.bias)
        inner_bias, outer, bias = (part.detach().numpy() for part in rest)
        return Layer(inner, inner_bias, outer, direct, bias)


def fit(lesson: Lesson, seed: int) -> tuple[FloatArray, Layer]:
    """Return ``RouteModel.table`` and ``words`` (AdamW, one cycle, dropout)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net, known = Net(), len(lesson.texts)
    looked_up = [token_ids(text) for text in (*lesson.texts, *lesson.noise)]
    groups = [
        {"params": [net.table.weight], "lr": 2 * RATE, "weight_decay": 0.0},
        {"params": net.words.parameters(), "lr": RATE / 2},
    ]
    search = torch.optim.AdamW(groups, weight_decay=0.02)
    steps = EPOCHS * -(-len(looked_up) // BATCH)
    pace = torch.optim.lr_scheduler.OneCycleLR(search, [2 * RATE, RATE / 2], total_steps=steps)
    labels = torch.from_numpy(lesson.labels)
    importance = torch.from_numpy((lesson.weights / lesson.weights.mean()).astype(np.float32))
    noise_weight = known / max(1, len(lesson.noise)) / 2
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in np.array_split(rng.permutation(len(looked_up)), steps // EPOCHS):
            ids, starts, text = _batch([looked_up[at] for at in batch], rng)
            rows = net.read(ids, starts, text, len(batch))
            scores = net.words(rows)
            means = torch.from_numpy(batch < known)
            mine = torch.from_numpy(batch[batch < known])
            wrong = f.cross_entropy(
                scores[means][:, : len(DOMAINS)], labels[mine],
                reduction="none", label_smoothing=SMOOTHING,
            )  # fmt: skip
            loss = (wrong * importance[mine]).sum() / len(batch)
            wrong = f.binary_cross_entropy_with_logits(
                scores[:, len(DOMAINS)], means.float(), reduction="none"
            )
            loss = loss + MEANING_WEIGHT * (wrong * torch.where(means, 1.0, noise_weight)).mean()
            search.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            search.step()
            pace.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1} of {EPOCHS}: {total / (steps // EPOCHS):.3f}", file=sys.stderr)
    table: FloatArray = net.table.weight.detach().numpy()
    return table, net.words.layer(np.ones(READ, np.float32))


def fit_both(lesson: Lesson, reads: FloatArray, seed: int) -> Layer:
    """Return ``RouteModel.both`` over what the fitted words read, where there is a vector.

    Args:
        lesson: as for ``fit``; with ``noise_layers`` it also learns what means anything.
        reads: float32 (n, READ), ``RouteModel.read`` of the n encoded texts, then of the noise
            that has layers.
        seed: of what is random.
    """
    torch.manual_seed(seed)
    layers = lesson.layers[lesson.encoded]
    known, outputs = len(layers), len(DOMAINS)
    if lesson.noise_layers is not None:
        layers, outputs = np.concatenate([layers, lesson.noise_layers]), outputs + 1
    scaled = layers.astype(np.float32) * ENCODER_SCALE
    rows = torch.from_numpy(np.concatenate([reads, scaled], 1))
    labels = torch.from_numpy(lesson.labels[lesson.encoded])
    weights = lesson.weights[lesson.encoded]
    importance = torch.from_numpy((weights / weights.mean()).astype(np.float32))
    head = _Head(READ + LAYERS, BOTH_HIDDEN, outputs, 0.5, 0.5)
    search = torch.optim.AdamW(head.parameters(), lr=BOTH_RATE, weight_decay=0.2)
    steps = BOTH_EPOCHS * -(-len(rows) // BOTH_BATCH)
    pace = torch.optim.lr_scheduler.OneCycleLR(search, BOTH_RATE, total_steps=steps)
    for _ in range(BOTH_EPOCHS):
        for batch in torch.split(torch.randperm(len(rows)), BOTH_BATCH):
            scores = head(rows[batch])
            means = batch < known
            mine = batch[means]
            wrong = f.cross_entropy(
                scores[means][:, : len(DOMAINS)], labels[mine],
                reduction="none", label_smoothing=SMOOTHING,
            )  # fmt: skip
            loss = (wrong * importance[mine]).sum() / len(batch)
            if outputs > len(DOMAINS):
                wrong = f.binary_cross_entropy_with_logits(scores[:, -1], means.float())
                loss = loss + MEANING_WEIGHT * wrong
            search.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            search.step()
            pace.step()
    scale = np.full(READ + LAYERS, ENCODER_SCALE, np.float32)
    scale[:READ] = 1.0
    return head.layer(scale)


def _batch(
    looked_up: Sequence[tuple[Ids, Ids]], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, where each token begins and which text it is of; some tokens are left out."""
    rows, starts, texts, before = [], [], [], 0
    for number, (ids, begins) in enumerate(looked_up):
        parts = np.split(ids, begins[1:]) if len(begins) else [np.zeros(1, np.int64)]
        if len(parts) > 2:
            kept = [part for part in parts if rng.random() >= TOKEN_DROPOUT]
            parts = kept or parts[:1]
        for part in parts:
            rows.append(part)
            starts.append(before)
            texts.append(number)
            before += len(part)
    return torch.from_numpy(np.concatenate(rows)), torch.tensor(starts), torch.tensor(texts)
