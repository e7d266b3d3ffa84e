"""What probabilities mean: sharpness, the chance that a route lasts, and when it is stable.

Everything here is fitted on predictions for prompts that the classifier was not fitted on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from ..dataset import DOMAINS, FOREIGN_DOMAIN
from ..model import final_features, sharpness_features
from ..scorer import NEAREST
from ..signals import HARD_LANGUAGE_NATS, SURE, spread

if TYPE_CHECKING:
    from .train import Texts

Floats = npt.NDArray[np.floating]

RIGHT_SHARE = 0.97
MARGIN_SHARE = 0.01
"""The threshold is set where the share was this much above RIGHT_SHARE."""
OWN_EXAMPLES = 10
FOREIGN = DOMAINS.index(FOREIGN_DOMAIN)


class Own(TypedDict):
    """Two fields of ``model.Calibration``."""

    nearness: float
    own_bias: float


class Final(TypedDict):
    """Two fields of ``model.Calibration``."""

    final: tuple[float, ...]
    stable_at: float


def fit_sharpness(
    logits: Floats, texts: Sequence[str], labels: npt.NDArray[np.int64], weights: Floats
) -> tuple[float, ...]:
    """Return ``Calibration.sharpness`` that gives the labels the highest likelihood (L-BFGS)."""
    import torch

    rows = torch.tensor([sharpness_features(text) for text in texts])
    scores, wanted = torch.tensor(logits, dtype=torch.float32), torch.from_numpy(labels)
    scale = torch.tensor(weights / weights.sum(), dtype=torch.float32)
    found = torch.zeros(rows.shape[1], requires_grad=True)
    search = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        sharp = scores * torch.exp(rows @ found)[:, None]
        wrong = torch.nn.functional.cross_entropy(sharp, wanted, reduction="none")
        total = (wrong * scale).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    return tuple(found.tolist())


def fit_own(logits: Floats, asked: Texts, whole: npt.NDArray[np.bool_]) -> Own:
    """Return how nearness counts, from episodes in which one domain is the user's own.

    In each the classifier does not know one domain; ten prompts of it, each of another family where
    there are as many, stand for the user's examples.
    """
    grid = [(near, bias) for near in (4, 6, 8, 10, 12, 15, 20) for bias in np.arange(-1, 3.1, 0.5)]
    total = np.zeros(len(grid))
    for own in range(len(DOMAINS)):
        cosines, judged = _own_episode(own, asked, whole)
        prior = logits[judged].astype(np.float64)
        prior -= _log_sum(np.delete(prior, own, axis=1))[:, None]
        prior[:, own] = np.delete(prior, own, axis=1).max(1)
        for at, (near, bias) in enumerate(grid):
            scores = prior + near * cosines
            scores[:, own] += bias
            total[at] += _loss(scores, asked.labels[judged], asked.weights[judged])
    near, bias = grid[int(np.argmin(total))]
    return {"nearness": float(near), "own_bias": float(bias)}


def fit_final(logits: Floats, asked: Texts) -> Final:
    """Return the weights of P(final route = this one) and the P from which a route is stable."""
    rows, lasted, ranks = [], [], []
    chances = np.exp(logits - _log_sum(logits)[:, None]).astype(np.float64)
    for at, margin in enumerate(asked.margins):
        if margin >= HARD_LANGUAGE_NATS:
            chances[at] = spread(len(DOMAINS), FOREIGN, SURE)
    best = chances.argmax(1)
    last = _last_of(asked.prompt)
    for at, text in enumerate(asked.texts):
        rows.append(final_features(sorted(chances[at].tolist(), reverse=True), text))
        lasted.append(bool(best[at] == best[last[at]]))
        ranks.append(last[at] == at)
    open_ = ~np.array(ranks)
    weights = logistic(np.array(rows)[open_], np.array(lasted)[open_], asked.weights[open_])
    found = 1 / (1 + np.exp(-np.clip(np.array(rows) @ weights, -30, 30)))
    threshold = _threshold(found, np.array(lasted), asked.prompt)
    return {"final": tuple(float(w) for w in weights), "stable_at": threshold}


def _threshold(
    found: Floats, lasted: npt.NDArray[np.bool_], prompt: npt.NDArray[np.int64]
) -> float:
    """Return the least P whose first crossing in a prompt was right often enough."""
    for value in np.arange(0.80, 0.9995, 0.0025):
        right = []
        for number in np.unique(prompt):
            crossed = np.flatnonzero((prompt == number) & (found >= value))
            if len(crossed):
                right.append(bool(lasted[crossed[0]]))
        if right and np.mean(right) >= RIGHT_SHARE + MARGIN_SHARE:
            return float(round(value, 4))
    return 1.0


def _own_episode(
    own: int, asked: Texts, whole: npt.NDArray[np.bool_]
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return mean cosines (n, 5) to each domain's examples and the n texts judged."""
    rng = random.Random(own)
    mine = rng.sample(np.flatnonzero(whole & (asked.labels == own)).tolist(), OWN_EXAMPLES)
    taken = set(asked.prompt[mine].tolist())
    judged = np.flatnonzero([number not in taken for number in asked.prompt])[::3]
    cosines = np.zeros((len(judged), len(DOMAINS)))
    for label in range(len(DOMAINS)):
        known = np.array(mine) if label == own else np.flatnonzero(whole & (asked.labels == label))
        near = asked.vectors[judged] @ asked.vectors[known].T
        near[asked.fold[judged][:, None] == asked.fold[known][None, :]] *= label == own
        cosines[:, label] = np.sort(near, axis=1)[:, -NEAREST:].mean(1)
    return cosines, judged


def logistic(
    rows: Floats, right: npt.NDArray[np.bool_], weights: Floats, ridge: float = 1e-3
) -> Floats:
    """Return the weights of a logistic regression (Newton's method)."""
    found = np.zeros(rows.shape[1])
    scale = weights / weights.mean()
    for _ in range(30):
        chance = 1 / (1 + np.exp(-np.clip(rows @ found, -30, 30)))
        slope = rows.T @ (scale * (right - chance)) - ridge * found
        bend = (rows * (scale * chance * (1 - chance))[:, None]).T @ rows
        found = found + np.linalg.solve(bend + ridge * np.eye(len(found)), slope)
    return found


def _last_of(prompt: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    last = {number: at for at, number in enumerate(prompt.tolist())}
    return np.array([last[number] for number in prompt.tolist()])


def _loss(logits: Floats, labels: npt.NDArray[np.int64], weights: Floats) -> float:
    wrong = _log_sum(logits) - logits[np.arange(len(labels)), labels]
    return float(np.average(wrong, weights=weights))


def _log_sum(logits: Floats) -> Floats:
    top = logits.max(1)
    found: Floats = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return found
