"""Matrix product, attention and 8-bit floats on every tier."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from livemind.kernels import reference
from livemind.kernels.arrays import from_float32, to_float32

EPS = float(np.finfo(np.float32).eps)
UNIT = {"float32": 2.0**-20, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("m", [1, 4, 13, 14, 30])
@pytest.mark.parametrize("n", [1, 15, 32, 33, 70])
@pytest.mark.parametrize("k", [1, 7, 256, 300])
def test_matmul_any_shape_matches_float64(tier: ModuleType, m: int, n: int, k: int) -> None:
    a, b = normal(m, m, k), normal(n, k, n)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = k * EPS * (np.abs(a).astype(np.float64) @ np.abs(b)) + 1e-30
    assert (np.abs(tier.matmul(a, b) - exact) <= bound).all()
    wide = np.full((m, n + 3), 7.0, np.float32)
    tier.matmul(a, b, out=wide[:, :n])
    assert (np.abs(wide[:, :n] - exact) <= bound).all()
    assert (wide[:, n:] == 7.0).all()


def test_acl_matmul_equals_the_own_one() -> None:
    """Needs a build with Arm Compute Library (-DLIVEMIND_ACL_ROOT)."""
    native = pytest.importorskip("livemind.kernels._native")
    if not hasattr(native, "acl_matmul"):
        pytest.skip("built without Arm Compute Library")
    rng = np.random.default_rng(8)
    a = rng.standard_normal((37, 50), np.float32)
    b = rng.standard_normal((50, 41), np.float32)
    wide = np.zeros((37, 50), np.float32)
    native.acl_matmul(a, b, out=wide[:, :41])
    np.testing.assert_allclose(wide[:, :41], native.matmul(a, b), rtol=1e-5, atol=1e-5)
    assert (wide[:, 41:] == 0).all()
    with pytest.raises(ValueError, match="a has 50 columns, b has 37 rows"):
        native.acl_matmul(a, a)


@pytest.mark.parametrize("kind", UNIT)
@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 5), (2, 600), (1, 256)])
@pytest.mark.parametrize("dim", [5, 64])
def test_attention_both_forms_match_float64(
    tier: ModuleType, kind: str, flash: bool, causal: bool, queries: int, keys: int, dim: int
) -> None:
    raw = [
        from_float32(normal(s, h, n, dim), kind)
        for s, h, n in ((1, 4, queries), (2, 2, keys), (3, 2, keys))
    ]
    q, k, v = (to_float32(x, kind).astype(np.float64) for x in raw)
    q *= 3
    raw[0] = from_float32(q.astype(np.float32), kind)
    q = to_float32(raw[0], kind).astype(np.float64)
    scores = np.einsum("hqd,hkd->hqk", q, k.repeat(2, axis=0)) / np.sqrt(dim)
    if causal:
        hidden = np.arange(keys)[None] > np.arange(queries)[:, None] + keys - queries
        scores[:, hidden] = -np.inf
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    exact = np.einsum("hqk,hkd->hqd", weights, v.repeat(2, axis=0))
    found = tier.attention(*raw, causal=causal, flash=flash)
    wide: NDArray[Any] = to_float32(found, kind)
    np.testing.assert_allclose(wide, exact, rtol=UNIT[kind], atol=UNIT[kind] + keys * EPS / 8)


@pytest.mark.parametrize("form", ["e4m3", "e5m2"])
def test_fp8_every_code_decodes_and_encodes_to_itself(tier: ModuleType, form: str) -> None:
    codes = np.arange(256, dtype=np.uint8)[None]
    values = tier.fp8_decode(codes, form)
    torch = pytest.importorskip("torch")
    own = torch.float8_e4m3fn if form == "e4m3" else torch.float8_e5m2
    np.testing.assert_array_equal(values, torch.from_numpy(codes).view(own).float().numpy())
    finite = np.isfinite(values)
    np.testing.assert_array_equal(tier.fp8_encode(values, form)[finite], codes[finite])


@pytest.mark.parametrize("form", ["e4m3", "e5m2"])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_fp8_encode_rounds_to_nearest_even_and_saturates(
    tier: ModuleType, form: str, kind: str
) -> None:
    values = np.concatenate(
        [normal(1, 5000) * 10.0 ** normal(2, 5000), [0.0, -0.0, 1e9, -1e9, np.inf, -np.inf, 1e-40]]
    ).astype(np.float32)
    raw = from_float32(values, kind)[None]
    exact = reference.fp8_encode(raw, form, 0.5)  # type: ignore[arg-type]
    np.testing.assert_array_equal(tier.fp8_encode(raw, form, 0.5), exact)
    table = tier.fp8_decode(np.arange(128, dtype=np.uint8)[None], form)[0]
    middles = ((table[1:] + table[:-1]) / 2)[: 126 if form == "e4m3" else 123]
    even = tier.fp8_encode(middles[None], form)[0]
    assert (even % 2 == 0).all()
    assert np.isnan(
        tier.fp8_decode(tier.fp8_encode(np.full((1, 1), np.nan, np.float32), form), form)
    ).all()


@pytest.mark.native
def test_flash_threshold_is_measured_and_kept() -> None:
    native = pytest.importorskip("livemind.kernels._native")
    from livemind.kernels import tune

    before = native.flash_threshold()
    try:
        found = tune.measure_flash_threshold(native, (16, 32))
        assert found in (16, 32, tune.NEVER)
        assert native.flash_threshold() == found
    finally:
        native.set_flash_threshold(before)
