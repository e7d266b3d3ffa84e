"""What an engine's effective configuration makes of an expert, without an engine."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert


@pytest.mark.parametrize("keeps", [True, False])
def test_engine_that_keeps_no_prefix_prepares_no_open_turn_and_says_so(
    hf_tokenizer: Any, caplog: pytest.LogCaptureFixture, keeps: bool
) -> None:
    """vLLM turns prefix caching off by itself, for MLA on a CPU."""
    model = SimpleNamespace(
        max_model_len=2048,
        dtype="torch.float32",
        get_diff_sampling_param=dict,
        model="x",
        hf_config=SimpleNamespace(model_type="deepseek_v2"),
    )
    cache = SimpleNamespace(enable_prefix_caching=keeps, block_size=32, cache_dtype="auto")
    config = SimpleNamespace(model_config=model, cache_config=cache, speculative_config=None)
    expert = VllmExpert(ExpertSpec("mla", model_path="x"))
    expert._engine = SimpleNamespace(
        vllm_config=config, get_tokenizer=lambda: hf_tokenizer("gpt2_like")
    )
    with caplog.at_level(logging.WARNING):
        expert._learn_model()
    able = expert.capabilities
    why = None if keeps else "its engine keeps nothing of a prompt"
    assert (able.open_turn_prefill, able.why_no_open_turn) == (keeps, why)
    assert ("mla prepares no open turn: its engine keeps nothing" in caplog.text) is not keeps
