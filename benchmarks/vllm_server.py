"""vLLM's own OpenAI-compatible server with the engine settings that LiveMind would use."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from ..backends.spec import ExpertSpec
from ..backends.vllm_args import engine_args, engine_environment, usable_cores
from .server_process import free_port, serving

_SERVER = "vllm.entrypoints.openai.api_server"
_OWN = ("scheduling_policy", "enable_log_requests", "disable_log_stats")
"""Settings of ours that a plain server leaves as they are."""


def command(spec: ExpertSpec, port: int) -> list[str]:
    """Return the command line of a server that serves the expert under its id."""
    flags = [sys.executable, "-m", _SERVER, "--host", "127.0.0.1", "--port", str(port)]
    for name, value in engine_args(spec).items():
        if name in _OWN:
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
    port = free_port()
    environment = {**engine_environment(spec, usable_cores()), "VLLM_LOGGING_LEVEL": "WARNING"}
    async with serving(command(spec, port), port, log, environment) as url:
        yield url
