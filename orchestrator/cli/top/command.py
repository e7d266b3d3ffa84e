"""``livemind top``: its arguments and exit codes."""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fleet import Reading

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT_URL = "http://127.0.0.1:8000"


def add_arguments(commands: Commands) -> None:
    """Add the command's parser."""
    top = commands.add_parser(
        "top",
        help="watch the gateways of a fleet: sessions, waits, what is worked ahead, and their sum",
        description="Read /stats of one or several gateways and show a line for each and their "
        "sum, every few seconds until Ctrl-C. Keys need the scope operate.",
        epilog="exit code: 0, or 1 when a gateway did not answer the last time\n\n"
        "examples:\n  livemind top\n"
        "  livemind top --url http://gw-1:8000 --url http://gw-2:8000\n"
        "  livemind top --once --json",
    )
    top.add_argument(
        "--url",
        action="append",
        dest="urls",
        metavar="URL",
        help=f"a gateway, repeated for several ({DEFAULT_URL})",
    )
    top.add_argument("--key", help="API key, instead of the environment's LIVEMIND_API_KEY")
    top.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="S", help="seconds (%(default)s)"
    )
    top.add_argument(
        "--once", action="store_true", help="print once, what was counted since the start"
    )
    top.add_argument(
        "--json", action="store_true", help="print JSON: an object, without --once one a line"
    )
    top.set_defaults(module="top.command", function="top")


def top(options: argparse.Namespace) -> int:
    """Show until Ctrl-C, or once; return the exit code."""
    from .watch import watch

    key = options.key or os.environ.get("LIVEMIND_API_KEY") or None
    urls = list(dict.fromkeys(options.urls or [DEFAULT_URL]))
    last: list[Reading] = []
    with suppress(KeyboardInterrupt):
        asyncio.run(
            watch(
                urls, key, last, once=options.once, as_json=options.json, every_s=options.interval
            )
        )
    return int(any(one.stats is None for one in last))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, need a number of seconds") from None
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"got {text}, need 0.1 to 3600 seconds")
    return value
