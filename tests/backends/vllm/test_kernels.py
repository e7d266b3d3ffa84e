"""Kernels inside real engines: each expert's own choice reaches its own engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from livemind.backends.base import GenerationParams, Message, Priority
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert
from livemind.kernels import dispatch

pytest.importorskip("vllm")
if dispatch.isa() == "numpy":
    pytest.skip("the kernels were not compiled", allow_module_level=True)

QUESTION = [Message("user", "What is the capital of France?")]
LOGGED = "LiveMind kernels"


async def answers(folder: Path, expert_id: str, **settings: object) -> tuple[list[str], str]:
    """Return greedy and seeded sampled answers of one engine, and what it logged of kernels."""
    log = folder / f"{expert_id}.log"
    values = {"model_path": "zoo:fast", "verify_drafts": False, "engine_log": str(log), **settings}
    expert = VllmExpert(ExpertSpec(expert_id=expert_id, **values))  # type: ignore[arg-type]
    await expert.start()
    try:
        prompt = expert.render(QUESTION, open_turn=False)
        found: list[str] = []
        for params in (
            GenerationParams(max_tokens=16, temperature=0.0),
            GenerationParams(max_tokens=16, temperature=0.0, repetition_penalty=1.3),
            GenerationParams(max_tokens=16, temperature=1.5, top_p=0.9, top_k=40, seed=1),
            GenerationParams(max_tokens=16, temperature=1.5, min_p=0.02, seed=2),
        ):
            stream = expert.generate(
                prompt, params, priority=Priority.FOREGROUND, request_id=f"{expert_id}{len(found)}"
            )
            found.append("".join([chunk.text async for chunk in stream]))
    finally:
        await expert.stop()
    lines = log.read_text(encoding="utf-8").splitlines()
    return found, "".join(line.partition(LOGGED)[2] for line in lines if LOGGED in line)


@pytest.mark.slow
@pytest.mark.parametrize("formats", [{}, {"quantization": "q8", "dtype": "float32"}])
def test_engines_with_and_without_kernels_answer_the_same(
    tmp_path: Path, formats: dict[str, str]
) -> None:
    async def both() -> tuple[tuple[list[str], str], tuple[list[str], str]]:
        chosen = {"neon_optimizations": {"q4_linear": False}}
        return (
            await answers(tmp_path, "with", **chosen, **formats),
            await answers(tmp_path, "without", enable_neon=False, **formats),
        )

    (ours, said), (theirs, nothing) = asyncio.run(both())
    names = "sampling, penalties, rms_norm, fused_add_rms_norm, decoder_layer"
    assert said == f" ({dispatch.isa()}): {names}"
    assert nothing == ": off"
    assert all(len(answer) > 3 for answer in ours)
    assert ours == theirs
