"""Noise goes to the default expert, without the encoder and before any language is seen in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from livemind.orchestrator.routing.model import LAYERS, RouteModel, load_model
from livemind.orchestrator.routing.reading import is_latin
from livemind.orchestrator.routing.router import MEANS_NOTHING, Router
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
