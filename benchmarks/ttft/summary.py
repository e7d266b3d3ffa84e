"""From turns to numbers: cases for the report and the flat summary. Pure.

Everything is computed from the rows that the report keeps. A ratio is paired: the arm's time over
the reference's time of the same turn. Only completed answers of the asked expert to prompts at
least as long have one; the others are counted beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from ..figures.answer import OUTCOMES, Json, Number
from ..figures.estimates import ci95
from ..figures.identity import VERDICTS
from ..figures.measure import STAGES, Slo, distribution, gaps_ms, row, total
from ..figures.stats import ratio, share
from ..figures.turns import CaseResult, Turn
from ..workload.arms import ARMS, REFERENCES
from ..workload.plan import FINAL_AT_END
from .samples import adopted, cost, paired, ratio_turns, same_work, samples, speech_samples
from .speech import summary_stem

ALONE = "no other expert shares this one's tokenizer"
_TIMES = ("ttft_ms", "first_sentence_ms", "tpot_ms", "e2e_ms", "tokens_per_s", "server_ttft_ms")


def report_cases(
    results: Iterable[CaseResult], slo: Slo, *, overlap: bool, seed: int
) -> list[Json]:
    """Return the report's cases."""
    return [_case(one, slo, overlap=overlap, seed=seed) for one in results]


def report_turns(results: Iterable[CaseResult]) -> list[Json]:
    """Return one row per turn, in the order of asking within each case."""
    return [told for one in results for _, told in _told(one)]


def ablation_summary(cases: Sequence[Json], turns: Sequence[Json]) -> dict[str, Number]:
    """Return the summary in the names of DESIGN §6: every arm over A and over L, per case.

    ``ttft.identical_share`` without a suffix covers all cases.
    """
    found = figures_of(cases, turns, list(_keys()))
    elsewhere = ("harness.error_ms.p50", "harness.error_ms.p99", "harness.vs_third_party.p50")
    return found | dict.fromkeys(elsewhere)


def figures_of(
    cases: Sequence[Json], turns: Sequence[Json], keys: Iterable[str]
) -> dict[str, Number]:
    """Return these keys of every case, and the share of identical answers of all cases."""
    behind = samples({"cases": cases, "turns": turns})
    names = [f"{key}{case['suffix']}" for case in cases for key in keys]
    names += ["ttft.identical_share", "ttft.identical_share_strict"]
    return {name: behind[name].value() if name in behind else None for name in names}


def speech_summary(cases: Sequence[Json]) -> dict[str, Number]:
    """Return the summary of recordings: ``ttft.speech.NAME.KEY``, with the commit's moment."""
    return {
        f"{summary_stem(case, arm)}.{key}": value
        for case in cases
        for arm, one in case["speech"].items()
        for key, value in one.items()
    }


def _keys() -> Iterator[str]:
    for reference in REFERENCES[:2]:
        for arm in ARMS:
            for level in ("p50", "p95") if arm != reference else ():
                yield f"ttft.{arm}_over_{reference}.{level}"
        yield f"ttft.E_adopted_over_{reference}.p50"
    for arm in ARMS:
        for level in ("p50", "p95"):
            yield f"ttft.ms.{arm}.{level}"
        if ARMS[arm].door == "live":
            yield f"waste.cost_multiplier.{arm}"
    yield "draft.adopted_share.E"


def _told(result: CaseResult) -> list[tuple[Turn, Json]]:
    """Return every turn of a case with its row."""
    name, expert_id = result.case.name, result.case.expert.expert_id
    return [
        (turn, row(name, block.block.index, expert_id, turn))
        for block in result.blocks
        for turn in block.turns
    ]


