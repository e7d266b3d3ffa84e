"""``livemind bench ttft --quick``: its interference cases and its own, shorter summary. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..figures.identity import Verdict, identical_share
from ..figures.measure import Slo, distribution, gaps_ms, row
from ..figures.stats import p50, p95, ratio
from ..figures.turns import CaseResult, Turn
from ..workload.plan import DRAFT, LIVE, PASTE, PREFILL, QUICK_ARMS, REQUEST_AT_END
from .interference import Foreground, InterferenceResult
from .summary import Json, Number, arm_figures

_NONE = Slo()


def interference_cases(results: Iterable[InterferenceResult]) -> list[Json]:
    """Return the report's part on running answers beside typing sessions."""
    return [_interference(one) for one in results]


def quick_summary(
    results: Sequence[CaseResult], cases: Sequence[Json], interference: Sequence[Json]
) -> dict[str, Number]:
    """Return the summary in the names of DESIGN §6.

    Keys of the random-weight expert have no suffix; ``ttft.identical_share`` covers all experts.
    """
    found: dict[str, Number] = {}
    every: list[Verdict] = []
    streams = {one["expert"]: one for one in interference}
    for result, case in zip(results, cases, strict=True):
        suffix, pairs = case["suffix"], case["pairs"].get(REQUEST_AT_END.id, {})
        verdicts = [
            turn.answer.comparison.verdict
            for block in result.blocks
            for turn in block.turns
            if turn.answer.comparison is not None
        ]
        every += verdicts
        drafted = [
            turn.answer
            for block in result.blocks
            for turn in block.turns
            if turn.arm.id == DRAFT.id and turn.answer.outcome == "completed"
        ]
        adopted = [answer.server_ttft_ms for answer in drafted if answer.draft_adopted]
        typing = streams.get(case["expert"], {})
        found |= {
            f"ttft.live_over_request_at_end.p50{suffix}": _level(pairs, LIVE.id, "p50"),
            f"ttft.live_over_request_at_end.p95{suffix}": _level(pairs, LIVE.id, "p95"),
            f"ttft.prefill_over_request_at_end.p50{suffix}": _level(pairs, PREFILL.id, "p50"),
            f"ttft.paste_over_request_at_end.p50{suffix}": _level(pairs, PASTE.id, "p50"),
            f"ttft.identical_share{suffix}": identical_share(verdicts),
            f"ttft.identical_share_strict{suffix}": identical_share(verdicts, strict=True),
            f"ttft.adopted_first_token_ms.p50{suffix}": distribution(adopted)["p50"],
            f"ttft.adopted_share{suffix}": ratio(len(adopted), len(drafted)),
            f"itl.with_typing_over_without.p95{suffix}": typing.get("gap_ratio_p95"),
        }
    found["ttft.identical_share"] = identical_share(every)
    found["ttft.identical_share_strict"] = identical_share(every, strict=True)
    return found


def _level(pairs: Json, arm: str, level: str) -> Number:
    value: Number = pairs[arm]["ratio"][level] if arm in pairs else None
    return value


def _interference(result: InterferenceResult) -> Json:
    alone = [one for one in result.foregrounds if not one.typists]
    beside = [one for one in result.foregrounds if one.typists]
    with_typing, without = _gaps(beside), _gaps(alone)
    typists = [answer for one in beside for answer in one.typists]
    failed = sum(answer.error is not None for answer in typists)
    if failed:  # nobody, or not everybody, typed beside the stream
        with_typing = []
    return {
        "expert": result.expert.expert_id,
        "label": result.expert.label,
        "alone": _stream(alone),
        "beside_typing": _stream(beside),
        "gap_ratio_p50": ratio(p50(with_typing), p50(without)),
        "gap_ratio_p95": ratio(p95(with_typing), p95(without)),
        "gap_ratio_mean": ratio(distribution(with_typing)["mean"], distribution(without)["mean"]),
        "typists": len(typists),
        "typists_failed": failed,
        "typist_errors": sorted({a.error for a in typists if a.error is not None}),
        "typists_prefilled_tokens_p50": p50([float(a.prefilled_tokens or 0) for a in typists]),
    }


def _stream(foregrounds: Sequence[Foreground]) -> Json:
    turns = [Turn(QUICK_ARMS[0], one.pair, 0, 0, "", 0.0, one.answer) for one in foregrounds]
    expert = turns[0].answer.expert or "" if turns else ""
    gaps = _gaps(foregrounds)
    return {
        **arm_figures(turns, expert, _NONE, None),
        "gap_ms_max": max(gaps, default=None),
        "streams": [row("interference", turn.conversation, expert, turn) for turn in turns],
    }


def _gaps(foregrounds: Iterable[Foreground]) -> list[float]:
    """Return the times between consecutive pieces of every whole stream."""
    done = [one.answer for one in foregrounds if one.answer.outcome == "completed"]
    return [gap for answer in done for gap in gaps_ms(answer)]
