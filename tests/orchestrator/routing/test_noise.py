"""Noise goes to the default expert, without the encoder and before any language is seen in it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from livemind.orchestrator.routing.model import LAYERS, RouteModel, load_model
from livemind.orchestrator.routing.reading import is_latin
from livemind.orchestrator.routing.router import MEANS_NOTHING, MOST_ASKING, Router
from livemind.orchestrator.routing.selection import Candidate
from livemind.rag.base import FloatArray

CANDIDATES = [
    Candidate("coder", "coding", 1), Candidate("reserve", "general", 0),
    Candidate("polyglot", "multilingual", 0),
]  # fmt: skip


class Fixed:
    """Gives every text the same vector and counts them."""

    def __init__(self) -> None:
        self.asked = 0

    async def embed(self, text: str) -> FloatArray:
        return (await self.embed_layers(text))[: LAYERS // 2]

    async def embed_layers(self, text: str) -> FloatArray:
        self.asked += 1
        found = np.zeros(LAYERS, np.float32)
        found[0] = 1.0
        return found


def that_means(probability: float) -> RouteModel:
    """The shipped model, which finds this meaning in every text."""
    model = load_model()
    words = replace(model.words, outer=model.words.outer.copy(), direct=model.words.direct.copy())
    words.outer[:, -1] = words.direct[:, -1] = 0.0
    bias = words.bias.copy()
    bias[-1] = np.log(probability / (1 - probability))
    return replace(model, words=replace(words, bias=bias))


@pytest.mark.parametrize(
    ("meaning", "below", "is_noise"), [(0.2, 0.35, True), (0.5, 0.35, False), (0.2, 0.0, False)]
)
async def test_text_below_the_threshold_goes_to_the_default_expert(
    meaning: float, below: float, is_noise: bool
) -> None:
    embedding, model = Fixed(), that_means(meaning)
    router = Router(embedding, {}, CANDIDATES, "reserve", model=model, default_below=below)
    await router.start()
    estimate = await router.estimate("sort a python list in place")
    assert (MEANS_NOTHING in estimate.reasons) == is_noise
    assert estimate.expert == ("reserve" if is_noise else "coder")
    assert embedding.asked == 0


async def test_text_near_an_example_of_the_configuration_is_never_noise() -> None:
    examples = {"coding": ["x"], "general": ["y"]}
    router = Router(
        Fixed(), examples, CANDIDATES[:2], "reserve", model=that_means(0.01), default_below=0.35
    )
    await router.start()
    assert MEANS_NOTHING not in (await router.estimate("asdf")).reasons


@pytest.mark.parametrize("text", ["sdfkj wleri xcvmn", "hjkl hjkl", "wrpf zgrk tqv plmx"])
async def test_noise_is_no_foreign_language(text: str) -> None:
    router = Router(
        Fixed(), {}, CANDIDATES, "reserve", model=load_model(), default_below=0.35
    )  # fmt: skip
    await router.start()
    assert (await router.estimate(text)).expert == "reserve"


def test_is_latin_says_whether_all_letters_are() -> None:
    assert is_latin("¿qué tal, señor? Zażółć 5")
    assert not is_latin("asdf да")


def heard(by_words: float, by_both: float) -> RouteModel:
    """The shipped model of every language, which finds these meanings in every text."""
    model = load_model("multilingual-e5-small")
    both = replace(model.both, outer=model.both.outer.copy(), direct=model.both.direct.copy())
    both.outer[:, -1] = both.direct[:, -1] = 0.0
    bias = both.bias.copy()
    bias[-1] = np.log(by_both / (1 - by_both))
    return replace(model, words=that_means(by_words).words, both=replace(both, bias=bias))


@pytest.mark.parametrize(
    ("by_words", "by_both", "is_noise", "asked"),
    [(0.2, 0.1, True, 1), (0.2, 0.9, False, 1), (0.9, 0.1, False, 0)],
)
async def test_text_that_words_take_for_noise_is_judged_by_an_encoder_of_every_language(
    by_words: float, by_both: float, is_noise: bool, asked: int
) -> None:
    embedding, model = Fixed(), heard(by_words, by_both)
    router = Router(embedding, {}, CANDIDATES, "reserve", model=model, default_below=0.35)
    await router.start()
    for _ in range(2):  # the second time from the cache
        estimate = await router.estimate("sort a python list in place")
        assert (MEANS_NOTHING in estimate.reasons) == is_noise
        assert embedding.asked == asked


async def test_noise_while_the_encoder_is_busy_is_judged_again_later() -> None:
    class Slow(Fixed):
        free = asyncio.Event()

        async def embed_layers(self, text: str) -> FloatArray:
            await self.free.wait()
            return await super().embed_layers(text)

    embedding = Slow()
    router = Router(embedding, {}, CANDIDATES, "reserve", model=heard(0.2, 0.9), default_below=0.35)
    await router.start()
    texts = [f"sort list {n} in place" for n in range(MOST_ASKING + 1)]
    waiting = [asyncio.create_task(router.estimate(text)) for text in texts[:-1]]
    await asyncio.sleep(0)
    assert MEANS_NOTHING in (await router.estimate(texts[-1])).reasons
    embedding.free.set()
    await asyncio.gather(*waiting)
    assert MEANS_NOTHING not in (await router.estimate(texts[-1])).reasons
