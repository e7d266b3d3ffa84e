"""Tiny random models of published families: the real architecture, loadable, of few parameters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livemind.backends.doctor.engine_tables import installed_engine
from livemind.backends.zoo.families import FAMILIES, write_family
from livemind.orchestrator.cli import entry

pytest.importorskip("torch")


@pytest.mark.parametrize("name", FAMILIES)
def test_write_family_is_of_an_architecture_that_the_engine_knows(
    tmp_path: Path, name: str
) -> None:
    from safetensors import safe_open

    count = write_family(tmp_path, name)
    config = json.loads((tmp_path / "config.json").read_text())
    engine = installed_engine()
    if engine is not None and engine.architectures is not None:
        assert config["architectures"][0] in engine.architectures
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        sizes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    assert len(sizes) > 20
    assert 500_000 < count < 4_000_000
    assert (tmp_path / "tokenizer.json").is_file()


def test_write_family_unknown_name_lists_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(["zoo", "random", "--like", "gpt-9", str(tmp_path / "m")]) == 2
    shown = capsys.readouterr().err
    assert "--like: got 'gpt-9', known are smollm2, gemma3" in shown


def test_write_family_same_seed_same_weights(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_family(tmp_path / folder, "qwen3", seed)
    a, b, c = ((tmp_path / n / "model.safetensors").read_bytes() for n in "abc")
    assert a == b != c
