"""The catalog of embedded experts and models with random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from livemind.backends.zoo.catalog import CATALOG, model_names, model_path
from livemind.backends.zoo.data import DOMAINS
from livemind.backends.zoo.random_weights import parse_parameters, write_random_model

MODEL_FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.mark.parametrize("name", model_names())
def test_catalog_every_expert_has_all_its_files(name: str) -> None:
    directory = model_path(name)
    assert {path.name for path in directory.iterdir()} == MODEL_FILES
    config = json.loads((directory / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 4096


def test_catalog_covers_every_domain_once_and_has_one_fast_expert() -> None:
    assert [model.domain for model in CATALOG] == ["all", *DOMAINS]


def test_catalog_models_together_stay_near_thirty_megabytes() -> None:
    size = sum(file.stat().st_size for model in CATALOG for file in model.path.iterdir())
    assert 15e6 < size < 33e6


def test_catalog_unknown_name_raises_and_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="'poet'; known: fast, general"):
        model_path("poet")


def test_catalog_import_leaves_torch_alone() -> None:
    code = "import sys, livemind.backends.zoo.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [("100m", 100_000_000), ("1.2b", 1_200_000_000), (" 500K ", 500_000), ("2000000", 2_000_000)],
)
def test_parse_parameters_accepts_units(text: str, count: int) -> None:
    assert parse_parameters(text) == count


@pytest.mark.parametrize("text", ["", "big", "-5m", "10", "9b", "1e6", "5 m m"])
def test_parse_parameters_refuses_other_forms_and_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="parameters: got"):
        parse_parameters(text)


@pytest.mark.parametrize("wanted", [500_000, 2_000_000, 12_000_000])
def test_random_model_has_about_the_wanted_size(tmp_path: Path, wanted: int) -> None:
    count = write_random_model(tmp_path, wanted)
    with safe_open(tmp_path / "model.safetensors", "pt") as tensors:
        stored = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    assert stored == count
    assert abs(count - wanted) < 0.1 * wanted
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["livemind_random_weights"] is True
    assert "timing only" in (tmp_path / "README.md").read_text("utf-8")


def test_random_model_same_seed_writes_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random_model(tmp_path / name, 500_000, seed)
    first, second, other = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b", "c")
    )
    assert first == second
    assert first != other
