"""Writes docs/clients.md: which clients work and the lines they need, as their programs told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests/clients/results.json"
CHECKS = {
    "plain": "plain",
    "stream": "stream",
    "tools": "tools",
    "structured": "structured output",
    "responses": "Responses API",
    "embeddings": "embeddings",
    "scores": "log-likelihoods",
}
HEAD = """# Clients

Programs of these clients, each as its own documentation shows it, run against the server
(`make test-clients`; [the programs](../tests/clients/programs); six of them on the tiny experts in
`make test`) with the model that stands behind the date. *Tools*: calls are forced through
`tool_choice` where the client can say so, as the default model is small.

The base URL is `http://HOST:8000/v1`, the model `auto` (routed) or the name of an expert; without
`server.api_keys` any key will do. LiveKit Agents and Pipecat stand here with their own plugins for
OpenAI; LiveMind's are in [integrations](integrations.md).

"""


def page() -> str:
    """Return the page."""
    results = json.loads(RESULTS.read_text("utf-8"))
    found: list[dict[str, Any]] = [
        results["programs"][name] for name in sorted(results["programs"])
    ]
    head = "| client | " + " | ".join(CHECKS.values()) + " | run |\n"
    cells = [
        [_versions(one), *(_cell(one, c) for c in CHECKS), f"{one['date']}, {one['model']}"]
        for one in found
    ]
    rows = [f"| {' | '.join(row)} |" for row in cells]
    table = head + "|---" * (len(CHECKS) + 2) + "|\n" + "\n".join(rows) + "\n"
    lines = [f"- {_versions(one)}: `{one['lines']}`" for one in found]
    failed = [
        f"- {_versions(one)}, {CHECKS[check]}: `{outcome}`"
        for one in found
        for check, outcome in one["checks"].items()
        if outcome != "yes"
    ]
    told = HEAD + table
    told += _agreement(results.get("agreement"))
    told += "\n## The lines they need\n\n" + "\n".join(lines) + "\n"
    if failed:
        told += "\n## What does not work\n\n" + "\n".join(failed) + "\n"
    return told


def _agreement(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    told = found["ttft_ms"].items()
    times = ", ".join(f"{name.removesuffix('_load')} {ms} ms" for name, ms in told)
    return (
        "\n## Do they measure the same?\n\n"
        f"{found['date']}, one server, the default model in float32 on one core, the generators on "
        "another, one request at a time, prompts of one length in blocks that take turns "
        "(`tests/clients/agreement.py`, which asks for at most 1.1): "
        f"TTFT p50 {times}; {found['times_apart']} times apart. "
        f"lm-eval's {found['log_likelihoods']} log-likelihoods differ from those of vLLM's own "
        f"server with the same weights by at most {found['nats_apart']:g}.\n"
    )


def _versions(result: dict[str, Any]) -> str:
    told = [f"{package} {number}" for package, number in result["versions"].items()]
    return ("npm: " if result["kind"] == "npm" else "") + ", ".join(told)


def _cell(result: dict[str, Any], check: str) -> str:
    outcome = result["checks"].get(check, "–")  # noqa: RUF001 - a dash for what the client has not
    return outcome if outcome in ("yes", "–") else "no"  # noqa: RUF001


if __name__ == "__main__":
    print(page(), end="")
