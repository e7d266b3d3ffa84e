"""Texts go to the expert whose examples are nearest."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
import pytest

from livemind.orchestrator.routing.dataset import DOMAINS
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.routing.language import held_against, ranked
from livemind.orchestrator.routing.model import LAYERS, load_model
from livemind.orchestrator.routing.prose import prose
from livemind.orchestrator.routing.router import LEAST_COSINE, Router
from livemind.orchestrator.routing.scorer import NEARNESS_ALONE
from livemind.orchestrator.routing.selection import Candidate, RouteContext
from livemind.orchestrator.routing.signals import HARD_LANGUAGE_NATS
from livemind.rag.base import FloatArray
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker

EAST, NORTH, UP = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
CANDIDATES = (Candidate("coder", "coding", 0), Candidate("poet", "general", 0))
NAMES = {"east": EAST, "north": NORTH, "up": UP}


class Compass:
    """Embeds known words as given directions; fails on demand."""

    def __init__(self, **more: Sequence[float]) -> None:
        self.known = {**NAMES, **more}
        self.error: Exception | None = None

    async def embed(self, text: str) -> FloatArray:
        if self.error is not None:
            raise self.error
        vector = np.array(self.known[text], np.float32)
        return vector / np.float32(np.linalg.norm(vector))

    async def embed_layers(self, text: str) -> FloatArray:
        return await self.embed(text)


async def started(
    embedding: Compass | None,
    examples: Mapping[str, Sequence[str]] | None = None,
    candidates: Sequence[Candidate] = CANDIDATES,
    default: str = "poet",
) -> Router:
    examples = examples or {"coding": ["east"], "general": ["north"]}
    router = Router(embedding, examples, candidates, default)
    await router.start()
    return router


@pytest.mark.parametrize(
    ("text", "expert", "domain"), [("east", "coder", "coding"), ("north", "poet", "general")]
)
async def test_text_goes_to_the_expert_of_the_nearest_examples(
    text: str, expert: str, domain: str
) -> None:
    estimate = await (await started(Compass())).estimate(text)
    assert (estimate.expert, estimate.domain) == (expert, domain)
    assert estimate.confidence > 0.99


async def test_alternatives_are_the_other_experts_with_what_is_left_of_the_probability() -> None:
    estimate = await (await started(Compass(between=(1.0, 0.95, 0.0)))).estimate("between")
    [(other, probability)] = estimate.alternatives
    assert (estimate.expert, other) == ("coder", "poet")
    assert estimate.confidence + probability == pytest.approx(1.0, abs=2e-4)
    assert 0.5 < estimate.confidence < 0.9


async def test_three_experts_are_ranked_by_nearness() -> None:
    candidates = (*CANDIDATES, Candidate("judge", "law", 0))
    examples = {"coding": ["east"], "general": ["north"], "law": ["up"]}
    router = await started(Compass(mostly=(0.9, 0.1, 0.5)), examples, candidates)
    estimate = await router.estimate("mostly")
    assert estimate.expert == "coder"
    assert [name for name, _ in estimate.alternatives] == ["judge", "poet"]


async def test_confidence_is_a_softmax_of_the_cosines() -> None:
    estimate = await (await started(Compass(between=(1.0, 0.95, 0.0)))).estimate("between")
    gap = (1.0 - 0.95) / math.hypot(1.0, 0.95)
    assert estimate.confidence == pytest.approx(1 / (1 + math.exp(-gap * NEARNESS_ALONE)), abs=1e-3)


async def test_only_the_nearest_examples_of_a_domain_count() -> None:
    examples = {"coding": ["east", "east", "east", "up", "up", "up"], "general": ["near"]}
    router = await started(Compass(near=(1.0, 0.6, 0.0)), examples)
    assert (await router.estimate("east")).expert == "coder"


@pytest.mark.parametrize("swapped", [False, True])
async def test_tie_is_decided_alike_whatever_the_order_of_the_domains(swapped: bool) -> None:
    pairs = [("coding", ["east"]), ("general", ["north"])]
    examples = dict(reversed(pairs) if swapped else pairs)
    estimate = await (await started(Compass(even=(1.0, 1.0, 0.0)), examples)).estimate("even")
    assert (estimate.domain, estimate.confidence) == ("coding", 0.5)


async def test_best_priority_of_a_domain_wins() -> None:
    candidates = (Candidate("old", "coding", 1), Candidate("new", "coding", 2), *CANDIDATES)
    assert (await (await started(Compass(), None, candidates)).estimate("east")).expert == "new"


async def test_domain_without_examples_is_never_chosen() -> None:
    candidates = (*CANDIDATES, Candidate("judge", "law", 9))
    estimate = await (await started(Compass(), None, candidates)).estimate("up")
    assert "judge" not in [estimate.expert, *(name for name, _ in estimate.alternatives)]


@pytest.mark.parametrize("text", ["", "  \n"])
async def test_empty_text_goes_to_the_default_expert(text: str) -> None:
    compass = Compass(**{text: NORTH})
    estimate = await (await started(compass, default="coder")).estimate(text)
    assert estimate == RouteEstimate("coder", "coding", 0.0, reasons=("empty text",))


async def test_missing_encoder_routes_to_the_default_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        router = await started(None)
        estimates = [await router.estimate(text) for text in ("east", "north")]
    assert estimates == [RouteEstimate("poet", "general", 0.0)] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_failing_encoder_routes_to_the_default_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    compass = Compass()
    router = await started(compass)
    compass.error = RuntimeError("secret text")
    with caplog.at_level(logging.WARNING):
        estimates = [await router.estimate("east") for _ in range(3)]
    assert {estimate.expert for estimate in estimates} == {"poet"}
    assert len(caplog.records) == 1
    assert "secret text" not in caplog.text


async def test_encoder_that_recovers_routes_again() -> None:
    compass = Compass()
    router = await started(compass)
    compass.error = RuntimeError()
    await router.estimate("east")
    compass.error = None
    assert (await router.estimate("east")).expert == "coder"


async def test_encoder_failing_on_the_examples_leaves_no_half_of_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        router = await started(Compass(), {"coding": ["east"], "general": ["unknown"]})
        assert (await router.estimate("east")).confidence == 0.0
    assert len(caplog.records) == 1


class Crowded(Compass):
    """Refuses more than 256 texts at a time, as the encoder does."""

    running = 0

    async def embed(self, text: str) -> FloatArray:
        if self.running >= 256:
            raise RuntimeError("too many texts")
        self.running += 1
        await asyncio.sleep(0)
        self.running -= 1
        return await super().embed(text)


async def test_more_examples_than_the_encoder_takes_at_a_time_are_all_learned() -> None:
    examples = {"coding": ["east"] * 300, "general": ["north"] * 300}
    router = await started(Crowded(), examples)
    assert (await router.estimate("east")).expert == "coder"


@pytest.fixture
async def crowded() -> AsyncIterator[tuple[Router, FakeEmbedder, RouteEstimate]]:
    """A router, its encoder, and the route of a text that came when the queue was full."""
    encoder = FakeEmbedder()
    worker = EmbedWorker(encoder, max_queue=4, max_batch=1)
    router = Router(worker, {"coding": ["write code"], "general": ["tell me"]}, CANDIDATES, "poet")
    await router.start()
    encoder.gate.clear()
    waiting = [asyncio.create_task(router.estimate(f"write code {n}")) for n in range(5)]
    await asyncio.sleep(0)
    late = await router.estimate("write code late")
    encoder.gate.set()
    assert {estimate.expert for estimate in await asyncio.gather(*waiting)} == {"coder"}
    yield router, encoder, late
    await worker.aclose()


async def test_route_made_while_the_encoders_queue_is_full_does_not_say_that_it_failed(
    crowded: tuple[Router, FakeEmbedder, RouteEstimate],
) -> None:
    assert "the sentence encoder failed" not in crowded[2].reasons


async def test_failing_encoder_after_a_full_queue_is_still_warned_of(
    crowded: tuple[Router, FakeEmbedder, RouteEstimate], caplog: pytest.LogCaptureFixture
) -> None:
    router, encoder, _ = crowded
    encoder.error = RuntimeError("broken")
    with caplog.at_level(logging.WARNING):
        assert (await router.estimate("write more code")).confidence == 0.0
    assert any("encoder failed" in record.getMessage() for record in caplog.records)


async def test_vector_that_is_not_finite_routes_to_the_default_expert() -> None:
    router = await started(Compass(lost=(math.nan, 0.0, 0.0)))
    found = await router.estimate("lost")
    assert (found.expert, found.confidence) == ("poet", 0.0)
    assert found.reasons == ("the sentence encoder failed",)


@pytest.mark.parametrize(("east", "expert"), [(LEAST_COSINE + 0.01, "coder"), (0.14, "poet")])
async def test_text_like_no_example_goes_to_the_default_expert(east: float, expert: str) -> None:
    text = Compass(text=(east, 0.0, math.sqrt(1 - east**2)))
    assert (await (await started(text)).estimate("text")).expert == expert


# ---- hard signals, ties, conversations ----------------------------------------------------------


async def test_images_go_to_an_expert_that_takes_them() -> None:
    candidates = (*CANDIDATES, Candidate("eye", "multimodal", 0, images=True))
    router = await started(Compass(), None, candidates)
    found = await router.estimate("east", RouteContext(images=1))
    assert (found.expert, found.reasons) == ("eye", ("images",))


async def test_images_that_no_expert_takes_are_named() -> None:
    found = await (await started(Compass())).estimate("east", RouteContext(images=1))
    assert found.reasons == ("images, which no expert takes",)


async def test_prompt_too_long_for_an_expert_goes_to_one_that_it_fits() -> None:
    candidates = (Candidate("coder", "coding", 0, max_model_len=100), CANDIDATES[1])
    found = await (await started(Compass(), None, candidates)).estimate(
        "east", RouteContext(tokens_before=100)
    )
    assert found.expert == "poet"
    assert found.reasons == ("about 101 tokens",)


async def test_prompt_that_fits_no_expert_goes_to_the_longest() -> None:
    candidates = (
        Candidate("coder", "coding", 0, max_model_len=100),
        Candidate("poet", "general", 0, max_model_len=50),
    )
    found = await (await started(Compass(), None, candidates)).estimate(
        "north", RouteContext(tokens_before=200)
    )
    assert found.expert == "coder"
    assert found.reasons == ("about 201 tokens, which fit no expert",)


@pytest.mark.parametrize(
    ("second", "expert"),
    [(Candidate("b", "coding", 0, cost=0.5), "b"), (Candidate("b", "coding", 0, cost=2.0), "a")],
    ids=["cheaper", "dearer"],
)
async def test_equal_priority_is_decided_by_cost(second: Candidate, expert: str) -> None:
    candidates = (Candidate("a", "coding", 0), second, CANDIDATES[1])
    assert (await (await started(Compass(), None, candidates)).estimate("east")).expert == expert


async def test_equal_cost_is_decided_by_load() -> None:
    candidates = (Candidate("a", "coding", 0), Candidate("b", "coding", 0), CANDIDATES[1])
    examples = {"coding": ["east"], "general": ["north"]}
    router = Router(
        Compass(), examples, candidates, "poet", load=lambda name: 0.5 if name == "a" else 0.1
    )
    await router.start()
    assert (await router.estimate("east")).expert == "b"


@pytest.mark.parametrize(("lost_s", "expert"), [(0.0, "coder"), (4.0, "poet")])
async def test_conversation_leaves_its_expert_only_for_more_than_the_price(
    lost_s: float, expert: str
) -> None:
    router = await started(Compass(between=(1.0, 0.95, 0.0)))
    found = await router.estimate("between", RouteContext(current="poet", lost_s=lost_s))
    assert found.expert == expert


async def test_text_without_words_stays_with_the_conversations_expert() -> None:
    found = await (await started(Compass())).estimate("👍", RouteContext(current="coder"))
    assert found == RouteEstimate("coder", "coding", 0.0, reasons=("no words",))


async def test_second_estimate_of_a_text_comes_from_the_cache() -> None:
    compass = Compass()
    router = await started(compass)
    first = await router.estimate("east")
    compass.error = RuntimeError()
    assert await router.estimate("east") == first
    assert (router.stats().hits, router.stats().misses, router.stats().cached) == (1, 1, 1)


async def test_second_estimate_from_the_cache_gives_the_same_reasons() -> None:
    router = await started(Compass())
    first = await router.estimate("\x01east")
    assert first.reasons == ("control characters ignored",)
    assert await router.estimate("\x01east") == first
    assert router.stats().hits == 1


READERS = (
    Candidate("english", "coding", 1, languages=("en",)),
    Candidate("russian", "coding", 0, languages=("ru",)),
    Candidate("poet", "general", 0),
)


class Anywhere:
    """Gives every text a direction between the two domains, nearer to coding."""

    async def embed(self, text: str) -> FloatArray:
        vector = np.array((0.0, 1.0) if text == "north" else (1.0, 0.1), np.float32)
        return vector / np.float32(np.linalg.norm(vector))

    embed_layers = embed


@pytest.mark.parametrize(
    ("text", "expert"),
    [
        ("How do I reverse a list in this language?", "english"),
        ("Как развернуть список в этом языке программирования?", "russian"),
        ("What is wrong here? `имя = список[::-1]`", "english"),
        ('Why does it print "Как развернуть список в этом языке" twice?', "english"),
        ("Wie drehe ich eine Liste in dieser Sprache um, und warum?", "english"),  # nobody reads it
    ],
)
async def test_text_goes_to_an_expert_of_the_domain_that_reads_its_language(
    text: str, expert: str
) -> None:
    pytest.importorskip("py3langid")
    examples = {"coding": ["east"], "general": ["north"]}
    router = Router(Anywhere(), examples, READERS, "poet", languages=("en",))
    await router.start()
    assert (await router.estimate(text)).expert == expert
    assert (await router.estimate(text)).expert == expert  # from the cache


async def test_text_in_a_language_of_one_expert_alone_goes_there_surely() -> None:
    pytest.importorskip("py3langid")
    candidates = (
        Candidate("english", "coding", 1, languages=("en",)),
        Candidate("poet", "general", 0, languages=("en", "ru")),
    )
    router = Router(Anywhere(), {"coding": ["east"], "general": ["north"]}, candidates, "english")
    await router.start()
    estimate = await router.estimate("Как развернуть список в этом языке программирования?")
    assert estimate.expert == "poet"
    assert "language: ru" in estimate.reasons


class Nothing:
    """Tells the classifier nothing."""

    async def embed(self, text: str) -> FloatArray:
        return np.full(LAYERS, LAYERS**-0.5, np.float32)

    embed_layers = embed


async def shipped() -> Router:
    candidates = [Candidate(domain, domain, 0) for domain in DOMAINS]
    router = Router(Nothing(), {}, candidates, "general", model=load_model())
    await router.start()
    return router


@pytest.mark.parametrize(
    "text",
    [
        "dishwasher",
        "how do i center",
        "mi coche no",
        "eh sí hola",
        "Nov 12 03:14:07 gw kernel: eth0:",
    ],
)
async def test_text_too_short_to_tell_its_language_is_never_stable(text: str) -> None:
    pytest.importorskip("py3langid")
    router = await shipped()
    assert held_against(ranked(prose(text)), ("en", "es")).margin >= HARD_LANGUAGE_NATS
    estimate = await router.estimate(text)
    assert not estimate.stable
    assert estimate.final is not None
    assert estimate.final < 0.9


@pytest.mark.parametrize(
    "text",
    [
        "Где находится ближайшая аптека?",
        "一番近い駅はどこですか",
        "wo finde ich hier eine Apotheke",
    ],
)
async def test_text_surely_in_another_language_is_stable(text: str) -> None:
    pytest.importorskip("py3langid")
    router = await shipped()
    estimate = await router.estimate(text)
    assert (estimate.domain, estimate.stable) == ("multilingual", True)


@pytest.mark.parametrize(
    "text", ['print("Привет,', "what does «добрый день", "was it „nochmal von vorne"]
)
async def test_text_with_an_open_quote_is_not_of_the_language_that_it_quotes(text: str) -> None:
    pytest.importorskip("py3langid")
    router = await shipped()
    assert not [reason for reason in (await router.estimate(text)).reasons if "language" in reason]
