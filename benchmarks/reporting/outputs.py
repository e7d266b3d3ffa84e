"""``--html`` and ``--plots``: the options, what they need, and writing.

matplotlib and jinja2 are loaded when something is to be drawn, never before.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console

from ..bench import BenchmarkFailed, UsageError
from ..harness.report import put
from .reports import Report, read

if TYPE_CHECKING:
    from .charts.style import Chart

CHARTS = {
    "cpu": ("charts.cpu", "cases"),
    "ttft": ("charts.ttft", "turns"),
    "load": ("charts.load", "turns"),
    "routing": ("charts.routing", "cases"),
    "retrieval": ("charts.retrieval", "cases"),
    "languages": ("charts.languages", "cases"),
    "consensus": ("charts.consensus", "turns"),
    "placement": ("charts.placement", "cases"),
    "kernels": ("charts.kernels", "cases"),
    "vllm-plugin": ("charts.kernels", "cases"),
}
"""Benchmark -> module whose ``charts(content)`` draws its report, and the part that it draws."""
_NEEDED = ("matplotlib", "jinja2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of every benchmark that writes a report."""
    group = parser.add_argument_group("to look at")
    group.add_argument("--html", type=Path, metavar="FILE", help="one page with everything")
    group.add_argument("--plots", type=Path, metavar="DIR", help="the plots as PNG files")


def check(options: argparse.Namespace) -> None:
    """Refuse what could not be written in the end, before anything is measured.

    Raises:
        UsageError: a package is missing, or the place cannot be written to.
    """
    for option, file in (("--html", options.html), ("--plots", options.plots)):
        if file is None:
            continue
        missing = [name for name in _NEEDED if find_spec(name) is None]
        if missing:
            raise UsageError(
                f"{option}: needs {' and '.join(missing)}: make install, or pip install "
                "'livemind[bench]'"
            )
    for option, file in (("--html", options.html), ("--json", getattr(options, "json", None))):
        if file is not None and not file.parent.is_dir():
            raise UsageError(f"{option}: there is no folder {file.parent}")
        if file is not None and file.is_dir():
            raise UsageError(f"{option}: {file} is a folder, need a file")
    if options.plots is not None and options.plots.exists() and not options.plots.is_dir():
        raise UsageError(f"--plots: {options.plots} is not a folder")


@contextmanager
def drawn(options: argparse.Namespace, console: Console) -> Iterator[None]:
    """Draw the report that the benchmark inside the ``with`` writes to ``options.json``.

    Without ``--json`` the benchmark is given a file that does not outlive the ``with``. A run that
    was interrupted is drawn as well, if it wrote a report.
    """
    check(options)
    if options.html is None and options.plots is None:
        yield
        return
    with TemporaryDirectory(prefix="livemind-report-") as folder:
        kept = options.json
        options.json = kept or Path(folder) / "report.json"
        before = _written(options.json)
        try:
            yield
        finally:
            if _written(options.json) != before:
                write([read(options.json)], options, console)


def write(reports: Sequence[Report], options: argparse.Namespace, console: Console) -> None:
    """Write the page and the plots that are asked for, each file whole or not at all.

    Raises:
        BenchmarkFailed: a report lacks what its benchmark always writes, or the disk refuses.
    """
    charts = {report.file: list(_charts(report)) for report in reports}
    text = ""
    if options.html is not None:
        from .page import page

        text = page(reports, charts)
    try:
        if options.plots is not None:
            _write_plots(options.plots, charts.values())
            console.print(f"plots: {options.plots}")
        if options.html is not None:
            put(options.html, text.encode())
            console.print(f"page: {options.html}")
    except OSError as exc:
        raise BenchmarkFailed(f"{exc.filename}: {exc.strerror}") from exc


def _charts(report: Report) -> Iterator[Chart]:
    name, part = CHARTS.get(report.name, ("", ""))
    if part not in report.content:
        return
    module = import_module(f".{name}", __package__)
    try:
        yield from module.charts(report.content)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        what = f"{report.file}: not a whole {report.name} report: {exc!r}"
        raise BenchmarkFailed(what) from exc


def _write_plots(folder: Path, charts: Iterable[list[Chart]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for chart in (one for some in charts for one in some):
        put(folder / f"{chart.name}.png", chart.png())


def _written(file: Path) -> tuple[int, int] | None:
    """Return what changes when the file is written anew; None without it."""
    with suppress(OSError):
        told = file.stat()
        return told.st_mtime_ns, told.st_ino
    return None
