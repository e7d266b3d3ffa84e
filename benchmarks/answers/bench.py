"""Are the answers right? Everyday questions, and questions about a pasted passage.

Every question is asked twice through a live session of a real server, greedily: sent at the end
without a head start, and typed with everything the server prepares meanwhile. Nothing of one run is
in the other's cache. The rest of the report says how well the threshold of retrieval keeps passages
away that answer nothing. Starts the default configuration unless told otherwise; seven minutes on
two cores.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from msgspec import structs
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ...client import LiveClient
from ...orchestrator.cli.entry import DEFAULT_CONFIG
from ...orchestrator.client.options import LiveOptions
from ...orchestrator.events import ResponseDone, ResponseTextDelta
from ..bench import Display, add_common, display, scratch, some_of
from ..figures.answer import Json, Number
from ..figures.stats import p50, share
from ..harness.report import Run
from ..harness.server_process import COMMAND, free_port, serving
from .questions import SETS, AskedQuestion, load_questions
from .threshold import threshold

QUICK = 3
KEY_S, PAUSE_S = 0.015, 0.6
MAX_TOKENS = 96
MEANING = {
    "right_share": "answers that have the right word, of the questions that have one answer",
    "identical_share": "typed with a head start: the same text as sent at the end",
    "ttft_ms.at_end.p50": "first text after the commit, sent at the end",
    "ttft_ms.typed.p50": "first text after the commit, typed",
    "with_passages_share": "everyday questions that got passages of the sample handbook",
    "answered_kept_share": "questions with an answering passage: one is above min_score",
    "unanswered_left_out_share": "questions without an answering passage: none is above min_score",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser, "kept in the report", f"the first {QUICK} questions of each set")
    add = parser.add_argument
    names = ", ".join(SETS)
    add("--sets", type=some_of(SETS), default=SETS, metavar="LIST", help=f"of {names} (all)")
    where = parser.add_mutually_exclusive_group()
    told = "configuration to serve (the shipped embedded.json)"
    where.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=told)
    where.add_argument("--base-url", metavar="URL", help="ask a LiveMind that runs already")
    add("--model", default="auto", metavar="NAME", help="expert to ask (auto = routed)")


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    measured = Run("answers", options, console)
    cases: list[Json] = []
    parted: list[tuple[Json, dict[str, Number]]] = []
    measured.perform(
        lambda: asyncio.run(_measure(options, console, cases, parted)), aiohttp.ClientError
    )
    summary = summarize(cases) | (parted[0][1] if parted else {})
    _show(console, cases)
    measured.show(summary, lambda name: MEANING.get(name.split(".", 2)[-1], ""))
    config = {
        "config": options.base_url or str(options.config),
        "model": options.model,
        "sets": list(options.sets),
        "quick": options.quick,
        "max_tokens": MAX_TOKENS,
        "key_s": KEY_S,
    }
    content = measured.content(config, cases=cases, summary=summary)
    if parted:
        content["threshold"] = parted[0][0]
    return measured.finish(content)


async def _measure(
    options: argparse.Namespace,
    console: Console,
    cases: list[Json],
    parted: list[tuple[Json, dict[str, Number]]],
) -> None:
    questions = [
        one
        for part in options.sets
        for one in [q for q in load_questions() if q.part == part][
            : QUICK if options.quick else None
        ]
    ]
    with display(console, "calibrating retrieval", total=len(questions)) as shown:
        parted.append(await threshold())
        shown.say("starting the server")
        async with _server(options) as url, LiveClient(url) as client:
            for number, question in enumerate(questions):
                cases.append(await _ask_twice(client, options.model, question, number, shown))


@asynccontextmanager
async def _server(options: argparse.Namespace) -> AsyncGenerator[str, None]:
    if options.base_url is not None:
        yield options.base_url
        return
    port = free_port()
    words = (*COMMAND, "serve", "--config", str(options.config), "--port", str(port))
    with scratch() as folder:
        async with serving(words, port, folder / "server.log") as url:
            yield url


async def _ask_twice(
    client: LiveClient, model: str, question: AskedQuestion, number: int, shown: Display
) -> Json:
    shown.step(question.question[:50])
    sampling = {"temperature": 0.0, "max_tokens": MAX_TOKENS}
    common: LiveOptions = {"model": model, "sampling": sampling}
    whole = await _answer(
        client, question.text, {**common, "speculation": "off", "cache_salt": f"end-{number}"}, 0.0
    )
    typed = await _answer(client, question.text, {**common, "cache_salt": f"typed-{number}"}, KEY_S)
    return {
        "set": question.part,
        "question": question.question,
        "right": question.is_right(whole["text"]),
        "identical": whole["text"] == typed["text"],
        "at_end": whole,
        "typed": typed,
    }


async def _answer(client: LiveClient, text: str, options: LiveOptions, key_s: float) -> Json:
    """Ask in a session of its own; ``key_s`` is the time per character, 0 = all at once."""
    said: list[str] = []
    done: ResponseDone | None = None
    async with client.session(**options) as session:
        if key_s:
            for end in range(1, len(text) + 1):
                session.replace(text[:end])
                await asyncio.sleep(key_s)
            await asyncio.sleep(PAUSE_S)
        async for event in session.commit(text):
            if isinstance(event, ResponseTextDelta):
                said.append(event.delta)
            elif isinstance(event, ResponseDone):
                done = event
    assert done is not None
    return {
        "text": "".join(said),
        "status": done.status,
        "expert": done.expert,
        "ttft_ms": done.timings.ttft_ms,
        "passages": [*done.documents.before, *done.documents.behind],
        "ledger": structs.asdict(done.ledger),
    }


def summarize(cases: list[Json]) -> dict[str, Number]:
    """Return the figures of the cases asked so far."""
    summary: dict[str, Number] = {}
    for part in SETS:
        mine = [case for case in cases if case["set"] == part]
        judged = [case["right"] for case in mine if case["right"] is not None]
        if mine:
            summary[f"answers.{part}.right_share"] = share(sum(judged), len(judged))
            summary[f"answers.{part}.identical_share"] = share(
                sum(case["identical"] for case in mine), len(mine)
            )
    everyday = [case for case in cases if case["set"] == "everyday"]
    if everyday:
        found = sum(bool(case["at_end"]["passages"]) for case in everyday)
        summary["answers.everyday.with_passages_share"] = share(found, len(everyday))
    for name in ("at_end", "typed"):
        times = [case[name]["ttft_ms"] for case in cases if case[name]["ttft_ms"] is not None]
        summary[f"answers.all.ttft_ms.{name}.p50"] = p50(times)
    return summary


def _show(console: Console, cases: list[Json]) -> None:
    table = Table("", "same", "question", "answer", box=SIMPLE)
    marks = {True: "✓", False: "✗", None: "·"}
    for case in cases:
        answer = " ".join(str(case["at_end"]["text"]).split())
        table.add_row(
            marks[case["right"]], marks[case["identical"]], case["question"], answer[:120]
        )
    console.print(table)
