"""Consensus of two embedded experts on real vLLM engines: one conversation per policy."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from livemind import GenerationParams, LiveMind, Message, Settings
from livemind.backends.zoo.data import Example, examples
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.events import ResponseDone, ResponseTextDelta

pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]
GREEDY = GenerationParams(max_tokens=40, temperature=0.0)
QUESTIONS = 3


def engine(name: str) -> dict[str, Any]:
    return {
        "expert_id": name,
        "model_path": f"zoo:{name}",
        "domain": "all" if name == "fast" else name,
        "dtype": "float32",
        "max_model_len": 1024,
        "kv_cache_gib": 0.1,
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mind() -> AsyncIterator[LiveMind]:
    settings = Settings.model_validate(
        {
            "experts": [engine("fast"), engine("technical")],
            "lazy_loading": {"enabled": False, "memory_threshold": 1.0},
            "router": {"fast_expert": "fast"},
        }
    )
    async with LiveMind.from_config(settings) as mind:
        yield mind


def held_out() -> list[Example]:
    asked = (e for e in examples("technical", "held_out", 5) if e.messages[-1]["role"] == "user")
    return list(itertools.islice(asked, QUESTIONS))


async def turn(
    mind: LiveMind, example: Example, consensus: Any, typed: str = ""
) -> tuple[str, ResponseDone]:
    """Answer the example's last question; with ``typed``, after a pause behind that text."""
    messages = [Message(m["role"], m["content"]) for m in example.messages]  # type: ignore[arg-type]
    question = messages.pop().content
    system = messages.pop(0).content if messages and messages[0].role == "system" else None
    text, done = "", None
    async with mind.session(
        model="technical",
        instructions=system,
        history=messages,
        params=GREEDY,
        consensus=consensus,
    ) as session:
        if typed:
            session.replace(typed)
            await asyncio.sleep(0.8)
        async for event in session.commit(question):
            if isinstance(event, ResponseTextDelta):
                text += event.delta
            elif isinstance(event, ResponseDone):
                done = event
    assert done is not None
    assert done.status == "completed"
    return text, done


async def test_policies_on_real_engines_settle_the_answer_of_the_expert_alone(
    mind: LiveMind,
) -> None:
    compare = Consensus("verify", gate="every", verdict="continue")
    accepted = spans = agreed = 0
    for example in held_out():
        alone, _ = await turn(mind, example, "first")
        near = example.messages[-1]["content"].rstrip("?.")[:-1]
        drafted, done = await turn(mind, example, "draft", near)
        assert drafted == alone
        assert done.consensus is not None
        accepted += done.consensus.drafted_tokens_accepted or 0
        verified, done = await turn(mind, example, compare)
        assert verified == alone
        assert done.consensus is not None
        spans += done.consensus.spans[0].author == "fast"
        voted, done = await turn(mind, example, "vote", example.messages[-1]["content"])
        assert done.consensus is not None
        (span,) = done.consensus.spans
        assert span.before_commit
        assert done.ledger.draft_adopted > 0
        agreed += voted == alone
    assert accepted > QUESTIONS  # drafts of the shortened questions were of use
    assert spans > 0  # the fast expert wrote what the specialist would have written
    assert agreed >= QUESTIONS - 1


async def test_vote_without_the_routed_engine_is_settled_by_the_other(mind: LiveMind) -> None:
    import os
    import signal

    pool = mind._running().pool
    expert: Any = pool.ready("technical")
    for process in expert.process_ids():
        os.kill(process, signal.SIGKILL)
    text, done = await turn(mind, held_out()[0], Consensus("vote", deadline_s=5.0))
    assert text
    assert done.consensus is not None
    assert done.consensus.spans[0].author == "fast"
    assert [entry.expert for entry in done.consensus.abstained] == ["technical"]
