"""Kernels over logits in NumPy; ``reference`` says what holds for all kernels."""

from __future__ import annotations

import math

import numpy as np

from ..arrays import (
    F32,
    AnyArray,
    Array,
    DoubleArray,
    FloatArray,
    IntArray,
    integer,
    output,
    read,
    require_apart,
    require_columns,
    require_shape,
    write,
)


def filter_logits(
    logits: Array,
    top_k: int | Array | None = None,
    top_p: float | Array | None = None,
    min_p: float | Array | None = None,
) -> IntArray:
    """Set the logits of the tokens that may not be sampled to -inf, in place.

    Applied in this order, each to what the one before left, with the softmax renormalised:
    ``min_p`` drops what has less than min_p times the probability of the best token; ``top_k``
    keeps the k best and every token that ties with the k-th; ``top_p`` keeps the fewest best
    tokens whose probability reaches top_p, at least one (Holtzman et al., arXiv:1904.09751) - of
    tokens that tie at the cut those with the lowest ids.

    Args:
        logits: float32 (rows, vocabulary). Changed.
        top_k: 1 or more, one number or an integer array (rows,); vocabulary or more is off.
        top_p: 0 to 1, one number or float32 (rows,); 1 is off.
        min_p: 0 to 1, one number or float32 (rows,); 0 is off.

    Returns:
        int64 (rows,): how many tokens were kept; -1 for a row that has a NaN, +inf or nothing
        above -inf, which is left as it was.

    Raises:
        TypeError: an argument has another type.
        ValueError: wrong shape, a limit out of its range, or logits are read-only.

    O(vocabulary) without a sort. Probabilities are summed in float64 over float32 terms within
    2 ulp: the cut may differ from the exact one where the sum comes within 1e-6 of top_p.
    """
    target = write("logits", logits, F32, 2).array
    require_columns("logits", target)
    rows, size = target.shape
    ks = _per_row("top_k", top_k, rows, size, 1, 9e15, whole=True)
    ps = _per_row("top_p", top_p, rows, 1.0, 0.0, 1.0)
    least = _per_row("min_p", min_p, rows, 0.0, 0.0, 1.0)
    kept = np.empty(rows, np.int64)
    for row in range(rows):
        kept[row] = _filter(target[row], int(ks[row]), float(ps[row]), float(least[row]))
    return kept


def softmax(x: Array, out: Array | None = None) -> FloatArray:
    """Return e^x divided by its sum along the last axis.

    Args:
        x: float32 (n,) or (rows, n), n >= 1. -inf gives 0.
        out: float32 of the same shape; may be x itself.

    Returns:
        ``out``, or a new float32 array. A row with NaN, +inf or nothing above -inf is all NaN.

    Relative error at most (8 + largest - x) eps, or 1e-37 absolute. e^x is a polynomial
    (Cephes expf, netlib.org/cephes).
    """
    return _softmax(x, out, log=False)


def log_softmax(x: Array, out: Array | None = None) -> FloatArray:
    """Return x less the logarithm of the sum of e^x along the last axis.

    Args:
        x: float32 (n,) or (rows, n), n >= 1.
        out: float32 of the same shape; may be x itself.

    Returns:
        ``out``, or a new float32 array. A row with NaN, +inf or nothing above -inf is all NaN.

    Within 1e-6 plus 2 eps times the range of the row.
    """
    return _softmax(x, out, log=True)


def apply_penalties(
    logits: Array,
    prompt_ids: Array,
    output_ids: Array,
    repetition: float | Array | None = None,
    presence: float | Array | None = None,
    frequency: float | Array | None = None,
) -> None:
    """Make tokens that were seen less likely, in place.

    A token in prompt or output: its logit is divided by ``repetition`` where positive, else
    multiplied. A token in the output: ``frequency`` times its count and ``presence`` are then
    subtracted, as OpenAI's API and vLLM define them. Only seen tokens are touched.

    Args:
        logits: float32 (rows, vocabulary). Changed.
        prompt_ids: int64 (rows, any); ids outside the vocabulary are padding.
        output_ids: int64 (rows, any), likewise.
        repetition: 1e-6 to 1e6, one number or float32 (rows,); 1 is off.
        presence: -1e6 to 1e6, likewise; 0 is off.
        frequency: -1e6 to 1e6, likewise; 0 is off.

    Raises:
        TypeError: an argument has another type.
        ValueError: wrong shape, a penalty out of its range, or logits are read-only.
    """
    target = write("logits", logits, F32, 2).array
    prompt = read("prompt_ids", prompt_ids, ("int64",), 2).array
    generated = read("output_ids", output_ids, ("int64",), 2).array
    rows, size = target.shape
    require_shape("prompt_ids", prompt, (rows, prompt.shape[1]))
    require_shape("output_ids", generated, (rows, generated.shape[1]))
    repeated = _per_row("repetition", repetition, rows, 1.0, 1e-6, 1e6)
    present = _per_row("presence", presence, rows, 0.0, -1e6, 1e6)
    frequent = _per_row("frequency", frequency, rows, 0.0, -1e6, 1e6)
    for row in range(rows):
        ids, counts = np.unique(_known(generated[row], size), return_counts=True)
        seen = np.union1d(ids, _known(prompt[row], size))
        values = target[row, seen]
        factor = np.float32(repeated[row])
        with np.errstate(over="ignore"):
            target[row, seen] = np.where(values > 0, values / factor, values * factor)
        target[row, ids] -= np.float32(frequent[row]) * counts.astype(np.float32)
        target[row, ids] -= np.float32(present[row])


