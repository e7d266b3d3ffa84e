"""From one turn to its numbers, and from many to a distribution. Pure.

The formulas stand in docs/benchmarks.md. Unknown is None, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from ..figures.answer import Json
from .answer import Answer
from .stats import quantile
from .turns import Turn, misrouted

STAGES = ("route", "retrieval", "prefill", "draft")
_SENTENCE_END = re.compile(r"[.!?…](?=\s)|[。！？\n]")  # noqa: RUF001
_KEPT = {
    "route.updated": ("expert", "confidence", "stable"),
    "prefill.updated": ("expert", "tokens_ready", "tokens_total"),
    "draft.created": ("expert",),
    "draft.discarded": ("tokens", "reason"),
    "draft.adopted": ("tokens",),
    "expert.updated": ("expert", "state"),
}
"""Events of the timeline, and what of them it keeps."""


@dataclass(frozen=True, slots=True)
class Slo:
    """What a user will put up with, in milliseconds; None = no limit."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None

    @property
    def given(self) -> bool:
        """Whether there is a limit at all."""
        return self.ttft_ms is not None or self.tpot_ms is not None

    def met_by(self, turn: Json) -> bool:
        """Whether a turn, as the report keeps it, is in every limit; an unknown time is not."""
        if turn["outcome"] != "completed":
            return False
        limits = ((self.ttft_ms, turn["ttft_ms"]), (self.tpot_ms, turn["tpot_ms"]))
        return all(limit is None or (ms is not None and ms <= limit) for limit, ms in limits)


def arrivals_ms(answer: Answer) -> list[float]:
    """Return when each piece of text came, from the commit."""
    return [(at_s - answer.committed_s) * 1000.0 for at_s in answer.pieces_s if answer.committed_s]


def gaps_ms(turns: Iterable[Json]) -> list[float]:
    """Return the times between consecutive pieces of text of turns, as the report keeps them."""
    return [after - before for row in turns for before, after in pairwise(row["arrivals_ms"])]


def tpot_ms(answer: Answer) -> float | None:
    """Return the mean time per token after the first piece."""
    tokens = answer.completion_tokens
    if tokens is None or tokens < 2 or len(answer.pieces_s) < 2:
        return None
    return (answer.pieces_s[-1] - answer.pieces_s[0]) * 1000.0 / (tokens - 1)


def first_sentence_ms(answer: Answer) -> float | None:
    """Return when the first sentence was complete; None if the answer has no sentence."""
    found = _SENTENCE_END.search(f"{answer.text} ")
    if found is None:
        return None
    ends = accumulate(answer.sizes)
    number = next(n for n, end in enumerate(ends) if end >= found.end())
    return answer.after_commit_ms(answer.pieces_s[number])


def tokens_per_s(answer: Answer) -> float | None:
    """Return the length of the answer over the time from commit to its end."""
    if not answer.completion_tokens or not answer.e2e_ms:
        return None
    return answer.completion_tokens / answer.e2e_ms * 1000.0


def leads_ms(answer: Answer) -> dict[str, float | None]:
    """Return how long before the commit each stage was ready, on the server's clock."""
    timings = answer.timings or {}
    return {stage: timings.get(f"{stage}_lead_ms") for stage in STAGES}


def ledger_tokens(answer: Answer) -> dict[str, int | None]:
    """Return the tokens computed ahead, of prompts and drafts together."""
    ledger = answer.ledger or {}
    return {
        name: _sum(ledger.get(f"prefill_{name}"), ledger.get(f"draft_{name}"))
        for name in ("speculated", "adopted", "wasted")
    }


def row(case: str, block: int, expert_id: str, turn: Turn) -> Json:
    """Return one turn as the report keeps it."""
    answer = turn.answer
    inputs = sorted((*answer.keys_s, *answer.replaced_s))
    typing_ms = (inputs[-1] - inputs[0]) * 1000.0 if inputs else None
    adopted = [event["tokens"] for event in answer.of_type("draft.adopted")]
    retrieved = answer.of_type("retrieval.updated")
    return {
        "case": case,
        "block": block,
        "conversation": turn.conversation,
        "turn": turn.turn,
        "arm": turn.arm.id,
        "user": turn.user,
        "outcome": answer.outcome,
        "error": answer.error,
        "expert": answer.expert,
        "misrouted": misrouted(turn, expert_id),
        "verdict": None if answer.comparison is None else answer.comparison.verdict,
        "ttft_ms": answer.ttft_ms,
        "first_sentence_ms": first_sentence_ms(answer),
        "e2e_ms": answer.e2e_ms,
        "tpot_ms": tpot_ms(answer),
        "tokens_per_s": tokens_per_s(answer),
        "arrivals_ms": arrivals_ms(answer),
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "completion_tokens": answer.completion_tokens,
        "server_ttft_ms": answer.server_ttft_ms,
        "estimated_ttft_ms_without": (answer.timings or {}).get("estimated_ttft_ms_without"),
        "typed_chars": len(turn.text),
        "typing_ms": typing_ms,
        "think_ms": turn.think_s * 1000.0,
        "lead_ms": leads_ms(answer),
        "drafts": {
            "made": len(answer.of_type("draft.created")),
            "adopted_tokens": sum(adopted) if adopted else None,
            "discarded": len(answer.of_type("draft.discarded")),
            "verified": answer.verified_tokens,
        },
        "tokens": ledger_tokens(answer),
        "cost_multiplier": (answer.ledger or {}).get("cost_multiplier"),
        "documents": [passage["id"] for passage in retrieved[-1]["passages"]] if retrieved else [],
        "documents_used": answer.documents_used,
        "key_late_ms_max": max(answer.late_ms[:-1], default=None),
        "commit_late_ms": answer.late_ms[-1] if answer.late_ms else None,
        "timeline": timeline(answer),
    }


def timeline(answer: Answer) -> Json | None:
    """Return what happened when, in milliseconds from the commit; None without a commit."""
    start_s = answer.committed_s
    if start_s is None:
        return None
    events = [{"at_ms": 0.0, "type": "commit"}]
    for at_s, event in answer.events:
        kept = {name: event.get(name) for name in _KEPT.get(event["type"], ())}
        if event["type"] == "retrieval.updated":
            kept = {"passages": len(event["passages"]), "stable": event["stable"]}
        if kept:
            events.append({"at_ms": (at_s - start_s) * 1000.0, "type": event["type"], **kept})
    if answer.ttft_ms is not None:
        events.append({"at_ms": answer.ttft_ms, "type": "first_token"})
    if answer.e2e_ms is not None:
        events.append({"at_ms": answer.e2e_ms, "type": "done"})
    return {
        "keys_ms": [(at_s - start_s) * 1000.0 for at_s in answer.keys_s],
        "replaced_ms": [(at_s - start_s) * 1000.0 for at_s in answer.replaced_s],
        "events": sorted(events, key=lambda event: event["at_ms"]),
    }


def distribution(values: Iterable[float | None]) -> Json:
    """Return quantiles, mean and number of the known values; None where there is none."""
    known = [value for value in values if value is not None]
    levels = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    mean = sum(known) / len(known) if known else None
    return {
        **{name: quantile(known, level) for name, level in levels.items()},
        "mean": mean,
        "n": len(known),
    }


def total(values: Sequence[int | None]) -> int | None:
    """Return the sum of the known values; None without any."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _sum(one: int | None, other: int | None) -> int | None:
    return total((one, other))
