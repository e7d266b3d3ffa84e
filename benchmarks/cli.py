"""``livemind bench NAME``: one module per benchmark, imported when it is asked for.

A module has ``add_arguments(parser)`` and ``run(options, console) -> int``. ``run`` returns the
exit status and may raise ``UsageError`` or ``BenchmarkFailed``; it keeps and writes what it has
when it is interrupted (``KeyboardInterrupt``, which SIGTERM raises as well).
A module that measures has ``--json`` and may have ``MEANING``, what each number of its summary
says; ``--html`` and ``--plots`` come by themselves.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Protocol, cast

from rich.console import Console

from .bench import BenchmarkFailed, UsageError
from .names import AFTERWARDS, BENCHES
from .reporting import outputs


class Bench(Protocol):
    """What a benchmark's module offers; its docstring is the description in ``--help``."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, options: argparse.Namespace, console: Console) -> int:
        """Measure, show, write; return the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; return 0, 1 when it could not run, 130 when interrupted (report kept)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    top = argparse.ArgumentParser(prog="livemind bench", description="Measure LiveMind.")
    names = top.add_subparsers(dest="name", required=True, metavar="NAME")
    parsers = {name: names.add_parser(name, help=told) for name, (_, told) in BENCHES.items()}
    name = arguments[0] if arguments else ""
    if name not in BENCHES:
        top.parse_args(arguments)  # ends with help or an error
        raise AssertionError("unreachable")
    bench = _load(name)
    parsers[name].description = bench.__doc__
    bench.add_arguments(parsers[name])
    measures = name not in AFTERWARDS
    if measures:
        outputs.add_arguments(parsers[name])
    options = top.parse_args(arguments)
    console = Console()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end the servers
    try:
        with outputs.drawn(options, console) if measures else nullcontext():
            return bench.run(options, console)
    except UsageError as exc:
        parsers[name].error(str(exc))
    except BenchmarkFailed as exc:
        console.print(f"bench {name}: {exc}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _load(name: str) -> Bench:
    return cast(Bench, import_module(f".{BENCHES[name][0]}", __package__))


if __name__ == "__main__":
    sys.exit(main())
