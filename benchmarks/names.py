"""The benchmarks by name, and the modules behind them. Imports none of them."""

from __future__ import annotations

BENCHES = {
    "kernels": ("kernels.bench", "each kernel against scalar code, NumPy, torch and vLLM's own"),
    "vllm-plugin": ("plugin.bench", "tokens per second of vLLM with our kernels and without"),
    "ttft": ("ttft.bench", "time to first token from Enter, typed live against sent at the end"),
    "routing": ("routing.bench", "routes on partial input: right, calibrated, early, fast"),
    "retrieval": ("retrieval.bench", "recall on Python's documentation, how early, how fast"),
    "consensus": ("consensus.bench", "several experts against one: right answers, times, costs"),
    "load": ("load.bench", "where the wait bends under load; what the gateway costs; peers"),
    "pool": ("pool.bench", "experts on demand: random load, killed engines, starts, typing"),
    "report": ("reporting.report_bench", "page and plots from reports written before"),
    "compare": ("reporting.compare_bench", "two runs side by side, with intervals"),
}
"""Name -> module of this package, and what ``livemind bench --help`` says about it."""

AFTERWARDS = frozenset({"report", "compare"})
"""Those that read reports. The others measure, and draw what they wrote with --html and --plots."""

TABLES = {"ttft": "ttft.tables", "consensus": "consensus.tables", "load": "load.tables"}
"""Benchmark -> module whose ``tables(content)`` are printed and stand in the page."""

MEANINGS = {"ttft": "ttft.meaning", "consensus": "consensus.meaning"}
"""Benchmark -> module whose ``meaning(key)`` says what a summary number is; the others have a
table ``MEANING`` in the module that ``livemind bench`` calls, or nothing."""
