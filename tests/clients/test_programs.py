"""The six quickest client programs against the tiny experts.

All of them run against the default model in ``make test-clients``.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from . import run

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow]

QUICKEST = (
    *("openai_python", "openai_agents", "pydantic_agents", "langchain"),
    *("openai_node", "vercel_ai"),
)


@pytest.mark.parametrize("name", QUICKEST)
def test_client_program_works_in_everything_that_it_does(url: str, name: str) -> None:
    words = run.command(name, url, quick=True)
    if words is None:
        pytest.skip("its client is not installed: `make test` does it, where there is Node.js")
    environment = {**os.environ, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
    told = subprocess.run(words, capture_output=True, text=True, env=environment).stdout
    result = json.loads(told.splitlines()[-1])
    assert set(result["checks"].values()) == {"yes"}, result
