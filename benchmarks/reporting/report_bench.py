"""Make a page and plots from reports that were written before, without measuring anything.

Several reports share one page: that of `livemind bench load` beside that of `ttft`, say.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ..bench import UsageError
from . import outputs
from .reports import read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("reports", type=Path, nargs="+", metavar="FILE.json", help="what to show")
    outputs.add_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Write what is asked for; return the exit status."""
    if options.html is None and options.plots is None:
        raise UsageError("need --html FILE or --plots DIR")
    outputs.check(options)
    outputs.write([read(file) for file in options.reports], options, console)
    return 0
