"""llama.cpp's server as a remote expert: what of the head start it gives (docs/experts.md)."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

import pytest

from livemind import LiveMind
from livemind.backends.base import GenerationParams
from livemind.benchmarks.cpu.engines import LlamaCpp
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.events import DraftAdopted, ResponseDone, ResponseTextDelta
from livemind.orchestrator.turn.values import Mode

pytestmark = [
    pytest.mark.engines,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
]

BIRDS = ("Kestrel", "Falcon", "Condor", "Heron", "Osprey", "Merlin", "Harrier", "Buzzard", "Eagle")
KEY_S, PAUSE_S = 0.05, 2.0
QUESTIONS = 6
GREEDY = GenerationParams(temperature=0.0, max_tokens=20)


@dataclass
class Seen:
    """What came of one turn."""

    text: str
    done: ResponseDone
    adopted: bool


@asynccontextmanager
async def mind_of(llama: LlamaCpp) -> AsyncIterator[LiveMind]:
    expert = {
        "expert_id": "llama",
        "kind": "remote",
        "base_urls": [llama.url],
        "model": "local",
        "domain": "general",
        "max_model_len": 2048,
    }
    settings = Settings.model_validate({"experts": [expert], "rag": {"enabled": False}})
    async with LiveMind(settings) as mind:
        yield mind


def told(number: int) -> tuple[str, str]:
    """Return documents that no other turn has, and a question about them."""
    draw = Random(number)
    birds = draw.sample(BIRDS, len(BIRDS))
    facts = [
        f"The {bird} unit of plant {number} listens on port {draw.randrange(2000, 9000)} and "
        f"weighs {draw.randrange(3, 90)} kilograms."
        for bird in birds
    ]
    return " ".join(facts), f"What is the port of the {draw.choice(birds)} unit?"


async def turn(mind: LiveMind, number: int, mode: Mode) -> Seen:
    facts, question = told(number)
    text, done, adopted = "", None, False
    async with mind.session(
        instructions=f"Answer in one short sentence. {facts}", speculation=mode, params=GREEDY
    ) as session:
        if mode != "off":
            for end in range(1, len(question) + 1):
                session.replace(question[:end])
                await asyncio.sleep(KEY_S)
            await asyncio.sleep(PAUSE_S)
        async for event in session.commit(question):
            match event:
                case ResponseTextDelta():
                    text += event.delta
                case DraftAdopted():
                    adopted = True
                case ResponseDone():
                    done = event
    assert done is not None
    assert done.status == "completed", done.error
    return Seen(text, done, adopted)


async def test_llama_cpp_prefills_and_drafts_while_the_question_is_typed(llama: LlamaCpp) -> None:
    first_ms: dict[Mode, list[float]] = {"off": [], "prefill": [], "draft": []}
    same = 0
    async with mind_of(llama) as mind:
        for number in range(QUESTIONS):
            # each way has documents of its own: this server keeps no caches apart
            texts = []
            for place, mode in enumerate(first_ms):
                seen = await turn(mind, 10 * number + place, mode)
                again = await turn(mind, 10 * number + place, "off")
                texts.append((seen.text, again.text))
                assert seen.done.timings.ttft_ms is not None
                first_ms[mode].append(seen.done.timings.ttft_ms)
                usage = seen.done.usage
                assert usage is not None
                assert usage.cached_tokens is not None
                if mode == "off":
                    continue
                assert usage.cached_tokens >= 0.8 * usage.prompt_tokens
                assert seen.adopted == (mode == "draft")
            same += all(one == other for one, other in texts)
    medians = {mode: round(statistics.median(found), 1) for mode, found in first_ms.items()}
    print(f"first text after the commit, ms: {medians}; same text in {same} of {QUESTIONS}")
    assert medians["prefill"] <= 0.5 * medians["off"]
    assert medians["draft"] <= 0.1 * medians["off"]
    # a prompt that llama.cpp has cached in part may give other numbers than one computed whole
    assert same >= 0.6 * QUESTIONS


async def test_llama_cpp_answers_several_at_a_time_and_lets_go_of_a_cancelled_one(
    llama: LlamaCpp,
) -> None:
    async with mind_of(llama) as mind:
        several = await asyncio.gather(*(turn(mind, 100 + n, "draft") for n in range(4)))
        assert all(seen.text for seen in several)
        facts, question = told(200)
        async with mind.session(
            instructions=facts, speculation="off", params=GenerationParams(max_tokens=400)
        ) as session:
            session.request_commit(question)
            while not isinstance(await session.next_event(), ResponseTextDelta):
                pass
            session.request_commit("What weighs most?", params=GREEDY)
            ends: list[str] = []
            while len(ends) < 2:
                event = await session.next_event()
                if isinstance(event, ResponseDone):
                    ends.append(event.status)
            assert ends == ["cancelled", "completed"]
