"""How well a lowest cosine parts questions with an answering passage from questions without one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from ...orchestrator.cli.config_and_zoo import HANDBOOK
from ...rag.encoder.kinds import MINILM, EncoderKind, min_score
from ..figures.answer import Json, Number
from ..figures.stats import share
from .questions import load_questions

QUESTIONS = Path(__file__).parents[1] / "data" / "retrieval_threshold.jsonl"


async def threshold() -> tuple[Json, dict[str, Number]]:
    """Return the best cosine of every question, and what the default threshold makes of them."""
    return await asyncio.to_thread(lambda: measure(MINILM))


def measure(kind: EncoderKind) -> tuple[Json, dict[str, Number]]:
    """Return the same for an encoder: over the sample handbook and the benchmark's own passages."""
    rows = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines()]
    vectors = kind.passages().embed(passages())
    asked = kind.questions().embed([row["question"] for row in rows])
    best = (asked @ vectors.T).max(axis=1)
    limit = min_score(kind.name)
    cases = [
        {"question": row["question"], "answered": row["answered"], "cosine": float(cosine)}
        for row, cosine in zip(rows, best, strict=True)
    ]
    kept = [case["cosine"] >= limit for case in cases if case["answered"]]
    out = [case["cosine"] < limit for case in cases if not case["answered"]]
    return (
        {"encoder": kind.name, "min_score": limit, "questions": cases},
        {
            "answers.threshold.answered_kept_share": share(sum(kept), len(kept)),
            "answers.threshold.unanswered_left_out_share": share(sum(out), len(out)),
        },
    )


def passages() -> list[str]:
    """Return the handbook's sections, and the English passages that are pasted otherwise."""
    sections = [
        f"{title}\n{body.strip()}"
        for path in sorted(HANDBOOK.glob("*.md"))
        for title, _, body in (
            part.partition("\n") for part in path.read_text("utf-8").split("## ")
        )
        if body.strip()
    ]
    return sections + [one.passage for one in load_questions() if one.part == "passage"]
