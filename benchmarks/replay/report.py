"""What LiveMind would have saved: recorded turns live and at once, in numbers and in words."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..workload.recordings import Utterance
from .play import Asked

SCHEMA = "livemind.replay/1"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One turn through both arms."""

    turn: Utterance
    live: Asked
    at_once: Asked

    @property
    def complete(self) -> bool:
        """Whether both were answered."""
        return self.live.ttft_ms is not None and self.at_once.ttft_ms is not None


def summary(turns: Sequence[Replayed]) -> dict[str, float | int | None]:
    """Return flat figures; None = not known. Turns that failed in one arm count as failed alone."""
    both = [one for one in turns if one.complete]
    live = [one.live.ttft_ms for one in both if one.live.ttft_ms is not None]
    cold = [one.at_once.ttft_ms for one in both if one.at_once.ttft_ms is not None]
    ratios = [a / b for a, b in zip(live, cold, strict=True)]
    ledgers = [one.live.done.ledger for one in both if one.live.done is not None]
    costs = [it.cost_multiplier for it in ledgers if it.cost_multiplier is not None]
    return {
        "replay.turns": len(turns),
        "replay.failed": len(turns) - len(both),
        "replay.live_ttft_ms.p50": _median(live),
        "replay.at_once_ttft_ms.p50": _median(cold),
        "replay.live_over_at_once.p50": _median(ratios),
        "replay.saved_ms": sum(cold) - sum(live) if both else None,
        "replay.adopted_drafts": sum(it.draft_adopted > 0 for it in ledgers),
        "replay.same_answers": sum(one.live.text == one.at_once.text for one in both),
        "replay.cost_multiplier.mean": statistics.fmean(costs) if costs else None,
    }


def rows(turns: Sequence[Replayed]) -> list[dict[str, object]]:
    """Return one JSON-ready row for each turn; no texts."""
    return [
        {
            "id": one.turn.id,
            "typed_ms": one.turn.partials[-1].at_s * 1000 if one.turn.partials else 0.0,
            "characters": len(one.turn.text),
            "live_ttft_ms": one.live.ttft_ms,
            "at_once_ttft_ms": one.at_once.ttft_ms,
            "expert": one.live.done.expert if one.live.done else None,
            "same_answer": one.live.text == one.at_once.text if one.complete else None,
            "error": one.live.error or one.at_once.error,
        }
        for one in turns
    ]


def lines(figures: dict[str, float | int | None]) -> Iterator[str]:
    """Yield the report for people."""
    turns, failed = figures["replay.turns"], figures["replay.failed"]
    yield f"{turns} turns replayed" + (f", {failed} not answered" if failed else "")
    saved, ratio = figures["replay.saved_ms"], figures["replay.live_over_at_once.p50"]
    if saved is None or ratio is None:
        yield "no turn was answered both ways: nothing can be said"
        return
    live, cold = figures["replay.live_ttft_ms.p50"], figures["replay.at_once_ttft_ms.p50"]
    yield f"first word after Enter: {live:.1f} ms as typed, {cold:.1f} ms asked at once (medians)"
    yield f"the wait as a share: {ratio:.3f} (median of the turns' ratios)"
    answered = int(turns or 0) - int(failed or 0)
    verb = "saved you" if saved >= 0 else "cost you"
    each = abs(saved) / max(answered, 1)
    yield f"LiveMind would have {verb} {abs(saved) / 1000:.2f} s, {each:.0f} ms a turn"
    cost = figures["replay.cost_multiplier.mean"]
    told = "" if cost is None else f", tokens computed: {cost:.2f} times as many"
    yield (
        f"drafts adopted in {figures['replay.adopted_drafts']} turns, the same answer in "
        f"{figures['replay.same_answers']}{told}"
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
