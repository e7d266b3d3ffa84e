"""One workload through every server in turn.

vLLM alone, LiteLLM before it, LiveMind before it, and LiveMind with its own engine, asked at once
and typed live. Every arm is asked the same question with the same documents, in an order drawn for
each question. The plain server and LiveMind's own engine have the same model and settings.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ..bench import BenchmarkFailed
from ..figures.answer import Answer, Json
from ..figures.estimates import ci95
from ..figures.measure import distribution
from ..figures.stats import p50, ratio
from ..harness.client import Client
from ..harness.doors import ChatDoor, Door, LiveDoor
from ..harness.experts import RANDOM, expert_config, prepare, served
from ..harness.server_process import running
from ..harness.vllm_server import plain_vllm
from ..harness.wire import Ask, Said
from ..workload.conversations import FILLER, conversation
from ..workload.typing_model import TypingModel
from .programs import LITELLM, Absent, Installed, installed, litellm_proxy, told
from .third_party import CHARS_PER_TOKEN, expert_spec

BASE = "vllm"
REMOTE = f"{RANDOM.expert_id}-remote"
ARMS: Mapping[str, str] = {
    BASE: "vLLM's OpenAI server",
    "litellm": "LiteLLM proxy before that server",
    "livemind-remote": "LiveMind before that server, request at end",
    "livemind": "LiveMind's own engine, request at end",
    "livemind-live": "LiveMind's own engine, typed live",
}


@dataclass(slots=True)
class PeersResult:
    """Answers by arm and question. Speeds in characters per minute."""

    seed: int
    questions: int = 8
    documents_tokens: int = 1500
    max_tokens: int = 16
    chars_per_minute: float = 600.0
    litellm: Installed | Absent | None = None
    answers: dict[str, dict[int, Answer]] = field(default_factory=lambda: {arm: {} for arm in ARMS})

    def steps(self) -> int:
        """Return how many questions are asked."""
        return self.questions * len(ARMS)


async def measure(
    result: PeersResult, folder: Path, say: Callable[[str | None, int], None]
) -> None:
    """Fill ``result``.

    Raises:
        BenchmarkFailed: a server did not start.
    """
    result.litellm = await installed(LITELLM, lambda text: say(text, 0))
    await prepare([RANDOM])
    async with AsyncExitStack() as stack:
        doors = await _doors(result, stack, folder, say)
        rng = random.Random(result.seed)
        done = 0
        for number in range(-1, result.questions):  # the first one warms up and does not count
            for arm in rng.sample(list(doors), len(doors)):
                say(f"peers: question {number + 1}, {arm}", done)
                answer = await _ask(result, arm, doors[arm], number)
                if number >= 0:
                    result.answers[arm][number] = answer
                    done += 1
                elif answer.outcome != "completed":
                    raise BenchmarkFailed(f"{arm}: {answer.outcome}: {answer.error}")


async def _doors(
    result: PeersResult,
    stack: AsyncExitStack,
    folder: Path,
    say: Callable[[str | None, int], None],
) -> dict[str, tuple[Door, str]]:
    """Return door and model name of every arm that can be had."""
    say("starting vLLM's server", 0)
    vllm = await stack.enter_async_context(plain_vllm(expert_spec(), folder / "vllm-peer.log"))
    remote = {"expert_id": REMOTE, "kind": "remote", "base_urls": [vllm], "model": RANDOM.expert_id}
    config = served([expert_config(RANDOM), remote])
    say("starting LiveMind", 0)
    own = await stack.enter_async_context(running(config, folder, folder / "livemind-peer.log"))

    async def client(url: str, key: str | None = None) -> Client:
        return await stack.enter_async_context(Client(url, api_key=key))

    mind = await client(own)
    doors: dict[str, tuple[Door, str]] = {
        BASE: (ChatDoor(await client(vllm), "text"), RANDOM.expert_id),
        "livemind-remote": (ChatDoor(mind, "text"), REMOTE),
        "livemind": (ChatDoor(mind, "text"), RANDOM.expert_id),
        "livemind-live": (LiveDoor(mind), RANDOM.expert_id),
    }
    if isinstance(result.litellm, Installed):
        say("starting LiteLLM", 0)
        key = f"sk-{secrets.token_hex(16)}"
        models = {RANDOM.expert_id: (vllm, RANDOM.expert_id)}
        proxy = litellm_proxy(result.litellm, models, key, folder)
        url = await stack.enter_async_context(proxy)
        doors["litellm"] = (ChatDoor(await client(url, key), "text"), RANDOM.expert_id)
    return doors


async def _ask(result: PeersResult, arm: str, via: tuple[Door, str], number: int) -> Answer:
    door, model = via
    chars = int(result.documents_tokens * CHARS_PER_TOKEN)
    talk = conversation(FILLER, result.seed, number, chars, 1)
    ask = Ask(
        model,
        secrets.token_hex(8),
        result.max_tokens,
        ignore_eos=True,
        documents=talk.documents,
        speculation="draft" if arm == "livemind-live" else "off",
    )
    rng = random.Random(f"{result.seed}|{number}|keys")
    typing = TypingModel(result.chars_per_minute)
    keys = typing.keys(talk.questions[0], rng)
    said = Said(talk.questions[0], keys, typing.think_s(rng))
    async with door.conversation(ask) as asked:
        return await asked.turn(said)


def summary(result: PeersResult) -> dict[str, float | None]:
    """Return the median over questions of each arm's TTFT over plain vLLM's."""
    return {f"peers.{arm}_over_vllm.p50": p50(_ratios(result, arm)) for arm in ARMS if arm != BASE}


def report(result: PeersResult) -> Json:
    """Return the report's part on the peers."""
    return {
        "questions": result.questions,
        "documents_tokens": result.documents_tokens,
        "max_tokens": result.max_tokens,
        "chars_per_minute": result.chars_per_minute,
        **told(result.litellm),
        "arms": {arm: _arm(result, arm) for arm in ARMS},
        "turns": [
            {
                "arm": arm,
                "question": number,
                "outcome": answer.outcome,
                "error": answer.error,
                "ttft_ms": answer.ttft_ms,
                "e2e_ms": answer.e2e_ms,
                "prompt_tokens": answer.prompt_tokens,
                "cached_tokens": answer.cached_tokens,
            }
            for arm, answers in result.answers.items()
            for number, answer in answers.items()
        ],
    }


def _arm(result: PeersResult, arm: str) -> Json:
    answers = list(result.answers[arm].values())
    ttft = list(_times(result, arm).values())
    ratios = _ratios(result, arm)
    return {
        "title": ARMS[arm],
        "asked": len(answers),
        "completed": sum(answer.outcome == "completed" for answer in answers),
        "ttft_ms": distribution(ttft),
        "ratio_p50": p50(ratios),
        "ratio_p50_ci95": ci95(ratios, result.seed),
    }


def _times(result: PeersResult, arm: str) -> dict[int, float]:
    return {
        number: answer.ttft_ms
        for number, answer in result.answers[arm].items()
        if answer.outcome == "completed" and answer.ttft_ms is not None
    }


def _ratios(result: PeersResult, arm: str) -> list[float]:
    """Return TTFT over plain vLLM's, question by question."""
    base = _times(result, BASE)
    found = (ratio(ms, base.get(number)) for number, ms in _times(result, arm).items())
    return [value for value in found if value is not None]
