"""What vLLM's kernels for CPUs can do with published families, by their configurations alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from livemind.backends.doctor.cpu_kernels import cpu_kernels, packed_refusal
from livemind.backends.machine.processor import Processor

AVX2 = Processor("", "x86_64", ("avx2", "fma", "f16c"))
AMX = Processor("", "x86_64", ("avx512f", "amx_tile"))
ARM = Processor("", "aarch64", ("asimd", "bf16"))
UNKNOWN = Processor("", "x86_64")
EVERYTHING = (True, True, False)
STATE = (False, False, False)


@pytest.mark.parametrize(
    ("config", "able"),
    [
        ({"model_type": "llama"}, EVERYTHING),
        ({"model_type": "gemma3_text", "layer_types": ["sliding_attention"]}, EVERYTHING),
        ({"model_type": "mamba2", "state_size": 128}, STATE),
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"]}, STATE),
        ({"model_type": "lfm2", "layer_types": ["conv", "full_attention"]}, STATE),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*"}, STATE),
        ({"model_type": "falcon_h1", "mamba_d_state": 256}, STATE),
        ({"model_type": "qwen3_next", "linear_num_value_heads": 32}, (True, False, True)),
        (
            {"model_type": "qwen3_5", "text_config": {"linear_num_value_heads": 32}},
            (True, False, True),
        ),
        ({"model_type": "deepseek_v2", "kv_lora_rank": 512, "qk_rope_head_dim": 64},
         (True, False, False)),
    ],
)  # fmt: skip
def test_kernels_of_a_family_are_told_from_its_configuration(
    config: dict[str, Any], able: tuple[bool, bool, bool]
) -> None:
    found = cpu_kernels(config)
    only_bfloat16 = found.formats == ("bfloat16",)
    assert (found.prefix_caching, found.drafts, only_bfloat16) == able
    assert bool(found.refuses("float32")) is only_bfloat16
    assert (found.name == "") is (able == EVERYTHING)
    assert found.together is (config["model_type"] != "deepseek_v2")
    assert not found.refusal


def test_kernels_the_engine_knows_better_whether_there_is_a_state() -> None:
    assert not cpu_kernels({"model_type": "new"}, has_state=True).prefix_caching
    assert cpu_kernels({"model_type": "mamba-like"}, has_state=False).prefix_caching


def test_kernels_of_mla_take_float32_where_there_is_no_amx() -> None:
    mla = {"model_type": "deepseek_v2", "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    with_amx = Processor("a", "x86_64", ("avx2", "avx512f", "amx_tile"))
    assert "bfloat16 or float16" in cpu_kernels(mla, processor=with_amx).refuses("float32")
    assert not cpu_kernels(mla, processor=with_amx).refuses("float16")
    without = replace(with_amx, instruction_sets=("avx2", "avx512f"))
    assert not cpu_kernels(mla, processor=without).refuses("float32")


def test_kernels_refuse_another_latent_by_its_size() -> None:
    refusal = cpu_kernels({"kv_lora_rank": 256, "qk_rope_head_dim": 64}).refusal
    assert "320" in refusal
    assert "576" in refusal


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"quantization_config": {"quant_method": "mxfp4"}}, "MXFP4"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
         "blocks"),
        ({"quantization_config": {"quant_method": "gptq"}, "num_experts": 8}, "experts"),
        ({"quantization_config": {"quant_method": "gptq"}}, ""),
        ({"quantization_config": {"quant_method": "fp8"}}, ""),
        ({"num_experts": 8}, ""),
    ],
)  # fmt: skip
def test_packed_weights_that_ask_for_amx_are_refused_without_it(
    config: dict[str, Any], told: str
) -> None:
    refusal = packed_refusal(config, AVX2)
    assert bool(refusal) is bool(told)
    assert told in refusal
    for processor in (AMX, ARM, UNKNOWN):
        assert packed_refusal(config, processor) == ""
