"""What the kernels refuse, what they take without a copy, and that nothing crashes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from livemind import kernels
from livemind.kernels import reference

F = np.float32
X = np.ones((2, 16), F)
W = np.ones(16, F)
I8 = np.zeros((2, 4), np.int64)


def readonly(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


SHARED = np.ones((2, 64), F)
Call = Callable[[ModuleType], object]
BAD: list[tuple[str, Call, type[Exception], str]] = [
    ("list", lambda m: m.softmax([1.0]), TypeError, "x must be an array, got list"),
    ("float64", lambda m: m.softmax(X.astype(float)), TypeError, "x must be float32, got float64"),
    ("3-d", lambda m: m.softmax(X[None]), ValueError, "x must have 1 to 2 dimensions, got 3"),
    ("0-d", lambda m: m.softmax(np.float32(1.0)), TypeError, "x must be an array"),
    ("empty", lambda m: m.softmax(X[:, :0]), ValueError, "x must have rows of at least 1"),
    (
        "out",
        lambda m: m.softmax(X, out=np.ones((2, 15), F)),
        ValueError,
        "out must have shape (2, 16)",
    ),
    ("out type", lambda m: m.softmax(X, out=X.astype(float)), TypeError, "out must be float32"),
    ("read-only", lambda m: m.softmax(X, out=readonly(X)), ValueError, "out is read-only"),
    (
        "column",
        lambda m: m.softmax(X, out=np.ones((16, 2), F).T),
        ValueError,
        "out must be aligned",
    ),
    (
        "overlap",
        lambda m: m.softmax(SHARED[:, :16], out=SHARED[:, 8:24]),
        ValueError,
        "out and x share",
    ),
    ("in place", lambda m: m.filter_logits(readonly(X)), ValueError, "logits is read-only"),
    ("k", lambda m: m.filter_logits(X, top_k=0), ValueError, "top_k must be between 1.0"),
    ("k float", lambda m: m.filter_logits(X, top_k=1.5), TypeError, "top_k must be an integer"),
    (
        "k bool",
        lambda m: m.filter_logits(X, top_k=True),
        TypeError,
        "top_k must be a number, got bool",
    ),
    ("p", lambda m: m.filter_logits(X, top_p=1.5), ValueError, "top_p must be between 0.0 and 1.0"),
    ("p nan", lambda m: m.filter_logits(X, top_p=np.array([0.5, np.nan], F)), ValueError, "top_p"),
    (
        "p rows",
        lambda m: m.filter_logits(X, top_p=np.ones(3, F)),
        ValueError,
        "top_p must have shape (2)",
    ),
    (
        "ids",
        lambda m: m.apply_penalties(X, I8.astype(F), I8),
        TypeError,
        "prompt_ids must be int64",
    ),
    (
        "ids rows",
        lambda m: m.apply_penalties(X, I8, I8[:1]),
        ValueError,
        "output_ids must have shape",
    ),
    ("penalty", lambda m: m.apply_penalties(X, I8, I8, 0.0), ValueError, "repetition must be"),
    ("pair", lambda m: m.kl_divergence(X, X[:1]), ValueError, "q_logits must have shape (2, 16)"),
    ("weight", lambda m: m.rms_norm(X, W[:3]), ValueError, "weight must have shape (16), got (3)"),
    (
        "weight type",
        lambda m: m.rms_norm(X, W.astype(np.float16)),
        TypeError,
        "weight must be float32",
    ),
    ("epsilon", lambda m: m.rms_norm(X, W, -1.0), ValueError, "epsilon must be 0 or more"),
    (
        "residual",
        lambda m: m.fused_add_rms_norm(SHARED, SHARED, np.ones(64, F)),
        ValueError,
        "residual and x share memory",
    ),
    ("odd", lambda m: m.swiglu(np.ones((2, 3), F)), ValueError, "x must have an even number"),
    (
        "position",
        lambda m: m.rope(np.ones((1, 1, 4), F), np.array([9]), np.ones((3, 4), F)),
        ValueError,
        "positions must be below the 3 rows",
    ),
    ("q4", lambda m: m.q4_linear(X, W), TypeError, "weight must be a Q4Weight, got ndarray"),
    ("q8", lambda m: m.q8_linear(X, W), TypeError, "weight must be a Q8Weight, got ndarray"),
    (
        "q8 of 4 bits",
        lambda m: m.q8_linear(np.ones((1, 8), F), kernels.quantize_q4(np.ones((4, 8), F), 8)),
        TypeError,
        "weight must be a Q8Weight, got Q4Weight",
    ),
    (
        "q4 k",
        lambda m: m.q4_linear(np.ones((1, 8), F), kernels.quantize_q4(np.ones((4, 16), F), 16)),
        ValueError,
        "x has 8 columns, weight",
    ),
    ("format", lambda m: m.fp8_encode(X, "e3m4"), ValueError, "format must be e4m3 or e5m2"),
    ("scale", lambda m: m.fp8_encode(X, "e4m3", 0.0), ValueError, "scale must be above"),
    ("inner", lambda m: m.matmul(X, X), ValueError, "a has 16 columns, b has 2 rows"),
    (
        "keys",
        lambda m: m.attention(X[None], X[None, :1], X[None, :1]),
        ValueError,
        "k has 1 keys for 2",
    ),
    (
        "heads",
        lambda m: m.attention(X[None], X.reshape(2, 1, 16), X.reshape(2, 1, 16)),
        ValueError,
        "q has 1 heads",
    ),
    (
        "scales",
        lambda m: m.cosine_top_k(X, X.astype(np.int8), 1),
        ValueError,
        "scales must be given",
    ),
    ("no scales", lambda m: m.cosine_top_k(X, X, 1, np.ones(2, F)), ValueError, "scales belong"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [c[1:] for c in BAD], ids=[c[0] for c in BAD]
)
def test_kernel_bad_argument_is_refused_by_name(
    tier: ModuleType, call: Call, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call(tier)
    assert (X == 1.0).all()


def test_kernel_torch_tensors_are_used_in_place(tier: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 64).bfloat16()
    residual, weight = torch.randn(3, 64).bfloat16(), torch.ones(64).bfloat16()
    total = x + residual
    exact = torch.nn.functional.rms_norm(total.double(), (64,), None, 1e-6)
    tier.fused_add_rms_norm(x, residual, weight)
    assert torch.equal(residual, total)
    torch.testing.assert_close(x.double(), exact, rtol=2**-7, atol=1e-6)
    logits = torch.randn(2, 100)
    assert tier.filter_logits(logits, top_k=torch.tensor([3, 4], dtype=torch.int32)).tolist() == [
        3,
        4,
    ]
    assert torch.isfinite(logits).sum().item() == 7
    parameter = torch.nn.Parameter(torch.ones(64), requires_grad=False)
    assert np.isfinite(tier.rms_norm(torch.ones(2, 64), parameter)).all()


def test_kernel_torch_tensor_elsewhere_is_refused_by_name(tier: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises((TypeError, ValueError), match=r"^x "):
        tier.softmax(torch.ones(2, 3, device="meta"))
    with pytest.raises((TypeError, ValueError), match=r"^x must be float32, got"):
        tier.softmax(torch.ones(2, 3, dtype=torch.float64))


ARRAYS = st.builds(
    lambda shape, dtype, seed, step: np.random.default_rng(seed)
    .integers(-3, 4, shape).astype(dtype)[..., ::step],
    st.lists(st.integers(0, 20), min_size=1, max_size=4),
    st.sampled_from(["f4", "f4", "f4", "u2", "f2", "f8", "i1", "u1", "i8", "i4", ">f4", "?", "c8"]),
    st.integers(0, 9),
    st.sampled_from([1, 1, 1, 2, -1]),
)  # fmt: skip
ANYTHING = ARRAYS | st.sampled_from(
    [None, 0, -1, 3, 2**70, 0.5, float("nan"), True, "e4m3", "x", b"", object(), np.ndarray, [1.0]]
)


@pytest.mark.native
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(kernels.KERNELS), arguments=st.lists(ANYTHING, max_size=5))
def test_bindings_any_arguments_compute_or_refuse(name: str, arguments: list[Any]) -> None:
    native = pytest.importorskip("livemind.kernels._native")
    try:
        getattr(native, name)(*arguments)
    except (TypeError, ValueError):
        return


@pytest.mark.native
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_bindings_and_reference_refuse_the_same(data: st.DataObject) -> None:
    native = pytest.importorskip("livemind.kernels._native")
    name = data.draw(st.sampled_from(["softmax", "entropy", "pairwise_cosine", "swiglu"]))
    array = data.draw(ARRAYS)
    raised: list[tuple[type[Exception] | None, str]] = []
    for module in (native, reference):
        try:
            getattr(module, name)(array.copy())
            raised.append((None, ""))
        except (TypeError, ValueError) as refused:
            raised.append((type(refused), str(refused)))
    assert raised[0] == raised[1]
