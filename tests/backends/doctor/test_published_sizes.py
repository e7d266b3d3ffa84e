"""Computed sizes against published ones: the doctor's arithmetic on real shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from livemind.backends.doctor import Question, Subject, examine
from livemind.backends.doctor.model_files import read_model
from livemind.backends.doctor.model_shape import estimated_parameters, model_shape
from livemind.backends.doctor.quantities import GIB
from livemind.backends.spec import ExpertSpec

from .conftest import published_config

# models/README.md says where each comes from; decimal gigabytes.
FILES_GB = {
    "Phi-4-mini-instruct": 7.67,
    "phi-4": 29.31,
    "Mistral-7B-Instruct-v0.3": 14.5,
    "Qwen2.5-Coder-7B-Instruct-AWQ": 5.57,
    "gpt-oss-20b": 13.76,
}
BILLIONS = {
    "gemma-3-27b-it": 27.43240664,
    "aya-expanse-8b": 8.03,
    "Mistral-Small-24B-Instruct-2501": 23.57,
}


@pytest.mark.parametrize(("name", "size_gb"), FILES_GB.items())
def test_weights_of_published_shape_are_as_large_as_the_published_files(
    name: str, size_gb: float, models: Path
) -> None:
    weights = read_model(models / name).weights
    assert weights is not None
    assert weights.stored_bytes / 1e9 == pytest.approx(size_gb, rel=0.002)
    assert weights.loaded_bytes(2) == weights.stored_bytes


@pytest.mark.parametrize(("name", "billions"), BILLIONS.items())
def test_weights_of_published_shape_have_the_published_parameters(
    name: str, billions: float, models: Path
) -> None:
    weights = read_model(models / name).weights
    assert weights is not None
    assert sum(weights.dtypes.values()) / 1e9 == pytest.approx(billions, rel=0.0005)


def test_gemma_27b_in_bfloat16_takes_54_gb_and_the_report_says_why(models: Path) -> None:
    """The original system's analysis said 14 GB."""
    spec = ExpertSpec("gemma", model_path="google/gemma-3-27b-it", dtype="bfloat16")
    spec = ExpertSpec(
        "gemma", model_path=str(models / "gemma-3-27b-it"), dtype="bfloat16", max_model_len=8192,
        kv_cache_gib=4,
    )  # fmt: skip
    report = examine(Question([Subject("experts[0]", spec)], memory=14 * 10**9))
    facts = report.experts[0]
    assert facts.weights_bytes == pytest.approx(54.86e9, rel=0.001)
    assert facts.weights_text == "27.43 billion parameters x 2 bytes (bfloat16) = 54.9 GB"
    too_large = next(f for f in report.findings if f.code == "expert_too_large")
    assert "27.43 billion parameters x 2 bytes (bfloat16) = 54.9 GB" in too_large.why
    assert report.plan is not None
    assert report.plan.fits is False


@pytest.mark.parametrize("name", ["phi-4", "Mistral-7B-Instruct-v0.3", "aya-expanse-8b"])
def test_estimate_from_config_alone_is_within_a_percent(name: str, models: Path) -> None:
    weights = read_model(models / name).weights
    assert weights is not None
    guess = estimated_parameters(published_config(name))
    assert guess == pytest.approx(sum(weights.dtypes.values()), rel=0.01)


# bytes a token in 16 bits = 2 (keys, values) x layers x KV heads x head x 2, by hand
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Phi-4-mini-instruct", 2 * 32 * 8 * 128 * 2),
        ("phi-4", 2 * 40 * 10 * 128 * 2),
        ("Mistral-Small-24B-Instruct-2501", 2 * 40 * 8 * 128 * 2),
        ("gemma-3-27b-it", 2 * 62 * 16 * 128 * 2),
        ("gpt-oss-20b", 2 * 24 * 8 * 64 * 2),
        ("DeepSeek-V2-Lite-Chat", 27 * (512 + 64) * 2),
    ],
)
def test_kv_bytes_of_a_token_follow_the_attention(name: str, expected: int) -> None:
    shape = model_shape(published_config(name))
    assert shape is not None
    assert shape.kv_bytes_per_token(2) == expected


def test_kv_of_a_long_context_counts_a_window_for_sliding_layers() -> None:
    """Five of six layers of gemma-3 see 1024 tokens: 10 of 62 cache everything."""
    shape = model_shape(published_config("gemma-3-27b-it"))
    assert shape is not None
    assert (shape.full_layers, shape.window_layers, shape.window) == (10, 52, 1024)
    layer_token = 2 * 16 * 128 * 2
    need = shape.sequence_bytes(131_072, 2, 2048)
    assert need == layer_token * (10 * 131_072 + 52 * (1024 - 1 + 2048))
    assert shape.longest(need, 2, 2048) == 131_072
    assert shape.longest(need - 1, 2, 2048) == 131_071


@pytest.mark.parametrize(
    ("name", "limit", "default"),
    [
        ("Phi-4-mini-instruct", 131_072, 4096),
        ("gemma-3-27b-it", 131_072, 131_072),
        ("gpt-oss-20b", 131_072, 131_072),
        ("aya-expanse-8b", 8192, 8192),
    ],
)
def test_context_limit_is_the_one_that_vllm_derives(name: str, limit: int, default: int) -> None:
    shape = model_shape(published_config(name))
    assert shape is not None
    assert (shape.context_limit, shape.default_model_len) == (limit, default)


def test_qwen_window_that_is_switched_off_counts_for_nothing() -> None:
    shape = model_shape(published_config("Qwen2.5-Coder-7B-Instruct-AWQ"))
    assert shape is not None
    assert (shape.full_layers, shape.window_layers) == (28, 0)
    assert shape.longest(GIB, 2, 2048) == GIB // (2 * 28 * 4 * 128 * 2)


def test_kv_is_taken_in_whole_blocks_and_one_more_for_a_window() -> None:
    """vLLM: a window need not begin where a block does."""
    shape = model_shape(published_config("gemma-3-27b-it"))
    assert shape is not None
    layer_token = 2 * 16 * 128 * 2
    # 2000 tokens: 63 blocks of 32; window 1023 + 512 tokens: 48 blocks and one
    assert shape.sequence_bytes(2000, 2, 512, 32) == layer_token * 32 * (10 * 63 + 52 * (48 + 1))
