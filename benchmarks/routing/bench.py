"""Routing on partial input: how right, how calibrated, how early, how fast; on held-out prompts.

Uses the shipped classifier on the test split of the project's prompts, which training did not read,
and the same prompts through aurelio's semantic-router where it is installed (see
docs/routing.md). Runs on the event loop of `livemind serve`. Needs no server and no expert; about
two minutes on one core.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from dataclasses import asdict
from typing import Any

from rich.console import Console

from ...orchestrator.cli import event_loop
from ...orchestrator.routing.dataset import Prompt, load_prompts
from ...orchestrator.routing.encoders import encoder
from ...orchestrator.routing.model import FIRST_ENCODER, MODEL_FILES, load_model
from ...rag.encoder.embedder import EmbedderUnavailable
from ...rag.encoder.worker import EmbedWorker
from ..bench import add_common, display, number
from ..figures.answer import Json, Number
from ..figures.stats import share
from ..harness.report import Parts, Run
from . import peer
from .latency import all_at_once, one_by_one
from .own import own_domains
from .quality import built_in_router, quality, route_all

UPDATES, QUICK_UPDATES = 600, 60
SESSIONS = 100
WORDS, QUICK_WORDS = 12, 3
MEANING = {
    "routing.accuracy.full": "held-out prompts routed right, whole text",
    "routing.accuracy.half": "the same with half of the words",
    "routing.stable.correct_share": "first stable route was the route of the whole text",
    "routing.stable.median_share_of_input": "share of the words at the first stable route, median",
    "routing.ece": "gap between confidence and accuracy, whole text (ten bins)",
    "routing.accuracy_over_aurelio": "accuracy over that of semantic-router, whole text",
    "routing.update_ms.p50": "one update of a text never seen, 1 to 60 words",
    "routing.many.longest_wait_ms": f"{SESSIONS} sessions typing: longest wait of an update",
    "routing.many.loop_blocked_ms.max": "the same: latest tick of the event loop",
    "routing.many.loop_idle_ms.max": "latest tick while nobody types: the machine's own",
    "routing.many.loop_busy_ms.max": "typing: most computed by the loop between two ticks",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_common(parser, "of texts and typing", "fewer updates, less typing")
    told = f"sentence encoder that is read ({FIRST_ENCODER})"
    parser.add_argument("--encoder", choices=MODEL_FILES, default=FIRST_ENCODER, help=told)
    told, typists = f"typists ({SESSIONS})", number(int, 1)
    parser.add_argument("--sessions", type=typists, default=SESSIONS, metavar="N", help=told)


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure, show, write; return the exit status."""
    run, found = Run("routing", options, console), Parts()
    run.perform(lambda: event_loop.run(_measure(options, console, found)), EmbedderUnavailable)
    run.show(found.summary, lambda name: MEANING.get(name, ""))
    config = {
        "quick": options.quick,
        "encoder": options.encoder,
        "sessions": options.sessions,
        "split": "test",
    }
    return run.finish(run.content(config, cases=found.cases, summary=found.summary))


async def _measure(options: argparse.Namespace, console: Console, found: Parts) -> None:
    """Fill cases and summary, one part after the other."""
    held_out = load_prompts("test")
    with display(console, "loading the encoder", total=6) as shown:
        model = load_model(options.encoder)
        embedder = await asyncio.to_thread(encoder(options.encoder).questions)
        worker = EmbedWorker(embedder)
        try:
            router = built_in_router(worker, model)
            await router.start()
            gc.collect()
            gc.freeze()  # as `livemind serve` does before it takes requests

            shown.step("updates one by one")
            updates = QUICK_UPDATES if options.quick else UPDATES
            found.keep("latency", await one_by_one(router, held_out, updates, options.seed))
            shown.step("sessions at once")
            words = QUICK_WORDS if options.quick else WORDS
            many = await all_at_once(router, held_out, options.sessions, words, options.seed)
            found.keep("many", many)
            shown.step("held-out prompts, word by word")
            routed = await route_all(router, held_out)
            found.keep("quality", quality(routed))
            found.summary["routing.accuracy_over_aurelio"] = None
            shown.step("the same by semantic-router")
            accuracy = found.summary["routing.accuracy.full"]
            found.keep("semantic-router", await _peer(worker, held_out, accuracy))
            shown.step("a domain of the user's own")
            found.keep("own_domain", await own_domains(worker, model, held_out))
            found.cases["cache"] = {
                "router": asdict(router.stats()),
                "encoder": asdict(worker.stats()),
            }
        finally:
            await worker.aclose()


async def _peer(
    worker: EmbedWorker, held_out: list[Prompt], accuracy: Number
) -> tuple[Json, dict[str, Number]]:
    """Return the peer's accuracy on the whole texts and the ratio of ours to it."""
    examples = load_prompts("train", "validation")
    texts = list(dict.fromkeys(prompt.text for prompt in [*examples, *held_out]))
    vectors: dict[str, Any] = {}
    for start in range(0, len(texts), 128):
        some = texts[start : start + 128]
        found = await asyncio.gather(*map(worker.embed, some))
        vectors.update(zip(some, found, strict=True))
    told = await asyncio.to_thread(
        peer.predict,
        [(prompt.text, prompt.domain) for prompt in examples],
        [prompt.text for prompt in held_out],
        vectors,
    )
    if told is None:
        return {"installed": False}, {}
    right = sum(a == prompt.domain for a, prompt in zip(told["domains"], held_out, strict=True))
    theirs = share(right, len(held_out))
    return (
        {"installed": True, "version": told["version"], "accuracy": theirs},
        {
            "routing.accuracy.aurelio": theirs,
            "routing.accuracy_over_aurelio": accuracy / theirs if accuracy and theirs else None,
        },
    )
