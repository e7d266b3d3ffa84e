"""The experts of the TTFT benchmark, and the configuration of a server that runs them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .bench import BenchmarkFailed
from .server_process import COMMAND
from .ttft import ExpertCase
from .workload import FILLER

_RANDOM_PARAMS = "100m"
RANDOM = ExpertCase(
    "random-100m", FILLER, "100M parameters, random weights", "", True, foreground_tokens=200
)
EMBEDDED = ExpertCase(
    "technical", "technical", "embedded expert technical", ".embedded", False, foreground_tokens=400
)
EXPERTS = {"random": RANDOM, "embedded": EMBEDDED}


def random_model_folder() -> Path:
    """Return where the random-weight model is kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "livemind" / f"random-{_RANDOM_PARAMS}"


async def prepare(experts: Iterable[ExpertCase]) -> None:
    """Write the random-weight model if it is needed and not there.

    Raises:
        BenchmarkFailed: writing failed; the message ends with what the command said.
    """
    folder = random_model_folder()
    if RANDOM not in experts or (folder / "config.json").exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "zoo", "random", "--params", _RANDOM_PARAMS, str(partial),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode != 0:
        said = output.decode(errors="replace")[-500:]
        raise BenchmarkFailed(f"livemind zoo random ended with code {process.returncode}\n{said}")
    partial.rename(folder)


def server_config(experts: Iterable[ExpertCase]) -> dict[str, Any]:
    """Return a configuration with these experts warm, speculation at its defaults, no retrieval."""
    listed = [
        {
            "expert_id": case.expert_id,
            "model_path": str(random_model_folder())
            if case.random_weights
            else f"zoo:{case.workload}",
            "domain": "timing" if case.random_weights else case.workload,
            "kv_cache_gib": 1.0 if case.random_weights else 0.5,
        }
        for case in experts
    ]
    return {
        "experts": listed,
        "lazy_loading": {"warmup_pool_size": len(listed), "max_loaded_experts": len(listed)},
        "rag": {"enabled": False},
    }
