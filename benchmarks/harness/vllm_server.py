"""vLLM's own OpenAI-compatible server with the engine settings that LiveMind would use."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from ...backends.doctor.number_formats import fit_alone
from ...backends.engine_args import engine_args, engine_environment, usable_cores
from ...backends.spec import ExpertSpec
from .server_process import free_port, serving

_SERVER = "vllm.entrypoints.openai.api_server"
_ENGINE = (
    "model",
    "served_model_name",
    "dtype",
    "quantization",
    "enforce_eager",
    "block_size",
    "max_num_seqs",
    "max_model_len",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "enable_prefix_caching",
)
"""Settings that make the engines alike; the server schedules as it does by itself."""


def command(spec: ExpertSpec, port: int) -> list[str]:
    """Return the command line of a server that serves the expert under its id."""
    flags = [sys.executable, "-m", _SERVER, "--host", "127.0.0.1", "--port", str(port)]
    for name, value in engine_args(spec).items():
        if name not in _ENGINE:
            continue
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            flags += [flag, str(value)]
    return [*flags, "--enable-prompt-tokens-details", "--uvicorn-log-level", "warning"]


@asynccontextmanager
async def plain_vllm(spec: ExpertSpec, log: Path) -> AsyncGenerator[str, None]:
    """Serve one expert with vLLM alone; yields the base URL once it is healthy.

    Raises:
        ServerFailed: it did not come up; the message ends with its last lines.
    """
    spec = (await asyncio.to_thread(fit_alone, spec)).spec
    port = free_port()
    environment = {**engine_environment(spec, usable_cores()), "VLLM_LOGGING_LEVEL": "WARNING"}
    async with serving(command(spec, port), port, log, environment) as url:
        yield url
