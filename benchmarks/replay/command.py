"""``livemind replay FILE``: play a recording to a server and say what LiveMind would have saved."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

from rich.console import Console
from rich.progress import Progress

from ...orchestrator.client.client import LiveClient
from ..bench import UsageError
from ..workload.recordings import Utterance, read_recording
from .play import Arm, Player
from .report import SCHEMA, Replayed, lines, rows, summary

ORDERS: tuple[tuple[Arm, Arm], ...] = (("live", "at_once"), ("at_once", "live"))


def replay(options: argparse.Namespace) -> int:
    """Replay; return 0, 1 when no turn was answered both ways, 2 for a wrong file."""
    try:
        recording = read_recording(str(options.file))
    except UsageError as exc:
        print(f"livemind replay: {exc}", file=sys.stderr)
        return 2
    turns = recording.utterances[: options.turns]
    console = Console(soft_wrap=True, highlight=False)
    key = options.key or os.environ.get("LIVEMIND_API_KEY") or None
    found: list[Replayed] = []
    interrupted = False
    try:
        asyncio.run(_play(options, key, turns, found, console))
    except KeyboardInterrupt:
        interrupted = True
    figures = summary(found)
    for line in lines(figures):
        console.print(line)
    if options.json is not None:
        told = {
            "schema": SCHEMA, "recording": recording.name, "url": options.url,
            "model": options.model, "speed": options.speed, "max_tokens": options.max_tokens,
            "interrupted": interrupted, "turns": rows(found), "summary": figures,
        }  # fmt: skip
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if interrupted:
        return 130
    return 0 if any(one.complete for one in found) else 1


async def _play(
    options: argparse.Namespace,
    key: str | None,
    turns: tuple[Utterance, ...],
    found: list[Replayed],
    console: Console,
) -> None:
    async with LiveClient(options.url, api_key=key) as client:
        player = Player(client, options.model, options.max_tokens, options.speed)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("replaying", total=len(turns))
            for number, turn in enumerate(turns):
                asked = {arm: await player.play(turn, arm) for arm in ORDERS[number % 2]}
                found.append(Replayed(turn, asked["live"], asked["at_once"]))
                progress.advance(task)