def _case(result: CaseResult, slo: Slo, *, overlap: bool, seed: int) -> Json:
    case, blocks, told = result.case, result.blocks, _told(result)
    asked_for = dict.fromkeys(arm for block in blocks for arm in block.block.arms)
    arms = [arm.id for arm in asked_for if case.asks(arm)]
    order = [*ARMS, *arms]
    arms.sort(key=order.index)
    spans = {arm: sum(b.spans_s.get(arm, 0.0) for b in blocks) if overlap else None for arm in arms}
    rows = [one for _, one in told]
    asked = {arm: [one for _, one in told if one["arm"] == arm] for arm in arms}
    return {
        "name": case.name,
        "suffix": case.suffix,
        "expert": case.expert.expert_id,
        "label": case.expert.label,
        "random_weights": case.expert.random_weights,
        "cadence": case.cadence,
        "documents_tokens": case.documents_tokens,
        "recorded": case.recorded,
        "speech": {
            arm: {key: one.value() for key, one in speech_samples(rows, arm).items()}
            for arm in arms
            if case.recorded and arm != FINAL_AT_END.id
        },
        "not_asked": {arm.id: ALONE for arm in asked_for if not case.asks(arm)},
        "arms": {arm: arm_figures(asked[arm], slo, spans[arm]) for arm in arms},
        "pairs": {
            name: {arm: _pairs(told, name, arm, seed) for arm in arms if arm != name}
            for name in REFERENCES
            if name in arms
        },
    }


def arm_figures(turns: Sequence[Json], slo: Slo, span_s: float | None) -> Json:
    """Return the figures of one arm; ``span_s`` = time it took where turns overlap, else None."""
    done = [one for one in turns if one["outcome"] == "completed"]
    outcomes = Counter(one["outcome"] for one in turns)
    good = sum(map(slo.met_by, turns)) if slo.given else None
    taken = sum(map(adopted, done))
    cached = [one["cached_tokens"] for one in done]
    prompts = [one["prompt_tokens"] for one in done]
    shares = [ratio(*both) for both in zip(cached, prompts, strict=True)]
    times = {name: distribution(one[name] for one in done) for name in _TIMES}
    return {
        "asked": len(turns),
        **{name: outcomes[name] for name in OUTCOMES},
        "misrouted": sum(one["misrouted"] for one in turns),
        "errors": sorted({one["error"] for one in turns if one["error"] is not None}),
        **times,
        "itl_ms": distribution(gaps_ms(done)),
        "throughput_tokens_per_s": ratio(total([one["completion_tokens"] for one in done]), span_s),
        "goodput_share": None if good is None else share(good, len(turns)),
        "goodput_per_s": None if good is None else ratio(good, span_s),
        "lead_ms": {stage: distribution(one["lead_ms"][stage] for one in done) for stage in STAGES},
        "prompt_tokens_p50": distribution(prompts)["p50"],
        "cached_tokens_p50": distribution(cached)["p50"],
        "cached_tokens_max": max((n for n in cached if n is not None), default=None),
        "cached_share_p50": distribution(shares)["p50"],
        "drafts": {
            "made": sum(one["drafts"]["made"] for one in done),
            "adopted": taken,
            "discarded": sum(one["drafts"]["discarded"] for one in done),
            "adopted_share": share(taken, len(done)),
        },
        "tokens": {
            name: total([one["tokens"][name] for one in done])
            for name in ("speculated", "adopted", "wasted")
        },
        "cost_multiplier": cost(done).value(),
    }


def _pairs(told: Sequence[tuple[Turn, Json]], reference: str, arm: str, seed: int) -> Json:
    rows = [one for _, one in told]
    pairs = paired(rows, arm, reference)
    ratios: dict[bool, list[float]] = {True: [], False: []}
    for one, value in ratio_turns(rows, arm, reference):
        ratios[adopted(one)].append(value)
    every = ratios[True] + ratios[False]
    kept = {id(one) for one, _ in pairs}
    compared = [
        (turn, turn.answer.comparison)
        for turn, one in told
        if id(one) in kept and turn.answer.comparison
    ]
    verdicts = Counter(comparison.verdict for _, comparison in compared)
    return {
        "pairs": len(pairs),
        "other_work": sum(not same_work(one, base) for one, base in pairs),
        "ratios": every,
        "ratio": distribution(every),
        "ratio_p50_ci95": ci95(every, seed),
        "ratio_adopted": distribution(ratios[True]),
        "ratio_not_adopted": distribution(ratios[False]),
        **{verdict: verdicts[verdict] for verdict in VERDICTS},
        "other_prompt": len(pairs) - len(compared),
        "differences": [
            {"conversation": t.conversation, "turn": t.turn, **asdict(c), "text": t.answer.text}
            for t, c in compared
            if c.verdict != "identical"
        ],
    }
