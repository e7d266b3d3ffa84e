"""Reads the gateways, adds them up, shows that; again and again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import monotonic

from msgspec import to_builtins
from rich.console import Console
from rich.live import Live

from ...client.endpoint import Endpoint
from ...errors import LiveMindError
from .fleet import Figures, Reading, figures
from .view import view

TIMEOUT_S = 5.0


async def watch(
    urls: Sequence[str],
    key: str | None,
    last: list[Reading],
    *,
    once: bool,
    as_json: bool,
    every_s: float,
) -> None:
    """Read and show until cancelled, or once.

    Args:
        urls: of the gateways.
        key: for all of them.
        last: filled with what was read last.
        once: what was counted since the start, then return.
        as_json: instead of a table.
        every_s: between two readings.

    Raises:
        InvalidRequest: a URL is none.
    """
    console = Console()
    async with AsyncExitStack() as stack:
        gateways = []
        for url in urls:
            endpoint = Endpoint(url, key, TIMEOUT_S)
            await endpoint.open()
            stack.push_async_callback(endpoint.close)
            gateways.append(endpoint)
        last[:] = await _read(gateways)
        if once:
            lines = figures(last)
            if as_json:
                print(json.dumps(told(lines), indent=2))
            else:
                console.print(view(lines, since_start=True))
            return
        shown = None
        if not as_json:
            shown = stack.enter_context(
                Live(view(figures(last), since_start=True), console=console)
            )
        while True:
            await asyncio.sleep(every_s)
            before = list(last)
            last[:] = await _read(gateways)
            lines = figures(last, before)
            if shown is None:
                print(json.dumps(told(lines)), flush=True)
            else:
                shown.update(view(lines, since_start=False), refresh=True)


def told(lines: Sequence[Figures]) -> dict[str, object]:
    """Return the lines as JSON has them: each gateway's, and the fleet's, its only one's if so."""
    rows = [to_builtins(one) for one in lines]
    return {"gateways": rows[:-1] if len(rows) > 1 else rows, "fleet": rows[-1]}


async def _read(gateways: Sequence[Endpoint]) -> list[Reading]:
    return list(await asyncio.gather(*map(_reading, gateways)))


async def _reading(gateway: Endpoint) -> Reading:
    try:
        content = await gateway.read("GET", "/stats")
        stats = json.loads(content)
        if not isinstance(stats, dict) or "server" not in stats or "sessions" not in stats:
            raise ValueError("its /stats are no LiveMind's")
    except LiveMindError as exc:
        return Reading(gateway.url, monotonic(), error=exc.message)
    except ValueError:
        return Reading(gateway.url, monotonic(), error="what answers there is no LiveMind")
    return Reading(gateway.url, monotonic(), stats)
