"""Speeds of number formats: what flags promise, what is measured, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livemind.backends.machine import speeds
from livemind.backends.machine.processor import Processor

AVX2 = Processor("A", "x86_64", ("avx2", "fma", "f16c"))
AVX512 = ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl")
PROBED = {"float32": [0.03, 0.3], "bfloat16": [0.3, 0.2], "float16": [0.2, 0.2]}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "livemind" / "speeds.json"


@pytest.mark.parametrize(
    ("sets", "fastest"),
    [
        (AVX2.instruction_sets, "float32"),
        ((*AVX512, "avx512_bf16"), "bfloat16"),
        (("asimd", "bf16"), "bfloat16"),
        (("asimd",), "float32"),
    ],
)
def test_expected_fastest_format_follows_the_flags(sets: tuple[str, ...], fastest: str) -> None:
    costs = speeds.expected(Processor("", "", sets)).costs
    assert min(costs, key=lambda name: costs[name]) == fastest


def test_expected_unknown_processor_prefers_nothing_to_bfloat16() -> None:
    assert speeds.expected(Processor("", "")).times("bfloat16", "float32") == 1.0


@pytest.mark.slow
def test_measured_speeds_are_measured_once_and_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    first = speeds.measured_speeds(AVX2)
    assert first.source == "probe"
    assert all(cost > 0 for cost in first.costs.values())
    monkeypatch.setattr(speeds, "_run", lambda: pytest.fail("measured again"))
    assert speeds.measured_speeds(AVX2) == first == speeds.known_speeds(AVX2)
    assert speeds.known_speeds(Processor("B", "x86_64")).source == "flags"


def test_measured_speeds_turn_weighs_prefill_and_decode(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(speeds, "_run", lambda: PROBED)
    found = speeds.measured_speeds(AVX2)
    assert found.costs["float32"] == pytest.approx(0.03 * 1500 + 0.3 * 64)
    assert found.times("bfloat16", "float32") == pytest.approx(462.8 / 64.2)


@pytest.mark.parametrize(
    "measured",
    [None, [], {"float32": [1, 1]}, {**PROBED, "float16": [0, 0]}, {**PROBED, "float16": "fast"}],
    ids=["failed", "list", "too few", "zero", "text"],
)
def test_measured_speeds_probe_without_figures_leaves_the_flags(
    cache: Path, monkeypatch: pytest.MonkeyPatch, measured: object
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(speeds, "_run", lambda: measured)
    assert speeds.measured_speeds(AVX2).source == "flags"
    assert not cache.exists()


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"x": 3}'])
def test_known_speeds_damaged_file_counts_as_none(cache: Path, text: str) -> None:
    cache.parent.mkdir()
    cache.write_text(text)
    assert speeds.known_speeds(AVX2).source == "flags"


def test_measured_speeds_keeps_those_of_other_processors(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(speeds, "_run", lambda: PROBED)
    for name in "AB":
        speeds.measured_speeds(Processor(name, "x86_64"))
    assert len(json.loads(cache.read_text())) == 2
    assert [path.name for path in cache.parent.iterdir()] == ["speeds.json"]


def test_measured_speeds_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "livemind").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(speeds, "_run", lambda: PROBED)
    assert speeds.measured_speeds(AVX2).source == "probe"
