"""Which experts `--expert` names, and how a model of the user's is served."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from livemind.benchmarks.bench import UsageError
from livemind.benchmarks.harness.experts import EXPERTS, expert_config, expert_of
from livemind.benchmarks.ttft.options import add_arguments, requested
from livemind.orchestrator.config.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "My Model 1.5"
    model.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 131_072}
    (model / "config.json").write_text(json.dumps(config))
    return model


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_expert_of_a_name_or_a_folder_is_found(folder: Path) -> None:
    assert expert_of("embedded") is EXPERTS["embedded"]
    expert = expert_of(str(folder))
    assert (expert.expert_id, expert.suffix) == ("My-Model-1.5", "")
    assert not expert.random_weights
    settings = Settings.model_validate({"experts": [expert_config(expert)]})
    assert settings.experts[0].model_path == str(folder)
    assert settings.experts[0].max_model_len == 8192  # its own would not fit the KV cache


def test_expert_of_a_base_model_gets_a_plain_template_beside_its_own_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    for _ in range(2):
        expert = expert_of(str(folder))
        assert expert.folder is not None
        place = Path(expert.folder)
        assert place != folder
        assert "plain chat template" in expert.label
        assert (place / "config.json").resolve() == folder / "config.json"
        assert "assistant: " in (place / "chat_template.jinja").read_text()
    assert not (folder / "chat_template.jinja").exists()
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert expert_of(str(folder)).folder == str(folder)


@pytest.mark.parametrize(
    ("name", "told"),
    [("nobody", "need random, embedded, or a model's folder"), ("package:a==1", "models import a")],
)
def test_expert_of_what_is_not_here_says_what_would_be(
    name: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIVEMIND_MODELS", str(tmp_path))
    with pytest.raises(ValueError, match=told):
        expert_of(name)


def test_plan_with_a_folder_asks_it_alone_and_as_it_was_asked(folder: Path) -> None:
    choice = requested(options("--quick", "--expert", str(folder)))
    assert [expert.folder for expert in choice.plan.experts] == [str(folder)]
    assert not choice.may_scale
    both = requested(options("--expert", "random", "--expert", str(folder)))
    assert [expert.suffix for expert in both.plan.experts] == ["", ".My-Model-1.5"]
    with pytest.raises(UsageError, match="the same one twice"):
        requested(options("--expert", "random", "--expert", "random"))
