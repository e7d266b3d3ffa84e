"""From answers to numbers: cases for the report and the flat summary. Pure.

A ratio is paired: the arm's time over the reference's time of the same block. Only completed
answers have times; the others are counted by outcome beside them. Unknown is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from .answer import Answer
from .identity import Comparison, Verdict, compare, identical_share
from .stats import bootstrap, p50, p95, quantile, ratio, share
from .ttft import ARMS, BASE, DRAFT, LIVE, PASTE, PREFILL, Block, ExpertResults, Foreground

Json = dict[str, Any]
Number = float | None


def summarize(results: Sequence[ExpertResults], seed: int) -> tuple[list[Json], dict[str, Number]]:
    """Return the report's cases and its summary in the names of DESIGN §6.

    Keys of the random-weight expert have no suffix; ``ttft.identical_share`` covers all experts.
    """
    cases: list[Json] = []
    summary: dict[str, Number] = {}
    verdicts: list[Verdict] = []
    for one in results:
        turns = _turns_case(one, seed)
        typing = _interference_case(one)
        cases += [turns, typing]
        pairs, suffix = turns["pairs"], one.case.suffix
        comparisons = [c for arm in ARMS for _, c in _compared(one.blocks, arm)]
        verdicts += [c.verdict for c in comparisons]
        summary |= {
            f"ttft.live_over_request_at_end.p50{suffix}": pairs[LIVE]["ratio_p50"],
            f"ttft.live_over_request_at_end.p95{suffix}": pairs[LIVE]["ratio_p95"],
            f"ttft.prefill_over_request_at_end.p50{suffix}": pairs[PREFILL]["ratio_p50"],
            f"ttft.paste_over_request_at_end.p50{suffix}": pairs[PASTE]["ratio_p50"],
            f"ttft.identical_share{suffix}": identical_share(c.verdict for c in comparisons),
            f"ttft.identical_share_strict{suffix}": identical_share(
                (c.verdict for c in comparisons), strict=True
            ),
            f"ttft.adopted_first_token_ms.p50{suffix}": turns["drafts"][DRAFT][
                "first_token_ms_p50"
            ],
            f"ttft.adopted_share{suffix}": turns["drafts"][DRAFT]["adopted_share"],
            f"itl.with_typing_over_without.p95{suffix}": typing["gap_ratio_p95"],
        }
    summary["ttft.identical_share"] = identical_share(verdicts)
    summary["ttft.identical_share_strict"] = identical_share(verdicts, strict=True)
    return cases, summary


def _turns_case(results: ExpertResults, seed: int) -> Json:
    blocks = results.blocks
    arms = {arm: [b.answers[arm] for b in blocks if arm in b.answers] for arm in (BASE, *ARMS)}
    return {
        "name": "turns",
        "expert": results.case.expert_id,
        "label": results.case.label,
        "random_weights": results.case.random_weights,
        "arms": {arm: _arm(answers) for arm, answers in arms.items()},
        "pairs": {arm: _pairs(blocks, arm, seed) for arm in ARMS},
        "drafts": {arm: _drafts(arms[arm]) for arm in (LIVE, DRAFT)},
        "turns": [
            {"turn": b.turn, "arm": arm, **_row(answer)}
            for b in blocks
            for arm, answer in b.answers.items()
        ],
    }


def _arm(answers: Sequence[Answer]) -> Json:
    done = [a for a in answers if a.outcome == "completed"]
    outcomes = Counter(a.outcome for a in answers)
    times = _known(a.ttft_ms for a in done)
    return {
        **{name: outcomes[name] for name in ("completed", "failed", "incomplete", "error")},
        "errors": sorted({a.error for a in answers if a.error is not None}),
        "ttft_ms_p50": p50(times),
        "ttft_ms_p95": p95(times),
        "total_ms_p50": p50(_known(a.total_ms for a in done)),
        "server_ttft_ms_p50": p50(_known(a.server_ttft_ms for a in done)),
        "prompt_tokens_p50": p50(_known(a.prompt_tokens for a in done)),
        "cached_tokens_p50": p50(_known(a.cached_tokens for a in done)),
        "cached_tokens_max": max(_known(a.cached_tokens for a in done), default=None),
        "key_late_ms_p99": quantile([ms for a in answers for ms in a.key_late_ms], 0.99),
    }


def _whole(blocks: Iterable[Block], arm: str) -> list[tuple[int, Answer, Answer]]:
    """Return (turn, reference, answer) of the blocks where both are complete."""
    found = []
    for block in blocks:
        base, other = block.answers.get(BASE), block.answers.get(arm)
        if base and other and base.outcome == other.outcome == "completed":
            found.append((block.turn, base, other))
    return found


def _compared(blocks: Iterable[Block], arm: str) -> list[tuple[int, Comparison]]:
    return [
        (turn, compare(base.text, other.text, base.explanation))
        for turn, base, other in _whole(blocks, arm)
    ]


def _pairs(blocks: Sequence[Block], arm: str, seed: int) -> Json:
    whole = _whole(blocks, arm)
    ratios = _known(ratio(other.ttft_ms, base.ttft_ms) for _, base, other in whole)
    compared = _compared(blocks, arm)
    verdicts = Counter(c.verdict for _, c in compared)
    return {
        "asked": sum(arm in block.answers for block in blocks),
        "ratios": ratios,
        "ratio_p50": p50(ratios),
        "ratio_p95": p95(ratios),
        "ratio_p50_ci95": bootstrap(ratios, p50, seed),
        "ratio_of_p50s": ratio(
            p50(_known(other.ttft_ms for _, _, other in whole)),
            p50(_known(base.ttft_ms for _, base, _ in whole)),
        ),
        **{verdict: verdicts[verdict] for verdict in ("identical", "tie", "different")},
        "differences": _differences(whole),
    }


def _differences(whole: Iterable[tuple[int, Answer, Answer]]) -> list[Json]:
    """Return what is needed to judge each pair of texts that are not equal."""
    found = []
    for turn, base, other in whole:
        comparison = compare(base.text, other.text, base.explanation)
        if comparison.verdict != "identical":
            again = None if base.explanation is None else base.explanation.text
            texts = {"reference": base.text, "text": other.text, "reference_again": again}
            found.append({"turn": turn, **asdict(comparison), **texts})
    return found


def _drafts(answers: Sequence[Answer]) -> Json:
    done = [a for a in answers if a.outcome == "completed"]
    adopted = [a for a in done if a.draft_adopted]
    return {
        "turns": len(done),
        "adopted_share": share(len(adopted), len(done)),
        "first_token_ms_p50": p50(_known(a.server_ttft_ms for a in adopted)),
        "client_first_token_ms_p50": p50(_known(a.ttft_ms for a in adopted)),
    }


def _interference_case(results: ExpertResults) -> Json:
    alone = [f for f in results.foregrounds if not f.typists]
    beside = [f for f in results.foregrounds if f.typists]
    gaps = {True: _gaps(beside), False: _gaps(alone)}
    typists = [t for f in beside for t in f.typists]
    return {
        "name": "interference",
        "expert": results.case.expert_id,
        "label": results.case.label,
        "random_weights": results.case.random_weights,
        "alone": _stream(alone),
        "beside_typing": _stream(beside),
        "gap_ratio_p50": ratio(p50(gaps[True]), p50(gaps[False])),
        "gap_ratio_p95": ratio(p95(gaps[True]), p95(gaps[False])),
        "gap_ratio_mean": ratio(_mean(gaps[True]), _mean(gaps[False])),
        "typists": len(typists),
        "typists_failed": sum(t.error is not None for t in typists),
        "typist_errors": sorted({t.error for t in typists if t.error is not None}),
        "typists_prefilled_tokens_p50": p50([float(t.prefilled_tokens or 0) for t in typists]),
    }


def _stream(foregrounds: Sequence[Foreground]) -> Json:
    gaps = _gaps(foregrounds)
    return {
        **_arm([f.answer for f in foregrounds]),
        "gap_ms_p50": p50(gaps),
        "gap_ms_p95": p95(gaps),
        "gap_ms_mean": _mean(gaps),
        "gap_ms_max": max(gaps, default=None),
        "streams": [
            {"pair": f.pair, "gap_ms_p95": p95(_gaps([f])), **_row(f.answer)} for f in foregrounds
        ],
    }


def _gaps(foregrounds: Iterable[Foreground]) -> list[float]:
    """Return the times between consecutive pieces of every whole stream."""
    done = [f.answer for f in foregrounds if f.answer.outcome == "completed"]
    return [after - before for a in done for before, after in pairwise(a.arrivals_ms)]


def _row(answer: Answer) -> Json:
    return {
        "outcome": answer.outcome,
        "error": answer.error,
        "ttft_ms": answer.ttft_ms,
        "total_ms": answer.total_ms,
        "server_ttft_ms": answer.server_ttft_ms,
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "pieces": len(answer.arrivals_ms),
        "draft_adopted": answer.draft_adopted,
        "key_late_ms_max": max(answer.key_late_ms, default=None),
        "timings": answer.timings,
        "ledger": answer.ledger,
    }


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> Number:
    return sum(values) / len(values) if values else None
