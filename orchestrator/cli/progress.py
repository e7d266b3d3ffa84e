"""What ``livemind serve`` shows: experts as they load, and where to go when it is ready."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ... import kernels
from ..server.page.site import shown as shown_page

if TYPE_CHECKING:
    from ...backends.pool.pool import ExpertState
    from ..live_mind import LiveMind


class StartProgress:
    """Shows each expert's load with its seconds; after the start, one line per change.

    On a terminal lines move while experts load; elsewhere one is printed at begin and end.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._moving = False

    def __enter__(self) -> Self:
        self._progress.start()
        self._moving = self._console.is_terminal
        return self

    def __exit__(self, *exc: object) -> None:
        self._moving = False
        self._progress.stop()

    def changed(self, state: ExpertState) -> None:
        """Take note of an expert's new state."""
        name = escape(state.expert_id)
        if state.state == "loading" and state.expert_id in self._began:
            task = self._tasks.get(state.expert_id)
            if task is not None and state.progress is not None:
                text = f"loading {name} about {state.progress:.0%}"
                self._progress.update(task, description=text)
            return
        if state.state == "loading":
            self._began[state.expert_id] = time.monotonic()
            if self._moving:
                self._tasks[state.expert_id] = self._progress.add_task(f"loading {name}", total=1)
            else:
                self._console.print(f"loading {name}")
            return
        if state.state == "ready" and state.expert_id in self._began:
            self._done(state.expert_id, f"{name} is ready")
        elif state.state == "failed":
            self._done(state.expert_id, f"[red]{name} failed:[/] {escape(state.detail)}")

    def _done(self, expert_id: str, line: str) -> None:
        began = self._began.pop(expert_id, None)
        task = self._tasks.pop(expert_id, None)
        if task is not None and self._moving:
            self._progress.update(task, description=line, completed=1)
            return
        seconds = "" if began is None else f" ({time.monotonic() - began:.1f} s)"
        self._console.print(f"{line}{seconds}")


def ready_lines(mind: LiveMind, host: str, port: int, bridge: str | None) -> Iterator[str]:
    """Yield what to print once requests are answered."""
    shown = f"[{host}]" if ":" in host else host
    shown = "127.0.0.1" if shown in ("0.0.0.0", "[::]") else shown
    base = f"http://{shown}:{port}"
    states = [info.state for info in mind.experts()]
    loaded = f"{states.count('ready')} of {len(states)} experts loaded"
    yield f"[bold green]LiveMind is ready[/] on {base} ({loaded})"
    loaded_in = {
        f"{info.dtype}, weights in {info.quantization}" if info.quantization else info.dtype
        for info in mind.experts()
        if info.state == "ready" and info.dtype
    }
    if loaded_in:
        yield f"  computing   in {', '.join(sorted(loaded_in))} ({kernels.isa()}), see /stats"
    if bridge is not None:
        yield f"  passages    {bridge} (started here)"
    default_port = (
        "" if (shown, port) == ("127.0.0.1", 8000) else f" --url ws://{shown}:{port}/v1/live"
    )
    if shown_page(mind.settings.server):
        yield f"  page        {base}/    type, and watch it think along"
    yield f"  live        ws://{shown}:{port}/v1/live    try: livemind chat{default_port}"
    yield f"  OpenAI API  {base}/v1    also: /health /ready /stats /metrics"
    body = json.dumps({"messages": [{"role": "user", "content": "Hello, who are you?"}]})
    key = " -H 'Authorization: Bearer KEY'" if mind.settings.server.api_keys else ""
    yield escape(f"  curl {base}/v1/chat/completions{key} -d '{body}'")
