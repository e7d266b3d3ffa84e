"""Settings to engine arguments: every one of them arrives, without starting an engine."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.engine_args import (
    cores_problem,
    engine_args,
    engine_cores,
    engine_environment,
    late_environment,
    model_location,
)
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.drafts import MOST_TOKENS

# setting -> value, engine argument, what the argument becomes
ARGUMENTS: dict[str, tuple[Any, str, Any]] = {
    "expert_id": ("other", "served_model_name", "other"),
    "dtype": ("float16", "dtype", "float16"),
    "quantization": ("awq", "quantization", "awq"),
    "max_model_len": (1234, "max_model_len", 1234),
    "gpu_memory_utilization": (0.4, "gpu_memory_utilization", 0.4),
    "kv_cache_gib": (0.25, "kv_cache_memory_bytes", 2**28),
    "max_num_seqs": (3, "max_num_seqs", 3),
    "max_num_batched_tokens": (256, "max_num_batched_tokens", 256),
    "enforce_eager": (False, "enforce_eager", False),
    "block_size": (64, "block_size", 64),
    "kv_cache_dtype": ("fp8", "kv_cache_dtype", "fp8"),
    "images": (True, "limit_mm_per_prompt", {"image": 16}),
}
# setting -> value, environment variable of the engine, what the variable becomes
ENVIRONMENT: dict[str, tuple[Any, str, str | None]] = {
    "cpu_cores": ("0-2,5", "OMP_NUM_THREADS", "4"),
    "enforce_eager": (False, "TORCHDYNAMO_DISABLE", None),
}
# the same for variables that an engine reads after it was forked
LATE_ENVIRONMENT: dict[str, tuple[Any, str, str | None]] = {
    "engine_log": ("engine.log", "VLLM_LOGGING_LEVEL", "INFO"),
    "enable_neon": (False, "LIVEMIND_VLLM_KERNELS", "off"),
    "neon_optimizations": (
        {"q4_linear": False, "rms_norm": False},
        "LIVEMIND_VLLM_KERNELS",
        "sampling,penalties,fused_add_rms_norm,decoder_layer",
    ),
}
# used by others: the router, the registry, the expert itself, the remote expert
ELSEWHERE = {
    *("domain", "priority", "kind", "max_tokens_default", "start_timeout_s", "timeout_s"),
    *("base_urls", "model", "api_key_env", "model_path", "verify_drafts", "prompt_lookup"),
    *("kv_cache_fallback", "tool_parser", "reasoning_parser"),
    *("tool_strict_level", "json_whitespace"),
    *("router", "session_headers", "token_headers", "send_priorities"),
}


def spec(**settings: Any) -> ExpertSpec:
    return ExpertSpec(**{"expert_id": "e", "model_path": "org/model", **settings})


def test_every_setting_has_a_place() -> None:
    placed = {*ARGUMENTS, *ENVIRONMENT, *LATE_ENVIRONMENT, *ELSEWHERE}
    assert {field.name for field in fields(ExpertSpec)} == placed


@pytest.mark.parametrize("setting", ARGUMENTS)
def test_engine_args_setting_reaches_its_argument(setting: str) -> None:
    value, argument, expected = ARGUMENTS[setting]
    assert engine_args(spec(**{setting: value}))[argument] == expected
    assert engine_args(spec()).get(argument) != expected


@pytest.mark.parametrize("setting", ENVIRONMENT)
def test_engine_environment_setting_reaches_its_variable(setting: str) -> None:
    value, variable, expected = ENVIRONMENT[setting]
    assert engine_environment(spec(**{setting: value}), 4).get(variable) == expected
    assert engine_environment(spec(), 4).get(variable) != expected


@pytest.mark.parametrize("setting", LATE_ENVIRONMENT)
def test_late_environment_setting_reaches_its_variable_without_another_fork_server(
    setting: str,
) -> None:
    value, variable, expected = LATE_ENVIRONMENT[setting]
    changed = spec(**{setting: value})
    assert late_environment(changed).get(variable) == expected
    assert late_environment(spec()).get(variable) != expected
    assert engine_environment(changed, 4) == engine_environment(spec(), 4)


@pytest.mark.parametrize(
    "settings",
    [
        {"neon_optimizations": {"rope": True}},
        {"neon_optimizations": {"rms_norm": True}, "enforce_eager": False},
        {"neon_optimizations": {"sampling": True}, "enable_neon": False},
    ],
)
def test_engine_args_kernel_that_cannot_be_had_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ExpertUnavailable, match="neon_optimizations"):
        engine_args(spec(**settings))


def test_engine_args_memory_share_given_decides_instead_of_the_cache_size() -> None:
    assert "kv_cache_memory_bytes" not in engine_args(spec(gpu_memory_utilization=0.4))
    assert "gpu_memory_utilization" not in engine_args(spec())


def test_engine_args_drafts_are_verified_unless_switched_off() -> None:
    speculation = engine_args(spec(max_num_seqs=3))["speculative_config"]
    assert isinstance(speculation, dict)
    assert speculation["method"] == "custom_class"
    assert speculation["num_speculative_tokens_per_batch_size"] == [[1, 3, MOST_TOKENS]]
    assert not {"speculative_config", "worker_extension_cls"} & set(
        engine_args(spec(verify_drafts=False))
    )


@pytest.mark.parametrize(("lookup", "proposer"), [(True, "Lookup"), (False, "Draft")])
def test_engine_args_prompt_lookup_chooses_the_proposer(lookup: bool, proposer: str) -> None:
    speculation = engine_args(spec(prompt_lookup=lookup))["speculative_config"]
    assert isinstance(speculation, dict)
    assert speculation["model"].endswith(f".{proposer}Proposer")


def test_engine_args_always_has_priorities_and_prefix_caching() -> None:
    args = engine_args(spec())
    assert args["scheduling_policy"] == "priority"
    assert args["enable_prefix_caching"] is True
    assert args["prefix_cache_retention_interval"] is None  # shorter prefixes of windows are kept


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (2, "1"), (4, "2"), (16, "8")])
def test_engine_environment_unbound_engine_gets_half_of_the_cores(cores: int, threads: str) -> None:
    assert engine_environment(spec(), cores)["OMP_NUM_THREADS"] == threads
    assert engine_environment(spec(cpu_cores="3"), cores)["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("text", "cores"), [(None, []), ("3", [3]), ("2-3,0", [0, 2, 3]), ("0-1,1", [0, 1])]
)
def test_engine_cores_are_those_of_the_setting(text: str | None, cores: list[int]) -> None:
    assert engine_cores(spec(cpu_cores=text)) == cores


def test_cores_problem_names_those_that_this_process_may_not_use() -> None:
    assert cores_problem(spec()) == ""
    if not hasattr(os, "sched_getaffinity"):
        return
    ours = max(os.sched_getaffinity(0))
    assert cores_problem(spec(cpu_cores=str(ours))) == ""
    found = cores_problem(spec(cpu_cores=f"{ours},9998-9999"))
    assert found.startswith("no core 9998, 9999 for this process, it has ")


def test_engine_environment_hub_is_off_for_local_weights_only(tmp_path: Path) -> None:
    assert engine_environment(spec(model_path=str(tmp_path)), 2)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in engine_environment(spec(), 2)


def test_engine_environment_reports_nothing_to_anyone() -> None:
    environment = engine_environment(spec(), 2)
    assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        (None, "model_path is missing"),
        ("", "model_path is missing"),
        ("/no/such", "no such folder"),
        ("./no", "no such folder"),
        ("~/no-such-folder", "no such folder"),
        ("a/b/c", "no such folder"),
        ("zoo:nobody", "no embedded expert 'zoo:nobody'"),
    ],
)
def test_model_location_nothing_there_is_refused(path: str | None, cause: str) -> None:
    with pytest.raises(ExpertUnavailable, match=cause):
        model_location(spec(model_path=path))


def test_model_location_of_a_package_not_imported_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIVEMIND_MODELS", "/no/models")
    with pytest.raises(ExpertUnavailable, match=r"livemind models import some-model==1\.0"):
        model_location(spec(model_path="/no/models/some-model-1.0"))


def test_model_location_hub_name_passes(tmp_path: Path) -> None:
    assert model_location(spec(model_path="org/model")) == "org/model"
    assert model_location(spec(model_path=str(tmp_path))) == str(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_engine_args_vllm_takes_every_one_of_them(tiny_model: Path) -> None:
    arg_utils = pytest.importorskip("vllm.engine.arg_utils")
    settings = {name: value for name, (value, _, _) in ARGUMENTS.items()}
    settings |= {"quantization": None, "gpu_memory_utilization": None, "dtype": "bfloat16"}
    made = spec(model_path=str(tiny_model), **settings)
    config = arg_utils.AsyncEngineArgs(**engine_args(made)).create_engine_config()
    assert str(config.model_config.dtype) == "torch.bfloat16"
    assert config.model_config.max_model_len == 1234
    assert config.model_config.served_model_name == "other"
    assert config.cache_config.block_size == 64
    assert config.cache_config.kv_cache_memory_bytes == 2**28
    assert config.cache_config.enable_prefix_caching is True
    assert config.cache_config.prefix_cache_retention_interval is None
    assert config.scheduler_config.max_num_seqs == 3
    assert config.scheduler_config.max_num_batched_tokens == 256
    assert config.scheduler_config.policy == "priority"
    assert config.model_config.enforce_eager is False
