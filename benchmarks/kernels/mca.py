"""The inner loops of the Arm tiers in llvm-mca: what a model of the core makes of them.

    make mca                     # builds the objects, then runs this
    python -m livemind.benchmarks.kernels.mca --build build/kernels-test/arm --llvm 16

Each object of a tier is disassembled, the hot loop of each kernel is found and simulated. Loops are
named whose ports alone would allow them to run in less than 0.8 of the simulated cycles.
This is an estimate without any Arm hardware: nothing here is a measured time.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..bench import number
from ..figures.answer import Json
from ..harness import report
from .mca_loops import KERNELS, Kernel, Loop, functions, hot_loop
from .mca_report import BAR, CAVEATS, Row, Simulation, UnreadableOutput, model_note, parse, table

TIERS = ("neon", "neon_dot", "neon_mm", "scalar")
VECTORISED = "scalar_vectorised"
"""The scalar tier's source once more, with GCC's vectoriser on: the Makefile builds it."""


class ToolMissing(RuntimeError):
    """A program or an object that is needed is not there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Find, simulate, print; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        objects = _objects(options.build)
        models = [_model(options, version, objects) for version in options.llvm]
        if options.json:
            content = {"cpu": options.cpu, "bar": BAR, "caveats": CAVEATS, "models": models}
            options.json.parent.mkdir(parents=True, exist_ok=True)
            report.write(options.json, content)
    except KeyboardInterrupt:
        return 130
    except subprocess.CalledProcessError as exc:
        print(f"mca: {exc.cmd[0]} failed\n{exc.stderr}".rstrip(), file=sys.stderr)
        return 1
    except (ToolMissing, UnreadableOutput, OSError) as exc:
        print(f"mca: {exc}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m livemind.benchmarks.kernels.mca",
        description="Estimate the inner loops of the Arm tiers with llvm-mca. No Arm hardware "
        "takes part: these are no measured times.",
    )
    build, told = Path("build/kernels-test/arm"), "where CMake built the Arm tiers"
    parser.add_argument("--build", metavar="FOLDER", type=Path, default=build, help=told)
    told = "versions of llvm-mca, one table each (default: 16)"
    parser.add_argument("--llvm", metavar="VERSION", nargs="+", default=["16"], help=told)
    told = "the core, by LLVM's name (default: %(default)s)"
    parser.add_argument("--cpu", default="neoverse-v2", help=told)
    told = "simulated iterations (default: %(default)s)"
    parser.add_argument("--iterations", metavar="N", type=number(int, 1), default=200, help=told)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything there too")
    return parser


def _objects(build: Path) -> dict[str, Path]:
    found = {tier: build / f"CMakeFiles/tier_{tier}.dir/kernels/native/tier.cc.o" for tier in TIERS}
    found[VECTORISED] = build / "tier_vectorised.o"
    absent = [str(path) for path in found.values() if not path.is_file()]
    if absent:
        raise ToolMissing(f"not built: {', '.join(absent)}; `make mca` builds them")
    return found


def _tool(name: str, version: str) -> str:
    found = shutil.which(f"{name}-{version}")
    if found is None:
        raise ToolMissing(f"{name}-{version} is not installed: sudo apt install llvm-{version}")
    return found


def _model(options: argparse.Namespace, version: str, objects: dict[str, Path]) -> Json:
    """Simulate all loops with one version of LLVM, print its table and return it as JSON."""
    disassembler, mca = _tool("llvm-objdump", version), _tool("llvm-mca", version)
    command = [disassembler, "-d", "--no-show-raw-insn", f"--mcpu={options.cpu}"]
    code = {tier: functions(_run([*command, str(path)])) for tier, path in objects.items()}
    simulate = [mca, "-mtriple=aarch64", f"-mcpu={options.cpu}", "--bottleneck-analysis"]
    simulate += [f"-iterations={options.iterations}", "--resource-pressure"]
    rows: list[Row] = []
    absent: list[str] = []
    for kernel in KERNELS:
        alike: dict[tuple[float, Simulation, Simulation | None], list[str]] = {}
        for tier, found in code.items():
            loop = hot_loop(kernel, found)
            if loop is None:
                absent.append(f"{kernel.name} in {tier}")
            else:
                alike.setdefault(_simulations(kernel, loop, simulate), []).append(tier)
        rows += [Row(kernel.name, tuple(tiers), *figures) for figures, tiers in alike.items()]
    if not rows:
        raise ToolMissing("none of the loops was found in the objects")
    note = model_note(options.cpu, _version(mca), rows[0].simulated.units)
    _show(note, rows, absent)
    return {"model": note, "rows": [row.as_json() for row in rows], "absent": absent}


def _simulations(
    kernel: Kernel, loop: Loop, command: list[str]
) -> tuple[float, Simulation, Simulation | None]:
    """Return elements an iteration and the two simulations; the second where it differs."""
    whole, split = loop.assembly(), loop.assembly(apart=True)
    simulated = parse(_run([*command, "-"], whole))
    apart = parse(_run([*command, "-"], split)) if split != whole else None
    return loop.products() / kernel.products, simulated, apart


def _run(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return done.stdout


def _version(mca: str) -> str:
    found = re.search(r"LLVM version (\S+)", _run([mca, "--version"]))
    return f"llvm-mca {found[1]}" if found else "llvm-mca"


def _show(note: str, rows: list[Row], absent: list[str]) -> None:
    print(f"{note}\n")
    print("\n".join(table(rows)))
    below = [
        f"{row.kernel} ({', '.join(row.tiers)}): {row.simulated.ratio:.3f}, "
        f"{row.simulated.bottleneck}; {row.simulated.resource} {row.simulated.busy:.0%} busy"
        for row in rows
        if row.simulated.ratio < BAR
    ]
    if below:
        print(f"\nBelow {BAR}, with what llvm-mca says holds them up:")
        print("\n".join(f"  {one}" for one in below))
    if absent:
        print(f"\nNo such loop: {'; '.join(absent)}")
    print("\n" + "\n".join(CAVEATS) + "\n")


if __name__ == "__main__":
    sys.exit(main())
