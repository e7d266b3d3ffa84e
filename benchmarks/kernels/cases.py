"""What ``livemind bench kernels`` measures over logits and embeddings; layers in their own file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from ...kernels import reference
from .case import Arm, Case

VOCABULARY = 151_936  # Qwen3's: the largest that is common


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _tensors(*arrays: np.ndarray[Any, Any]) -> list[Any]:
    """Return torch's view of arrays; empty without torch."""
    with contextlib.suppress(ImportError):
        import torch

        return [torch.from_numpy(array) for array in arrays]
    return []


def filters(native: ModuleType, seed: int) -> Iterator[Case]:
    """Top-p and top-k over a full vocabulary, against what vLLM does on CPUs."""
    shapes = (("peaked", 6.0, 1, {"top_p": 0.9}), ("usual", 3.0, 1, {"top_p": 0.9}),
              ("flat", 1.0, 1, {"top_p": 0.9}), ("batch8", 3.0, 8, {"top_p": 0.9}),
              ("top_k_and_p", 3.0, 1, {"top_k": 50, "top_p": 0.9}),
              ("top_k", 3.0, 1, {"top_k": 50}), ("min_p", 3.0, 1, {"min_p": 0.05}))  # fmt: skip
    for name, spread, rows, cut in shapes:
        base = _rng(seed).standard_normal((rows, VOCABULARY), np.float32) * np.float32(spread)
        work = base.copy()

        def arm(kernel: Callable[..., object], base: Any = base, work: Any = work,
                cut: dict[str, Any] = cut) -> object:  # fmt: skip
            np.copyto(work, base)
            return kernel(work, **cut)

        case = Case("filter", name, partial(arm, native.filter_logits), bytes=2 * base.nbytes)
        case.work = f"({rows}, {VOCABULARY}) logits of sd {spread:g}, {cut}; includes a copy"
        if rows == 1:
            case.peers["numpy"] = partial(arm, reference.filter_logits)
        if "min_p" not in cut:
            case.vllm(partial(_vllm_filter, base, cut))
        yield case


def _vllm_filter(base: Any, cut: dict[str, Any]) -> Arm:
    import torch
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    source, work = torch.from_numpy(base), torch.empty(base.shape)
    k = torch.full((len(base),), cut["top_k"], dtype=torch.int32) if "top_k" in cut else None
    p = torch.full((len(base),), cut["top_p"]) if "top_p" in cut else None

    def call() -> object:
        work.copy_(source)
        return apply_top_k_top_p(work, k, p)

    return call


def softmaxes(native: ModuleType, seed: int) -> Iterator[Case]:
    """Softmax and log-softmax."""
    for name, n in (("v151936", VOCABULARY), ("n4096", 4096)):
        x = _rng(seed).standard_normal((1, n), np.float32) * 4
        out = np.empty_like(x)
        for kernel in ("softmax", "log_softmax"):
            case = Case(kernel, name, partial(getattr(native, kernel), x, out), bytes=2 * x.nbytes)
            case.peers["numpy"] = partial(_numpy_softmax, x, kernel == "log_softmax")
            for tensor, result in [_tensors(x, out)] if _tensors(x, out) else []:
                import torch

                case.peers["torch"] = partial(getattr(torch, kernel), tensor, -1, out=result)
            yield case


def _numpy_softmax(x: Any, log: bool) -> Any:
    shifted = x - x.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=-1, keepdims=True)
    return shifted - np.log(total) if log else e / total


def penalties(native: ModuleType, seed: int) -> Iterator[Case]:
    """Penalties with 512 tokens of prompt and 200 of output, against vLLM's dense counting."""
    rng = _rng(seed)
    x = rng.standard_normal((1, VOCABULARY), np.float32)
    prompt = rng.integers(0, VOCABULARY, (1, 512))
    output = rng.integers(0, VOCABULARY, (1, 200))
    case = Case(
        "penalties", "p512_o200", partial(native.apply_penalties, x, prompt, output, 1.1, 0.1, 0.1)
    )
    case.scalar = False  # the same code on every tier
    case.peers["numpy"] = partial(reference.apply_penalties, x, prompt, output, 1.1, 0.1, 0.1)

    def make() -> Arm:
        import torch
        from vllm.v1.sample.ops.penalties import apply_all_penalties

        logits, ids = torch.from_numpy(x.copy()), torch.from_numpy(prompt)
        some, one = torch.full((1,), 0.1), torch.full((1,), 1.1)
        return partial(apply_all_penalties, logits, ids, some, some, one, output.tolist())

    case.vllm(make)
    yield case


