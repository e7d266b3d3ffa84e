"""What an engine is given on a CPU, by the family of its model; with real ones in test_families."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.errors import ExpertUnavailable
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm import configured
from livemind.backends.vllm.configured import engine_config

LLAMA = {"model_type": "llama"}
MAMBA = {"model_type": "mamba2", "state_size": 16}
DELTA = {"model_type": "qwen3_next", "linear_num_value_heads": 4}
MLA = {"model_type": "deepseek_v2", "kv_lora_rank": 512, "qk_rope_head_dim": 64}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Return a maker of configurations that keep the arguments they were made with."""

    def make(config: dict[str, Any], *, device: str = "cpu", dtype: str = "bfloat16") -> Any:
        model = SimpleNamespace(
            hf_config=SimpleNamespace(to_dict=lambda: config),
            has_inner_state="state_size" in config or "linear_num_value_heads" in config,
            dtype=f"torch.{dtype}",
        )

        def from_arguments(arguments: dict[str, object]) -> Any:
            return SimpleNamespace(
                arguments=arguments,
                device_config=SimpleNamespace(device_type=device),
                model_config=model,
                parallel_config=SimpleNamespace(distributed_executor_backend="mp"),
            )

        monkeypatch.setattr(configured, "_made", from_arguments)
        return engine_config(ExpertSpec("e", model_path=str(tmp_path), dtype=dtype))

    return make


@pytest.mark.parametrize(
    ("config", "caching", "drafts", "at_once"),
    [
        (LLAMA, True, True, None),
        (MAMBA, False, False, None),
        (DELTA, True, False, None),
        (MLA, True, False, 1),
    ],
)
def test_engine_config_leaves_out_what_the_kernels_cannot_do(
    made: Any, config: dict[str, Any], caching: bool, drafts: bool, at_once: int | None
) -> None:
    found = made(config)
    assert found.arguments["enable_prefix_caching"] is caching
    assert ("speculative_config" in found.arguments) is drafts
    usual = ExpertSpec("e").max_num_seqs
    assert found.arguments["max_num_seqs"] == (usual if at_once is None else at_once)
    assert found.parallel_config.distributed_executor_backend == "uni"


@pytest.mark.parametrize("config", [MAMBA, DELTA, MLA])
def test_engine_config_on_another_device_is_what_was_asked_for(
    made: Any, config: dict[str, Any]
) -> None:
    found = made(config, device="cuda", dtype="float32")
    assert found.arguments["enable_prefix_caching"] is True
    assert "speculative_config" in found.arguments
    assert found.parallel_config.distributed_executor_backend == "mp"


@pytest.mark.parametrize(
    ("config", "dtype", "told"),
    [
        (DELTA, "float32", "dtype float32: vLLM computes gated delta layers in bfloat16"),
        ({**MLA, "kv_lora_rank": 64}, "bfloat16", "MLA with 128 cached numbers"),
    ],
)
def test_engine_config_refuses_by_name_what_cannot_be_run(
    made: Any, config: dict[str, Any], dtype: str, told: str
) -> None:
    with pytest.raises(ExpertUnavailable, match=told):
        made(config, dtype=dtype)
