"""``livemind route``: how a text is routed, word by word; as a table, or as JSON for programs.

Starts no expert and no server: only the router of a configuration and its encoder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.settings import Settings, load_settings
from ..routing.dataset import prefixes
from ..routing.estimate import RouteEstimate
from ..routing.router import MOST_ASKING, Router
from ..routing.selection import NO_CONTEXT, RouteContext
from .errors import CommandError

MAX_LINE_CHARS = 1_000_000
MOST_WORDS = 200
"""Words that get an estimate each; of a longer text only the whole is routed after them."""
BAR = 24
_COLOURS = ("green", "cyan", "yellow", "magenta", "blue", "red", "white")


def route(options: argparse.Namespace) -> int:
    """Route one text or a file of them; 0, or 2 for a line of the file that cannot be read."""
    if (options.text is None) == (options.file is None):
        raise CommandError("need a text or --file, one of them", 2)
    settings = load_settings(options.config)
    jobs = list(_lines(options.file)) if options.file is not None else [(options.text, 0)]
    try:
        asyncio.run(_run(settings, jobs, options))
    except UnicodeEncodeError:
        raise CommandError("the text is not valid Unicode (a lone surrogate)", 2) from None
    return 0


async def _run(
    settings: Settings, jobs: list[tuple[str, int]], options: argparse.Namespace
) -> None:
    async with _router(settings) as router:
        for text, images in jobs:
            context = replace(NO_CONTEXT, images=images)
            parts = typed(text)
            estimates = await _estimates(router, parts, context)
            if options.json:
                print(json.dumps(as_json(text, estimates), ensure_ascii=False), flush=True)
            else:
                show(text, parts, estimates)


@asynccontextmanager
async def _router(settings: Settings) -> AsyncGenerator[Router, None]:
    from ...rag.encoder.embedder import EmbedderUnavailable
    from ...rag.encoder.worker import EmbedWorker
    from .. import assembly
    from ..routing.encoders import encoder

    worker: EmbedWorker | None = None
    try:
        worker = EmbedWorker(await asyncio.to_thread(encoder(settings.router.embedder).questions))
    except EmbedderUnavailable as exc:
        print(f"livemind route: {exc}", file=sys.stderr)
    try:
        router = assembly.make_router(settings, worker)
        await router.start()
        yield router
    finally:
        if worker is not None:
            await worker.aclose()


async def _estimates(
    router: Router, parts: list[str], context: RouteContext
) -> list[RouteEstimate]:
    found: list[RouteEstimate] = []
    for start in range(0, len(parts), MOST_ASKING):  # more would be told by their words alone
        some = parts[start : start + MOST_ASKING]
        found += await asyncio.gather(*(router.estimate(part, context) for part in some))
    return found


def _lines(file: Path) -> Iterator[tuple[str, int]]:
    """Yield (text, images) of each line: an object with "text", perhaps "images", or a string."""
    try:
        content = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise CommandError(f"{file}: not UTF-8 at byte {exc.start}", 2) from None
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield _job(f"{file}:{number}", line)


def _job(place: str, line: str) -> tuple[str, int]:
    if len(line) > 2 * MAX_LINE_CHARS:
        raise CommandError(f"{place}: {len(line)} characters, the limit is {2 * MAX_LINE_CHARS}", 2)
    try:
        row = json.loads(line)
    except ValueError:
        raise CommandError(f"{place}: not JSON", 2) from None
    text = row.get("text") if isinstance(row, Mapping) else row
    images = row.get("images", 0) if isinstance(row, Mapping) else 0
    if not isinstance(text, str):
        raise CommandError(f'{place}: text: need a string, or an object with "text"', 2)
    if not isinstance(images, int) or isinstance(images, bool) or images < 0:
        raise CommandError(f"{place}: images: need a whole number >= 0", 2)
    return text, images


def typed(text: str) -> list[str]:
    """Return what has been typed at each estimate: at least one, the last is all of the text."""
    words = text.split()
    parts = prefixes(" ".join(words[:MOST_WORDS]))
    return parts if words and len(words) <= MOST_WORDS else [*parts, text]


def as_json(text: str, estimates: list[RouteEstimate]) -> dict[str, Any]:
    """Return one line of ``--json``: the last estimate, and the way there in ``words``."""
    last = estimates[-1]
    return {
        "text": text,
        "domain": last.domain,
        "expert": last.expert,
        "confidence": last.confidence,
        "margin": last.margin,
        "stable": last.stable,
        "reasons": list(last.reasons),
        "words": [
            {"n": n, "domain": one.domain, "confidence": one.confidence, "stable": one.stable}
            for n, one in zip(_counts(text, len(estimates)), estimates, strict=True)
        ],
    }


def _counts(text: str, estimates: int) -> list[int]:
    """Return how many words had been typed at each estimate."""
    return [*range(1, estimates), len(text.split())]


def show(text: str, parts: list[str], estimates: list[RouteEstimate]) -> None:
    """Print a table: one row per word, the probability of every expert as a strip of colours."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    console = Console()
    experts = sorted({name for one in estimates for name, _ in _shares(one)})
    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(experts)}
    table = Table("words", "word", "expert", "", "probabilities", "stays", box=None, pad_edge=False)
    counts = _counts(text, len(estimates))
    for number, part, one in zip(counts, parts, estimates, strict=True):
        strip = Text()
        for name in experts:
            width = round(BAR * dict(_shares(one)).get(name, 0.0))
            strip.append("█" * width, style=colours[name])
        table.add_row(
            str(number),
            escape(_printable(part[-64:].split(" ")[-1])[:24]),
            Text(f"{one.expert} {one.confidence:.2f}", style=colours.get(one.expert, "")),
            "✓" if one.stable else "",
            strip,
            "" if one.final is None else f"{one.final:.2f}",
        )
    console.print(table)
    last = estimates[-1]
    legend = Text.assemble(*((f"█ {name}  ", colours[name]) for name in experts))
    console.print(legend)
    reasons = "; ".join(last.reasons) or "likeness of the text"
    console.print(
        f"[bold]{escape(last.expert)}[/] ({escape(last.domain)}), confidence "
        f"{last.confidence:.2f}, margin {last.margin:.2f}; decided by: {escape(reasons)}",
        highlight=False,
    )
    console.print("✓ stable; stays: chance that the finished text goes there as well", style="dim")


def _shares(one: RouteEstimate) -> tuple[tuple[str, float], ...]:
    return ((one.expert, one.confidence), *one.alternatives)


def _printable(word: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in word)