def entropy(logits: Array) -> DoubleArray:
    """Return the entropy of the softmax of each row, in nats.

    Args:
        logits: float32 (rows, n), n >= 1. -inf is an impossible token.

    Returns:
        float64 (rows,), 0 to log n, within 1e-5; NaN for a row with NaN, +inf or nothing
        above -inf.
    """
    given = read("logits", logits, F32, 2).array
    require_columns("logits", given)
    log_p = _log_probabilities(given)
    p = np.exp(log_p)
    with np.errstate(invalid="ignore"):
        return np.asarray(-np.where(p > 0, p * log_p, p).sum(axis=1), np.float64)


def kl_divergence(p_logits: Array, q_logits: Array) -> DoubleArray:
    """Return KL(p || q) of the softmaxes of each pair of rows, in nats.

    Args:
        p_logits: float32 (rows, n), n >= 1.
        q_logits: float32 (rows, n).

    Returns:
        float64 (rows,), 0 or more, within 1e-5 (relative above 1); inf where q rules out what p
        allows; NaN for a row with NaN, +inf or nothing above -inf.
    """
    p, q = _pair(p_logits, q_logits)
    log_p, log_q = _log_probabilities(p), _log_probabilities(q)
    with np.errstate(invalid="ignore"):
        # what is impossible in p adds nothing, unless the row of q is no distribution
        nothing = np.where(np.isnan(log_q), np.nan, 0.0)
        terms = np.where(np.isneginf(log_p), nothing, np.exp(log_p) * (log_p - log_q))
        return np.asarray(np.maximum(terms.sum(axis=1), 0.0), np.float64)


def js_divergence(p_logits: Array, q_logits: Array) -> DoubleArray:
    """Return the Jensen-Shannon divergence of the softmaxes of each pair of rows, in nats.

    Args:
        p_logits: float32 (rows, n), n >= 1.
        q_logits: float32 (rows, n).

    Returns:
        float64 (rows,), 0 to log 2, within 1e-5; NaN for a row with NaN, +inf or nothing
        above -inf. JS = (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2 (Lin 1991,
        doi:10.1109/18.61115).
    """
    log_p, log_q = (_log_probabilities(x) for x in _pair(p_logits, q_logits))
    p, q = np.exp(log_p), np.exp(log_q)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_m = np.log((p + q) / 2)
        terms = np.where(p > 0, p * (log_p - log_m), p) + np.where(q > 0, q * (log_q - log_m), q)
    return np.asarray(np.clip(terms.sum(axis=1) / 2, 0.0, math.log(2)), np.float64)


def _filter(row: FloatArray, k: int, p: float, least: float) -> int:
    top = row.max()
    if not np.isfinite(top):  # NaN too
        return -1
    keep = row > -np.inf
    if least > 0:
        keep &= row >= top + np.float32(math.log(least))
        keep[np.argmax(row)] = True
    if k < row.size and np.count_nonzero(keep) > k:
        kept = row[keep]
        keep &= row >= np.partition(kept, kept.size - k)[kept.size - k]
    if p < 1:
        ids = np.flatnonzero(keep)
        best_first = ids[np.argsort(-row[ids], kind="stable")]
        weights = np.exp(row[best_first].astype(np.float64) - float(top))
        reached = np.cumsum(weights)
        count = int(np.searchsorted(reached, p * reached[-1])) + 1
        keep[best_first[count:]] = False
    row[~keep] = -np.inf
    return int(np.count_nonzero(keep))


def _softmax(x: Array, out: Array | None, *, log: bool) -> FloatArray:
    given = read("x", x, F32, (1, 2))
    require_columns("x", given.array)
    target, result = output("out", out, "float32", given.array.shape)
    require_apart("out", target, "x", given, same_allowed=True)
    log_p = _log_probabilities(given.array)
    target.array[...] = log_p if log else np.exp(log_p)
    return result


def _log_probabilities(x: AnyArray) -> DoubleArray:
    wide = x.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = wide - wide.max(axis=-1, keepdims=True)
        found = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return np.asarray(found, np.float64)


def _pair(p: Array, q: Array) -> tuple[AnyArray, AnyArray]:
    first = read("p_logits", p, F32, 2).array
    second = read("q_logits", q, F32, 2).array
    require_columns("p_logits", first)
    require_shape("q_logits", second, first.shape)
    return first, second


def _known(ids: AnyArray, size: int) -> IntArray:
    return np.asarray(ids[(ids >= 0) & (ids < size)], np.int64)


def _per_row(
    name: str,
    value: object,
    rows: int,
    off: float,
    least: float,
    most: float,
    *,
    whole: bool = False,
) -> AnyArray:
    if value is None:
        return np.full(rows, off)
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got bool")
    if isinstance(value, float | int) and not (whole and isinstance(value, float)):
        single = integer(name, value) if whole else float(value)
        numbers: AnyArray = np.full(rows, float(single))
        _require_range(name, float(single), float(single), least, most)
        return numbers
    if isinstance(value, float):
        raise TypeError(f"{name} must be an integer, got float")
    kinds = ("int64", "int32") if whole else F32
    numbers = read(name, value, kinds, 1).array
    require_shape(name, numbers, (rows,))
    if rows:
        _require_range(name, float(np.min(numbers)), float(np.max(numbers)), least, most)
    return numbers


def _require_range(name: str, low: float, high: float, least: float, most: float) -> None:
    if not (low >= least and high <= most):
        got = low if not low >= least else high
        raise ValueError(f"{name} must be between {float(least)} and {float(most)}, got {got}")
