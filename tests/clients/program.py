"""Runs one client program against a server and tells what worked, as one line of JSON.

``python program.py NAME URL MODEL``, in the environment where the client is installed: the module
``programs/NAME.py`` has a function for each thing that the client can do, called with the server's
URL (with ``/v1``) and the model; one that returns worked. Imports nothing of LiveMind.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

CHECKS = ("plain", "stream", "tools", "structured", "responses", "embeddings", "scores")
LIMIT_S = 240.0
MOST_SHOWN = 240


async def check(function: Any, url: str, model: str) -> str:
    """Return ``yes``, or in a few words what went wrong."""
    try:
        async with asyncio.timeout(LIMIT_S):
            if inspect.iscoroutinefunction(function):
                await function(url, model)
            else:
                await asyncio.to_thread(function, url, model)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:MOST_SHOWN]
    return "yes"


async def main(name: str, url: str, model: str) -> int:
    """Print the result; return how many checks failed."""
    sys.path.insert(0, str(Path(__file__).parent / "programs"))
    program = importlib.import_module(name)
    found, took_s = {}, {}
    for wanted in CHECKS:
        if (function := getattr(program, wanted, None)) is not None:
            began = time.perf_counter()
            found[wanted] = await check(function, url, model)
            took_s[wanted] = round(time.perf_counter() - began, 2)
    versions = {package: version(package) for package in program.PACKAGES}
    told = {"name": name, "versions": versions, "checks": found, "took_s": took_s}
    print(json.dumps({**told, "lines": program.LINES}), flush=True)
    return sum(result != "yes" for result in found.values())


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
