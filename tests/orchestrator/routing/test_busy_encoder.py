"""Where more texts wait for the encoder than it has time for, words decide alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from livemind.orchestrator.routing.model import LAYERS, load_model
from livemind.orchestrator.routing.router import MOST_ASKING, Router
from livemind.orchestrator.routing.selection import Candidate, RouteContext
from livemind.rag.base import FloatArray

CANDIDATES = [Candidate("coder", "coding", 1), Candidate("reserve", "general", 0)]
BUSY = "the sentence encoder is busy"


class Slow:
    """Answers when it is let, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.free = asyncio.Event()

    async def embed(self, text: str) -> FloatArray:
        return (await self.embed_layers(text))[: LAYERS // 2]

    async def embed_layers(self, text: str) -> FloatArray:
        self.asked += 1
        await self.free.wait()
        found = np.zeros(LAYERS, np.float32)
        found[0] = 1.0
        return found


LOADED = load_model()
DOUBTING = replace(LOADED, calibration=replace(LOADED.calibration, alone_at=1.1))
"""Its words never decide without the encoder."""


def doubtful(number: int) -> str:
    return f"when does the ferry number {number} leave for the island"


async def test_text_beyond_those_that_wait_is_judged_by_its_words_and_asked_again_later() -> None:
    encoder = Slow()
    router = Router(encoder, {}, CANDIDATES, "reserve", model=DOUBTING)
    await router.start()
    waiting = [asyncio.create_task(router.estimate(doubtful(n))) for n in range(MOST_ASKING)]
    await asyncio.sleep(0)
    assert encoder.asked == MOST_ASKING
    async with asyncio.timeout(5):
        hasty = await router.estimate(doubtful(1000))
    assert BUSY in hasty.reasons
    assert hasty.provisional
    assert encoder.asked == MOST_ASKING
    assert 0.0 < hasty.confidence < 1.0

    encoder.free.set()
    assert all(BUSY not in estimate.reasons for estimate in await asyncio.gather(*waiting))
    assert BUSY not in (await router.estimate(doubtful(1000))).reasons
    assert encoder.asked == MOST_ASKING + 1


async def test_committed_text_waits_for_the_encoder_however_busy() -> None:
    encoder = Slow()
    router = Router(encoder, {}, CANDIDATES, "reserve", model=DOUBTING)
    await router.start()
    texts = [doubtful(n) for n in range(MOST_ASKING + 1)]
    asked = [asyncio.create_task(router.estimate(t, RouteContext(committed=True))) for t in texts]
    await asyncio.sleep(0)
    assert encoder.asked == len(texts)
    encoder.free.set()
    assert not any(found.provisional for found in await asyncio.gather(*asked))


async def test_wait_that_is_given_up_makes_room_for_another() -> None:
    encoder = Slow()
    router = Router(encoder, {}, CANDIDATES, "reserve", model=DOUBTING)
    await router.start()
    waiting = [asyncio.create_task(router.estimate(doubtful(n))) for n in range(MOST_ASKING)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    last = asyncio.create_task(router.estimate(doubtful(1000)))
    await asyncio.sleep(0)
    assert encoder.asked == MOST_ASKING + 1
    encoder.free.set()
    assert BUSY not in (await last).reasons
    await asyncio.gather(*waiting[1:])
