"""``livemind record`` and ``livemind replay``: their arguments, and the recorder's run."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from urllib.parse import urlsplit

from ..errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .turns import Json

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PORT = 8010


def add_arguments(commands: Commands, port: Callable[[str], int]) -> None:
    """Add the command's parser."""
    record = commands.add_parser(
        "record",
        help="write down when people type and what they wait, for bench and replay",
        description="Run a proxy in front of a server and write the timings of every live turn, "
        "on /v1/live, /v1/realtime or of an HTTP session, to a file: when the text changed, when "
        "it was committed, when the answer began. "
        "Texts are replaced by letters of the same number unless --texts is given. The file, "
        "mode 600, is input of `livemind replay` and of `livemind bench ttft --cadence`.",
        epilog="examples:\n  livemind record turns.jsonl      # then open http://127.0.0.1:8010/\n"
        "  livemind replay turns.jsonl\n"
        "  livemind bench ttft --cadence turns.jsonl",
    )
    record.add_argument("file", type=Path, metavar="FILE", help="ends in .jsonl; must be new")
    record.add_argument(
        "--url", default="http://127.0.0.1:8000", help="the server to be recorded (%(default)s)"
    )
    record.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    record.add_argument("--port", type=port, default=PORT, help="port of the proxy (%(default)s)")
    record.add_argument(
        "--texts", action="store_true", help="write down what was typed, not stand-ins"
    )
    record.set_defaults(module="record.command", function="record")
    replay = commands.add_parser(
        "replay",
        help="play a recording to a server: what would LiveMind have saved you?",
        description="Play every recorded turn to a LiveMind server as it was typed, and once more "
        "with the whole text at the commit and nothing prepared; both with a cache of their own. "
        "Each turn stands alone. Takes as long as was typed.",
        epilog="exit code: 0, or 1 when no turn was answered both ways, 2 for a wrong file\n\n"
        "examples:\n  livemind replay turns.jsonl\n"
        "  livemind replay turns.jsonl --turns 20 --json var/replay.json",
    )
    replay.add_argument("file", type=Path, metavar="FILE", help="of `livemind record`")
    replay.add_argument(
        "--url", default="http://127.0.0.1:8000", help="a LiveMind server (%(default)s)"
    )
    replay.add_argument("--model", default="auto", help="expert id (%(default)s = routed)")
    replay.add_argument("--key", help="API key, instead of the environment's LIVEMIND_API_KEY")
    replay.add_argument("--turns", type=_whole, metavar="N", help="the first N turns alone")
    replay.add_argument(
        "--speed", type=_positive, default=1.0, metavar="X", help="times the pace (%(default)s)"
    )
    replay.add_argument(
        "--max-tokens", type=_whole, default=64, metavar="N", help="of an answer (%(default)s)"
    )
    replay.add_argument("--json", type=Path, metavar="FILE", help="write the figures, no texts")
    replay.set_defaults(module="record.command", function="replay")


def replay(options: argparse.Namespace) -> int:
    """Play a recording; return the exit code."""
    command = import_module("....benchmarks.replay.command", __package__)
    result: int = command.replay(options)
    return result


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f'got "{text}", need 1 to 1000000')
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 1000:
        raise argparse.ArgumentTypeError(f'got "{text}", need 0.01 to 1000')
    return value


def record(options: argparse.Namespace) -> int:
    """Record until SIGINT or SIGTERM; return the exit code."""
    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise CommandError(f"--url: got {options.url}, need one such as http://127.0.0.1:8000", 2)
    if options.file.suffix != ".jsonl":
        raise CommandError(f"FILE: got {options.file}, need a name that ends in .jsonl", 2)
    try:
        handle = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        message = f"{options.file} is there already; give another name"
        raise CommandError(message, 2) from None
    with open(handle, "w", encoding="utf-8") as out:
        turns = asyncio.run(_until_signal(options, out))
    if not turns:
        options.file.unlink()
        print("no turn was completed; nothing is written")
        return 0
    print(f"{turns} turns in {options.file}: livemind replay {options.file}")
    return 0


async def _until_signal(options: argparse.Namespace, out: TextIO) -> int:
    from .proxy import RecordingProxy

    turns = 0

    def write(lines: list[Json]) -> None:
        nonlocal turns
        turns += 1
        out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        out.flush()
        figures = lines[-1]["turn"]
        waited = "-" if figures["ttft_ms"] is None else f"{figures['ttft_ms']:.1f} ms"
        typed_s = lines[-1]["t_ms"] / 1000
        print(f"turn {turns}: typed for {typed_s:.1f} s, first word after {waited}", flush=True)

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    proxy = RecordingProxy(options.url, write, texts=options.texts, host=options.host)
    try:
        async with proxy.running(options.host, options.port) as url:
            kept = "texts and timings" if options.texts else "timings, no texts"
            print(f"recording {kept} of {options.url}", flush=True)
            print(f"use {url} in its place, the page too; Ctrl-C ends it", flush=True)
            await stop.wait()
    except OSError as exc:
        where = f"{options.host} port {options.port}"
        raise CommandError(f"cannot listen on {where}: {exc.strerror}") from None
    return turns
