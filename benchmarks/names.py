"""The benchmarks by name, and the modules behind them. Imports none before it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

BENCHES = {
    "kernels": ("kernels.bench", "each kernel against scalar code, NumPy, torch and vLLM's own"),
    "vllm-plugin": ("plugin.bench", "tokens per second of vLLM with our kernels and without"),
    "cpu": ("cpu.bench", "one small model: LiveMind's engine, plain vLLM, llama.cpp"),
    "ttft": ("ttft.bench", "time to first token from Enter, typed live against sent at the end"),
    "answers": ("answers.bench", "right answers: everyday, pasted passages; typed = sent at end"),
    "routing": ("routing.bench", "routes on partial input: right, calibrated, early, fast"),
    "retrieval": ("retrieval.bench", "recall on Python's documentation, how early, how fast"),
    "languages": ("languages.bench", "right domain, right passage in many languages, how early"),
    "consensus": ("consensus.bench", "several experts against one: right answers, times, costs"),
    "load": ("load.bench", "where the wait bends under load; what the gateway costs; peers"),
    "sessions": ("sessions.bench", "many people who type at N gateways: CPU, routes, added waits"),
    "placement": ("placement.bench", "where requests go in a fleet: cached tokens, queues"),
    "pool": ("pool.bench", "experts on demand: random load, killed engines, starts, typing"),
    "report": ("reporting.report_bench", "page and plots from reports written before"),
    "compare": ("reporting.compare_bench", "two runs side by side, with intervals"),
}
"""Name -> module of this package, and what ``livemind bench --help`` says about it."""

AFTERWARDS = frozenset({"report", "compare"})
"""Those that read reports. The others measure, and draw what they wrote with --html and --plots."""


def offered(name: str, what: str) -> Callable[..., Any] | None:
    """Return ``what`` of the module of this name beside a benchmark's own; None without one.

    ``tables(content)`` are printed and stand in the page, ``samples(content)`` is what is behind
    the summary, ``meaning(key)`` says what one of its numbers is.
    """
    folder = BENCHES[name][0].rpartition(".")[0] if name in BENCHES else ""
    module = f"{__package__}.{folder}.{what}"
    if not folder or find_spec(module) is None:
        return None
    found: Callable[..., Any] = getattr(import_module(module), what)
    return found
