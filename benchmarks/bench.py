"""What every benchmark of ``livemind bench`` shares: its two failures and its progress display."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class UsageError(ValueError):
    """An option has a value that cannot be used; the message names option, value and limit."""


class BenchmarkFailed(RuntimeError):
    """The run could not begin or go on; the message says why."""


def progress(console: Console) -> Progress:
    """Return the live display of a long run; it leaves nothing behind."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