def divergences(native: ModuleType, seed: int) -> Iterator[Case]:
    """Entropy, KL and Jensen-Shannon divergence over a full vocabulary, from logits."""
    p, q = (_rng(seed + i).standard_normal((1, VOCABULARY), np.float32) * 4 for i in (0, 1))
    for name, calls in (("entropy", (p,)), ("kl", (p, q)), ("js", (p, q))):
        kernel = {"kl": "kl_divergence", "js": "js_divergence"}.get(name, name)
        case = Case(name, "v151936", partial(getattr(native, kernel), *calls))
        case.bytes = sum(x.nbytes for x in calls)
        case.peers["numpy"] = partial(getattr(reference, kernel), *calls)
        tensors = _tensors(*calls)
        if tensors:
            case.peers["torch"] = partial(_torch_divergence, name, *tensors)
        yield case


def _torch_divergence(name: str, p: Any, q: Any = None) -> Any:
    # the shortest way to write it: fused log_softmax, then kl_div where there is one
    from torch.nn.functional import kl_div

    log_p = p.log_softmax(-1)
    if name == "entropy":
        return -(log_p.exp() * log_p).sum(-1)
    log_q = q.log_softmax(-1)
    if name == "kl":
        return kl_div(log_q, log_p, reduction="sum", log_target=True)
    log_m = ((log_p.exp() + log_q.exp()) * 0.5).log()
    return 0.5 * (kl_div(log_m, log_p, reduction="sum", log_target=True)
                  + kl_div(log_m, log_q, reduction="sum", log_target=True))  # fmt: skip


def similarities(native: ModuleType, seed: int) -> Iterator[Case]:
    """The ten rows most similar to a query, in three storage types; all pairs of 256 rows."""
    from ...kernels.arrays import from_float32

    rng = _rng(seed)
    for rows, label in ((1000, "1k"), (100_000, "100k")):
        wide = rng.standard_normal((rows, 384), np.float32)
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        query = wide[:1].copy()
        half = from_float32(wide, "bfloat16")
        codes, scales = native.quantize_rows(wide)
        for name, matrix, extra in (
            ("f32", wide, None),
            ("bf16", half, None),
            ("i8", codes, scales),
        ):
            case = Case("similarity", f"{name}_{label}",
                        partial(native.cosine_top_k, query, matrix, 10, extra),
                        bytes=matrix.nbytes)  # fmt: skip
            case.work = f"{rows} x 384, top 10"
            case.peers["numpy"] = partial(_numpy_top, wide, query)
            tensors = _tensors(wide, query)
            if tensors:
                case.peers["torch"] = _torch_top(tensors[0], tensors[1], name == "bf16")
            if name == "f32":
                _add_numkong(case, wide, query)
            yield case
    wide = rng.standard_normal((256, 384), np.float32)
    case = Case("pairwise_cosine", "256x384", partial(native.pairwise_cosine, wide))
    case.peers["numpy"] = partial(reference.pairwise_cosine, wide)
    yield case


def _numpy_top(matrix: Any, query: Any) -> Any:
    scores = matrix @ query[0]
    best = np.argpartition(-scores, 10)[:10]
    return best[np.argsort(-scores[best])]


def _torch_top(matrix: Any, query: Any, narrow: bool) -> Arm:
    if narrow:
        matrix, query = matrix.bfloat16(), query.bfloat16()
    return lambda: (matrix @ query[0]).topk(10)


def _add_numkong(case: Case, matrix: Any, query: Any) -> None:
    try:
        import numkong
    except ImportError:
        case.absent.append("numkong: not installed")
        return
    case.peers["numkong"] = lambda: _numkong_top(numkong, matrix, query)


def _numkong_top(numkong: Any, matrix: Any, query: Any) -> Any:
    distances = np.asarray(numkong.cdist(query, matrix, metric="angular"))[0]
    best = np.argpartition(distances, 10)[:10]
    return best[np.argsort(distances[best])]
