"""``livemind bench ttft --quick``: its interference cases and its own, shorter summary. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..figures.answer import Json, Number
from ..figures.measure import Slo, distribution, gaps_ms, row
from ..figures.stats import p50, p95, ratio
from ..figures.turns import Turn
from ..workload.plan import QUICK_ARMS
from .interference import Foreground, InterferenceResult
from .summary import arm_figures, figures_of

_KEYS = (
    "ttft.live_over_request_at_end.p50",
    "ttft.live_over_request_at_end.p95",
    "ttft.prefill_over_request_at_end.p50",
    "ttft.paste_over_request_at_end.p50",
    "ttft.identical_share",
    "ttft.identical_share_strict",
    "ttft.adopted_first_token_ms.p50",
    "ttft.adopted_share",
)


def interference_cases(results: Iterable[InterferenceResult]) -> list[Json]:
    """Return the report's part on running answers beside typing sessions."""
    return [_interference(one) for one in results]


def quick_summary(
    cases: Sequence[Json], turns: Sequence[Json], interference: Sequence[Json]
) -> dict[str, Number]:
    """Return the summary in the names of DESIGN §6.

    Keys of the random-weight expert have no suffix; ``ttft.identical_share`` covers all experts.
    """
    streams = {one["expert"]: one for one in interference}
    found = figures_of(cases, turns, _KEYS)
    for case in cases:
        typing = streams.get(case["expert"], {})
        found[f"itl.with_typing_over_without.p95{case['suffix']}"] = typing.get("gap_ratio_p95")
    return found


def _interference(result: InterferenceResult) -> Json:
    alone = [one for one in result.foregrounds if not one.typists]
    beside = [one for one in result.foregrounds if one.typists]
    quiet, busy = _stream(alone), _stream(beside)
    with_typing, without = _gaps(busy), _gaps(quiet)
    typists = [answer for one in beside for answer in one.typists]
    failed = sum(answer.error is not None for answer in typists)
    if failed:  # nobody, or not everybody, typed beside the stream
        with_typing = []
    return {
        "expert": result.expert.expert_id,
        "label": result.expert.label,
        "alone": quiet,
        "beside_typing": busy,
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
    streams = [row("interference", turn.conversation, expert, turn) for turn in turns]
    found = {**arm_figures(streams, Slo(), None), "streams": streams}
    return {**found, "gap_ms_max": max(_gaps(found), default=None)}


def _gaps(stream: Json) -> list[float]:
    """Return the times between consecutive pieces of every whole answer."""
    return gaps_ms(one for one in stream["streams"] if one["outcome"] == "completed")
