"""The six quickest client programs against a scripted server, where their clients are installed.

All of them run against a model in ``make test-clients``.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from . import run

QUICK = ("openai_python", "openai_agents", "pydantic_agents", "instructor_modes", "openai_node")
QUICKEST = (*QUICK, "vercel_ai")


@pytest.mark.parametrize("name", QUICKEST)
async def test_client_program_works_in_everything_that_it_does(serve: Any, name: str) -> None:
    async with serve() as url:
        words = run.command(name, url)
        if words is None:
            pytest.skip("its client is not installed: make test-clients")
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"}
        )
        told, _ = await process.communicate()
    result = json.loads(told.splitlines()[-1])
    assert set(result["checks"].values()) == {"yes"}, result
