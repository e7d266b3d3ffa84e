"""What one update costs, and what many typists at once wait for.

One update: a text that was never seen (read, language, encoder, classifier) and the same text
again (cached). Many: each session routes its newest text as soon as its last estimate is there,
like ``turn/engine.py``; an update's wait ends when it, or a newer one of its session, is
routed. A second task watches how late the event loop is, first without any typist: so late is the
machine itself. ``loop_busy_ms`` is what the loop's thread computed from one tick to the next.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from time import perf_counter

from ...orchestrator.routing.dataset import Prompt, prefixes
from ...orchestrator.routing.router import Router
from ..figures.answer import Json, Number
from ..figures.stats import p50, p95, quantile
from ..harness.loop_watch import SHORT_TICK_S, Ticks, watch_loop

MOST_WORDS = 60
CPM = 400
CHARS_PER_WORD = 6
PAUSE_S = CHARS_PER_WORD * 60 / CPM


async def one_by_one(
    router: Router, prompts: Sequence[Prompt], updates: int, seed: int
) -> tuple[Json, dict[str, Number]]:
    """Return the latency of updates of texts of 1 to 60 words, evenly spread, first and cached."""
    rng = random.Random(seed)
    fresh_ms, cached_ms, by_words = [], [], dict[str, list[float]]()
    for number in range(updates):
        words = 1 + number % MOST_WORDS
        text = _long_text(prompts, words, rng)
        began_s = perf_counter()
        await router.estimate(text)
        between_s = perf_counter()
        await router.estimate(text)
        fresh_ms.append((between_s - began_s) * 1000)
        cached_ms.append((perf_counter() - between_s) * 1000)
        by_words.setdefault(
            f"{(words - 1) // 10 * 10 + 1}-{(words - 1) // 10 * 10 + 10}", []
        ).append(fresh_ms[-1])
    details = {
        "updates": updates,
        "fresh_ms": _spread(fresh_ms),
        "cached_ms": _spread(cached_ms),
        "fresh_ms_by_words": {words: _spread(values) for words, values in by_words.items()},
    }
    return details, {
        "routing.update_ms.p50": p50(fresh_ms),
        "routing.update_ms.p95": p95(fresh_ms),
        "routing.update_cached_ms.p50": p50(cached_ms),
        "routing.update_cached_ms.p95": p95(cached_ms),
    }


async def all_at_once(
    router: Router, prompts: Sequence[Prompt], sessions: int, words: int, seed: int
) -> tuple[Json, dict[str, Number]]:
    """Return waits and loop delays while ``sessions`` type ``words`` words each, at 400 cpm."""
    rng = random.Random(seed)
    waits_ms: list[float] = []
    routed = [0]
    idle, typed = Ticks(), Ticks()
    async with watch_loop(idle, SHORT_TICK_S):
        await asyncio.sleep(words * PAUSE_S)
    before = router.stats()
    async with watch_loop(typed, SHORT_TICK_S), asyncio.TaskGroup() as typists:
        for _ in range(sessions):
            text = _long_text(prompts, words, rng)
            typists.create_task(_type(router, text, rng.random(), waits_ms, routed))
    after = router.stats()
    asked = after.hits + after.misses - before.hits - before.misses
    details = {
        "sessions": sessions,
        "updates_typed": len(waits_ms),
        "updates_routed": routed[0],
        "wait_ms": _spread(waits_ms),
        "loop_late_ms": _spread(typed.late_ms),
        "loop_late_idle_ms": _spread(idle.late_ms),
        "loop_busy_ms": _spread(typed.busy_ms),
        "cache_hit_share": (after.hits - before.hits) / asked if asked else None,
    }
    return details, {
        "routing.many.longest_wait_ms": max(waits_ms, default=None),
        "routing.many.wait_ms.p95": p95(waits_ms),
        "routing.many.loop_blocked_ms.max": max(typed.late_ms, default=None),
        "routing.many.loop_blocked_ms.p99": quantile(typed.late_ms, 0.99),
        "routing.many.loop_busy_ms.max": max(typed.busy_ms, default=None),
        "routing.many.loop_idle_ms.max": max(idle.late_ms, default=None),
    }


async def _type(
    router: Router, text: str, phase: float, waits_ms: list[float], routed: list[int]
) -> None:
    """Type one text; at most one estimate under way, then the newest text."""
    await asyncio.sleep(phase * PAUSE_S)
    open_since: list[float] = []
    newest: list[str] = []
    running: asyncio.Task[None] | None = None

    async def route() -> None:
        while newest:
            since, part = open_since.copy(), newest.pop()
            open_since.clear()
            newest.clear()
            await router.estimate(part)
            routed[0] += 1
            now_s = perf_counter()
            waits_ms.extend((now_s - typed_s) * 1000 for typed_s in since)

    for part in prefixes(text):
        open_since.append(perf_counter())
        newest.append(part)
        if running is None or running.done():
            running = asyncio.create_task(route())
        await asyncio.sleep(PAUSE_S)
    if running is not None:
        await running


def _long_text(prompts: Sequence[Prompt], words: int, rng: random.Random) -> str:
    """Return that many words of prompts of one domain, one after the other."""
    domain = rng.choice(prompts).domain
    some = [prompt.text for prompt in prompts if prompt.domain == domain and " " in prompt.text]
    found: list[str] = []
    while len(found) < words:
        found += rng.choice(some).split()
    return " ".join(found[:words])


def _spread(values: Sequence[float]) -> dict[str, Number]:
    return {"p50": p50(values), "p95": p95(values), "max": max(values, default=None)}
