"""What every benchmark of ``livemind bench`` shares: its two failures, options and display."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

T = TypeVar("T")
N = TypeVar("N", int, float)


class UsageError(ValueError):
    """An option has a value that cannot be used; the message names option, value and limit."""


class BenchmarkFailed(RuntimeError):
    """The run could not begin or go on; the message says why."""


def add_common(
    parser: argparse.ArgumentParser,
    seed: str,
    quick: str | None = None,
    seeds: Callable[[str], int] = int,
) -> None:
    """Declare ``--json``, ``--seed`` and ``--quick``, with what the last two say in ``--help``."""
    if quick is not None:
        parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--seed", type=seeds, default=1, metavar="SEED", help=f"{seed} (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report")


def checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return the same as the type of an option: its ValueError is told with the option's name."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return convert


def number(kind: type[N], least: N, most: N | None = None) -> Callable[[str], N]:
    """Return the type of an option that is a number within limits, both allowed."""

    def parse(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"got {text!r}, need {kind.__name__}") from None
        if not (least <= value and (most is None or value <= most)):
            upper = "" if most is None else f" and <= {most}"
            raise ValueError(f"got {value}, need >= {least}{upper}")
        return value

    return checked(parse)


def positive(text: str) -> float:
    """Return a number above 0; the type of an option."""
    value = number(float, 0.0)(text)
    if not value:
        raise argparse.ArgumentTypeError(f"got {value}, need > 0")
    return value


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return the type of an option that lists names, comma-separated; in the order of ``known``."""

    def parse(text: str) -> tuple[str, ...]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise ValueError(f"got {name!r}, need some of {', '.join(known)}")
        return tuple(name for name in known if name in names)

    return checked(parse)


@dataclass(frozen=True, slots=True)
class Display:
    """The live display of a long run: what it is at, and how much of that is done."""

    progress: Progress
    task: TaskID

    def say(self, text: str | None, done: int | None = None) -> None:
        """Show what the run is at (None = still the same) and how much of it is done."""
        self.progress.update(self.task, description=text, completed=done)

    def step(self, text: str | None = None, count: int = 1) -> None:
        """Show that more is done, and what comes next."""
        self.progress.update(self.task, description=text, advance=count)

    def begin(self, text: str, total: int | None = None) -> None:
        """Begin with something else."""
        self.progress.reset(self.task, description=text, total=total)


@contextmanager
def display(
    console: Console, text: str = "getting ready", total: int | None = None
) -> Iterator[Display]:
    """Show how a long run gets on; leaves nothing behind."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as shown:
        yield Display(shown, shown.add_task(text, total=total))


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for the time of the block."""
    with TemporaryDirectory(prefix="livemind-bench-") as folder:
        yield Path(folder)
