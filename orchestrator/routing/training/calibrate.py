"""What probabilities mean: sharpness, language, when the words suffice, when a route is stable.

Everything here is fitted on predictions for prompts that were written apart, in another register
than what the network was fitted on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..dataset import DOMAINS, HOUSE_LANGUAGES, prefixes
from ..language import held_against, ranked
from ..model import Calibration, RouteModel, final_features, foreign_features, sharpness_features
from ..prose import prose
from ..scorer import NEAREST, DomainScorer
from ..signals import UNENCODED_NATS

Floats = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

RISK = 0.03
"""Share of prompts that may get a stable route which is not their final one."""
SHARPNESS_RIDGE = 0.05
FOREIGN_SHARE = 0.15
OWN_EXAMPLES = 10
EMPTY = Calibration((0.0,) * 3, (0.0,) * 3, (-30.0, 0.0, 0.0), 1.1, 0.0, 0.0, (0.0,) * 6, 1.0)
"""Before anything is fitted: nothing is foreign, the words never suffice."""


@dataclass(frozen=True, slots=True)
class Typed:
    """Prompts word by word.

    Attributes:
        texts: every beginning of every prompt, in order.
        layers: of the encoder, one row a text.
        labels: index into DOMAINS.
        prompt, family: indexes of both, of each text.
        languages: of each text.
    """

    texts: list[str]
    layers: npt.NDArray[np.float16]
    labels: Labels
    prompt: Labels
    family: Labels
    languages: list[str]

    @property
    def weights(self) -> Floats:
        """One for each prompt, shared by its texts."""
        found: Floats = 1.0 / np.bincount(self.prompt)[self.prompt]
        return found


def calibrate(model: RouteModel, typed: Typed) -> Calibration:
    """Return what was fitted on the predictions of ``model``, in the order in which it is used."""
    reads = [model.read(text) for text in typed.texts]
    words = np.stack([model.words(row)[: len(DOMAINS)] for row in reads])
    both = np.stack([
        model.both(np.concatenate([row, layers.astype(np.float32)]))[: len(DOMAINS)]
        for row, layers in zip(reads, typed.layers, strict=True)
    ])  # fmt: skip
    margins = [held_against(ranked(prose(text)), HOUSE_LANGUAGES).margin for text in typed.texts]
    told = replace(
        EMPTY,
        words_sharpness=fit_sharpness(words, typed),
        both_sharpness=fit_sharpness(both, typed),
        foreign=fit_foreign(typed, margins),
    )
    told = replace(told, alone_at=fit_alone(replace(model, calibration=told), typed, reads))
    told = fit_own(replace(model, calibration=told), typed, both)
    final, stable_at = fit_final(replace(model, calibration=told), typed, reads, margins)
    return replace(told, final=final, stable_at=stable_at)


def fit_sharpness(logits: Floats, typed: Typed) -> tuple[float, ...]:
    """Return the sharpness that gives the labels the highest likelihood (L-BFGS)."""
    import torch

    rows = torch.tensor([sharpness_features(text) for text in typed.texts])
    scores, wanted = torch.tensor(logits, dtype=torch.float32), torch.from_numpy(typed.labels)
    scale = torch.tensor(typed.weights / typed.weights.sum(), dtype=torch.float32)
    found = torch.zeros(rows.shape[1], requires_grad=True)
    search = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        sharp = scores * torch.exp(rows @ found)[:, None]
        wrong = torch.nn.functional.cross_entropy(sharp, wanted, reduction="none")
        total = (wrong * scale).sum() + SHARPNESS_RIDGE * found[1:].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    return tuple(found.tolist())


def fit_foreign(typed: Typed, margins: Sequence[float]) -> tuple[float, ...]:
    """Return the weights of P(the text is in none of the two languages of the house)."""
    rows, foreign = [], []
    for text, language, margin in zip(typed.texts, typed.languages, margins, strict=True):
        if margin:
            rows.append(foreign_features(margin, text))
            foreign.append(language not in HOUSE_LANGUAGES)
    is_foreign = np.array(foreign)
    share = is_foreign.mean()
    weights = np.where(is_foreign, FOREIGN_SHARE / share, (1 - FOREIGN_SHARE) / (1 - share))
    return tuple(map(float, logistic(np.array(rows), is_foreign, weights)))


def fit_alone(model: RouteModel, typed: Typed, reads: Sequence[Floats]) -> float:
    """Return the least probability from which the words are as good as words and encoder."""
    alone, both = np.empty((len(reads), 2)), np.empty(len(reads))
    for at, (row, text) in enumerate(zip(reads, typed.texts, strict=True)):
        chances = model.log_prior(row, text, 0.0)
        alone[at] = np.exp(chances.max()), chances.argmax() == typed.labels[at]
        layers = typed.layers[at].astype(np.float32)
        both[at] = model.log_prior(row, text, 0.0, layers).argmax() == typed.labels[at]
    for value in np.arange(0.7, 0.999, 0.005):
        sure = alone[:, 0] >= value
        weights = typed.weights[sure]
        if sure.any() and np.average(both[sure] - alone[sure, 1], weights=weights) <= 0.0:
            return float(round(value, 3))
    return 1.1


def fit_own(model: RouteModel, typed: Typed, both: Floats) -> Calibration:
    """Return how nearness counts, from episodes in which one domain is the user's own.

    In each the classifier does not know one domain; ten whole prompts of it stand for the user's
    examples, the shipped prototypes for the other domains.
    """
    grid = [(near, bias) for near in (4, 6, 8, 10, 12, 15, 20) for bias in np.arange(-1, 3.1, 0.5)]
    dim = model.prototypes[DOMAINS[0]].shape[1]
    vectors = typed.layers[:, :dim].astype(np.float32)
    total = np.zeros(len(grid))
    for own in range(len(DOMAINS)):
        rng = random.Random(own)
        ends = np.flatnonzero(_last_of(typed.prompt) == np.arange(len(typed.prompt)))
        mine = rng.sample([at for at in ends.tolist() if typed.labels[at] == own], OWN_EXAMPLES)
        judged = np.flatnonzero(~np.isin(typed.prompt, typed.prompt[mine]))[::3]
        cosines = np.zeros((len(judged), len(DOMAINS)))
        for label, domain in enumerate(DOMAINS):
            known = vectors[mine] if label == own else model.prototypes[domain]
            near = vectors[judged] @ known.T
            cosines[:, label] = np.sort(near, axis=1)[:, -NEAREST:].mean(1)
        prior = both[judged].astype(np.float64)
        prior -= _log_sum(np.delete(prior, own, axis=1))[:, None]
        prior[:, own] = np.delete(prior, own, axis=1).max(1)
        for at, (weight, bias) in enumerate(grid):
            scores = prior + weight * cosines
            scores[:, own] += bias
            wrong = _log_sum(scores) - scores[np.arange(len(judged)), typed.labels[judged]]
            total[at] += np.average(wrong, weights=typed.weights[judged])
    weight, bias = grid[int(np.argmin(total))]
    return replace(model.calibration, nearness=float(weight), own_bias=float(bias))


def fit_final(
    model: RouteModel, typed: Typed, reads: Sequence[Floats], margins: Sequence[float]
) -> tuple[tuple[float, ...], float]:
    """Return the weights of P(final route = this one) and the P from which a route is stable."""
    scorer = DomainScorer(model, DOMAINS, {})
    last = _last_of(typed.prompt)
    rows, best = [], []
    for at, (row, text) in enumerate(zip(reads, typed.texts, strict=True)):
        unknown = not model.everywhere and margins[at] >= UNENCODED_NATS
        found = scorer.by_words(row, text, 0.0, only=unknown)
        found = found or scorer(typed.layers[at].astype(np.float32), row, text, 0.0)
        rows.append(final_features([probability for probability, _ in found], text))
        best.append(found[0][1])
    lasted = np.array([best[at] == best[end] for at, end in enumerate(last)])
    is_open = last != np.arange(len(last))
    features = np.array(rows)
    weights = logistic(features[is_open], lasted[is_open], typed.weights[is_open])
    chances = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
    return tuple(map(float, weights)), stable_from(chances, lasted, typed.prompt, typed.family)


def stable_from(chances: Floats, lasted: Flags, prompt: Labels, family: Labels) -> float:
    """Return the P from which a route is stable: conformal risk control over families.

    With n families that are exchangeable with those to come, a prompt of a new one gets a stable
    route that is not its final one with a probability of at most RISK (Angelopoulos et al. 2022,
    "Conformal Risk Control"; the loss is made monotone by its maximum over higher thresholds).
    """
    starts = np.flatnonzero(np.append(True, prompt[1:] != prompt[:-1]))
    ends = np.append(starts[1:], len(prompt))
    families = np.unique(family[starts], return_inverse=True)[1]
    worst = np.zeros(len(starts))
    sizes, found = np.bincount(families), 1.0
    for value in np.arange(0.9995, 0.5, -0.0025):
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            crossed = np.flatnonzero(chances[start:end] >= value)
            if len(crossed) and not lasted[start + crossed[0]]:
                worst[number] = 1.0
        risk = (np.bincount(families, worst) / sizes).sum() + 1.0
        if risk / (len(sizes) + 1) > RISK:
            break
        found = float(round(value, 4))
    return found


def beginnings(texts: Sequence[str]) -> tuple[list[str], Labels]:
    """Return every beginning of every text and the index of the text that each is of."""
    parts = [prefixes(text) for text in texts]
    numbers = [at for at, some in enumerate(parts) for _ in some]
    return [part for some in parts for part in some], np.array(numbers)


def logistic(rows: Floats, right: Flags, weights: Floats, ridge: float = 1e-3) -> Floats:
    """Return the weights of a logistic regression (Newton's method)."""
    found = np.zeros(rows.shape[1])
    scale = weights / weights.mean()
    for _ in range(30):
        chance = 1 / (1 + np.exp(-np.clip(rows @ found, -30, 30)))
        slope = rows.T @ (scale * (right - chance)) - ridge * found
        bend = (rows * (scale * chance * (1 - chance))[:, None]).T @ rows
        found = found + np.linalg.solve(bend + ridge * np.eye(len(found)), slope)
    return found


def _last_of(prompt: Labels) -> Labels:
    last = {number: at for at, number in enumerate(prompt.tolist())}
    return np.array([last[number] for number in prompt.tolist()])


def _log_sum(logits: Floats) -> Floats:
    top = logits.max(1)
    found: Floats = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return found
