"""Runs every client program against a server with a real model, and keeps what worked.

``python tests/clients/run.py [NAME …]``: starts ``livemind serve`` on a free port, runs the
programs, each in the environment of its client, and writes ``results.json``, of
which ``docs/clients.md`` is made. Programs that are named replace their own results alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from livemind.backends.packages import PACKAGE_PREFIX, parse_package
from livemind.orchestrator.config.settings import load_settings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results.json"
QUICK = "clients_quick"
"""The environment of those that `make test` runs."""
PROGRAMS = {
    "openai_python": "clients",
    "openai_agents": "clients",
    "pydantic_agents": "clients",
    "langchain": "clients",
    "litellm_sdk": "clients",
    "inspect_evals": "clients",
    "instructor_modes": "clients_openai2",
    "llama_index_like": "clients_openai2",
    "guidellm_load": "clients_guidellm",
    "aiperf_load": "clients_aiperf",
    "lm_evaluation": "clients_lm_eval",
    "aider_chat": "clients_aider",
    "livekit_plugin": "frameworks",
    "pipecat_service": "frameworks",
    "openai_node": "npm",
    "vercel_ai": "npm",
}
"""The environment of each program."""
LIMIT_S = 900.0
START_S = 300.0


def command(name: str, url: str, model: str = "auto", *, quick: bool = False) -> list[str] | None:
    """Return how a program is run, None where its client is not installed.

    ``quick``: with the clients that `make test` installs.
    """
    kind = PROGRAMS[name]
    if kind == "npm":
        found, words = HERE / "node_modules", ["node", str(HERE / "program.mjs")]
    else:
        found = ROOT / ".venv" / (QUICK if quick else kind) / "bin/python"
        words = [str(found), str(HERE / "program.py")]
    return [*words, name, url, model] if found.exists() else None


@contextmanager
def served(config: Path, log: Path) -> Iterator[str]:
    """Serve a configuration; yield the URL with ``/v1`` once it is ready.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """
    words = [str(Path(sys.executable).with_name("livemind")), "serve", "--port", "0"]
    with (
        log.open("w") as stream,
        subprocess.Popen(
            [*words, "--config", str(config)], stdout=subprocess.PIPE, stderr=stream, text=True
        ) as server,
    ):
        try:
            assert server.stdout is not None
            began = time.monotonic()
            for line in server.stdout:
                if (found := re.search(r"OpenAI API +(http:\S+)", line)) is not None:
                    yield found[1]
                    return
                if time.monotonic() - began > START_S:
                    break
            raise RuntimeError(f"the server is not ready; see {log}")
        finally:
            server.terminate()
            server.wait(60)


def run(name: str, url: str, tokenizer: Path) -> dict[str, Any] | None:
    """Return what a program tells, None where its client is not installed."""
    words = command(name, url)
    if words is None:
        print(f"{name}: not installed (make test-clients installs it)")
        return None
    environment = {
        **os.environ,
        "LIVEMIND_TOKENIZER": str(tokenizer.resolve()),
        "HF_HUB_OFFLINE": "1",
    }
    ended = subprocess.run(
        words, capture_output=True, text=True, timeout=LIMIT_S, env=environment, cwd=HERE
    )
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if not lines:
        told = f"{name}: it told nothing: {ended.stderr[-400:]}"
        return {"name": name, "versions": {}, "checks": {"plain": told}, "lines": ""}
    result: dict[str, Any] = json.loads(lines[-1])
    shown = ", ".join(f"{check} {outcome}" for check, outcome in result["checks"].items())
    print(f"{name}: {shown}", flush=True)
    for line in ended.stderr.splitlines():
        if "TTFT" in line:
            print(f"  {line}")
    return result


def main() -> int:
    """Return how many checks failed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="programs; none = all")
    options.add_argument("--config", type=Path, default=ROOT / "configs/embedded.json")
    options.add_argument("--url", help="of a server that runs already, with /v1")
    options.add_argument("--tokenizer", type=Path, help="folder of the model's tokenizer")
    options.add_argument("--model-name", default="SmolLM2-135M-Instruct", help="told in the table")
    options.add_argument("--at-once", type=int, default=1, help="programs that run together (1)")
    given = options.parse_args()
    if unknown := set(given.names) - PROGRAMS.keys():
        options.error(f"no program {', '.join(sorted(unknown))}; there are {', '.join(PROGRAMS)}")
    log = ROOT / "var/clients-server.log"
    log.parent.mkdir(exist_ok=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"programs": {}}
    failed, tokenizer = 0, given.tokenizer or model_folder(given.config)
    names = given.names or [*PROGRAMS]
    with (
        _at(given.url) if given.url else served(given.config, log) as url,
        ThreadPoolExecutor(given.at_once) as threads,
    ):
        running = {threads.submit(run, name, url, tokenizer): name for name in names}
        for ended in as_completed(running):
            if (result := ended.result()) is None:
                continue
            result.pop("took_s", None)
            result["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
            result["model"], result["kind"] = given.model_name, PROGRAMS[running[ended]]
            kept["programs"][running[ended]] = result
            written = json.dumps(kept, indent=1, ensure_ascii=False)
            RESULTS.write_text(written + "\n", "utf-8")
            failed += sum(outcome != "yes" for outcome in result["checks"].values())
    return failed


def model_folder(config: Path) -> Path:
    """Return where the first expert's model lies."""
    path = load_settings(config).experts[0].model_path or ""
    return parse_package(path).folder if path.startswith(PACKAGE_PREFIX) else Path(path)


@contextmanager
def _at(url: str) -> Iterator[str]:
    yield url


if __name__ == "__main__":
    sys.exit(main())
