"""What layers of vLLM need to be made outside an engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from livemind.backends.zoo.catalog import MODELS


@pytest.fixture(scope="module")
def settings() -> Iterator[Any]:
    """What a layer of vLLM asks for while it is made: a configuration, and who computes with it."""
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state
    from vllm.engine.arg_utils import EngineArgs

    arguments = EngineArgs(model=str(MODELS / "fast"), dtype="float32", enforce_eager=True)
    config = arguments.create_engine_config()
    with set_current_vllm_config(config):
        parallel_state.init_distributed_environment(1, 0, "tcp://127.0.0.1:0", backend="gloo")
        parallel_state.ensure_model_parallel_initialized(1, 1)
        yield config
    parallel_state.destroy_model_parallel()
    parallel_state.destroy_distributed_environment()
