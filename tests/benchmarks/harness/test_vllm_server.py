from __future__ import annotations

import itertools

from livemind.backends.spec import ExpertSpec
from livemind.benchmarks.harness.vllm_server import command


def test_command_has_the_experts_engine_settings_and_the_servers_own_scheduling() -> None:
    spec = ExpertSpec("small", model_path="org/model", block_size=64, max_model_len=2048)
    words = command(spec, 1234)
    pairs = dict(itertools.pairwise(words))
    assert pairs["--model"] == "org/model"
    assert pairs["--served-model-name"] == "small"
    assert pairs["--block-size"] == "64"
    assert pairs["--max-model-len"] == "2048"
    assert pairs["--port"] == "1234"
    assert {"--enforce-eager", "--enable-prefix-caching"} <= set(words)
    assert "--scheduling-policy" not in words


def test_command_switches_that_are_off_are_said_to_be_off() -> None:
    words = command(ExpertSpec("small", model_path="org/model", enforce_eager=False), 1)
    assert "--no-enforce-eager" in words
