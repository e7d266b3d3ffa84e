"""Each kernel against its scalar tier, NumPy, torch, vLLM's own op and NumKong, on one thread.

Arms of a case do the same work on the same data and take turns; a ratio is the median over the
turns of (time of the peer / time of ours). Bytes or operations per second are shown as a share of
what this machine can read or multiply-add at best, measured in the same run. Peers that are not
installed are left out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from rich.console import Console

from ...kernels import dispatch
from ...kernels.vllm_plugin.tiles import allow_tiles
from ..bench import BenchmarkFailed, add_common, display, number
from ..figures.answer import Json, Number
from ..figures.table import Table, percent, show
from ..harness import report
from .case import Case
from .groups import GROUPS
from .measure import Limits, Measured, measure, measure_limits, one_thread

SCALAR_CLAIMS = {
    "rms_norm.t256": 5.0,
    "softmax.v151936": 6.0,
    "matmul.512": 1.5,
    "attention.2048": 1.8,
}
"""What the original project said of its kernels over scalar code, and the cases that show it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser, "of the data", "fewer turns", number(int, 0))
    told, names = "a kernel; repeatable", sorted(GROUPS)
    parser.add_argument("--only", metavar="KERNEL", action="append", choices=names, help=told)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    native = dispatch.implementation()
    if native.isa() == "numpy":
        raise BenchmarkFailed("the compiled kernels are not installed: there is nothing to compare")
    names = options.only or list(GROUPS)
    turns = 7 if options.quick else 25
    run = report.Run("kernels", options, console)
    config = {
        "isa": native.isa(),
        "threads": 1,
        "turns": turns,
        "kernels": names,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }
    allow_tiles()  # as in an engine's process
    with one_thread(), display(console, "limits", len(names) + 1) as shown:
        limits = measure_limits(native)
        found: list[tuple[Case, Measured]] = []
        for name in names:
            shown.step(name)
            for case in GROUPS[name](native, options.seed):
                found.append((case, measure(case, native, turns)))
            limits = limits.best(measure_limits(native))
    content = run.content(
        config,
        limits=limits.as_json(),
        cases=[_case_json(case, measured, limits) for case, measured in found],
        claims=_claims(found),
        summary=_summary(found, limits),
    )
    show(console, _tables(content))
    return run.finish(content)


def _case_json(case: Case, measured: Measured, limits: Limits) -> Json:
    return {
        "kernel": case.kernel,
        "case": case.name,
        "work": case.work,
        "bytes": case.bytes,
        "operations": case.operations,
        "us": {arm: measured.median_us(arm) for arm in measured.times_s},
        "speedup": {
            peer: dict(zip(("p50", "p10", "p90"), measured.speedup(peer), strict=True))
            for peer in measured.peers()
        },
        "share_of_limit": limits.share(case, measured.median_us("ours")),
        "absent": case.absent,
    }


def _summary(found: list[tuple[Case, Measured]], limits: Limits) -> dict[str, Number]:
    summary: dict[str, Number] = {}
    for case, measured in found:
        prefix = f"kernels.{case.kernel}.{case.name}"
        for peer in measured.peers():
            summary[f"{prefix}.speedup_vs_{peer}"] = measured.speedup(peer)[0]
        share = limits.share(case, measured.median_us("ours"))
        if share is not None:
            summary[f"{prefix}.share_of_limit"] = share
    return summary


def _claims(found: list[tuple[Case, Measured]]) -> Json:
    by_name = {f"{case.kernel}.{case.name}": measured for case, measured in found}
    return {
        name: {"claimed": claimed, "measured": by_name[name].speedup("scalar")[0]}
        for name, claimed in SCALAR_CLAIMS.items()
        if name in by_name
    }


def _tables(content: Json) -> Iterator[Table]:
    rows = [
        [
            f"{case['kernel']}.{case['case']}",
            case["us"]["ours"],
            percent(case["share_of_limit"]),
            ", ".join(f"{peer} {over['p50']:.2f}" for peer, over in case["speedup"].items()),
        ]
        for case in content["cases"]
    ]
    read, added = content["limits"].values()
    note = f"read {read:.1f} GB/s, multiply-add {added:.0f} GFLOP/s"
    columns = ("case", "us", "% of limit", "speedup over peers")
    yield Table("Kernels, one thread", columns, rows, note)
    if content["claims"]:
        told = [[name, *numbers.values()] for name, numbers in content["claims"].items()]
        told.append(["fp8 KV cache", "half of bfloat16", "1 byte for 2"])
        yield Table("Claims of the original project", ("case", "claimed", "measured"), told)
