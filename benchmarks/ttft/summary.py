"""From answers to numbers: cases for the report and the flat summary. Pure.

A ratio is paired: the arm's time over the reference's time of the same turn. Only completed answers
of the asked expert to prompts at least as long have one; the others are counted beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ..figures.answer import OUTCOMES, Answer
from ..figures.identity import VERDICTS, Verdict, identical_share
from ..figures.measure import (
    STAGES,
    Slo,
    distribution,
    first_sentence_ms,
    gaps_ms,
    leads_ms,
    ledger_tokens,
    row,
    tokens_per_s,
    total,
    tpot_ms,
)
from ..figures.stats import bootstrap, p50, ratio, share
from ..figures.turns import BlockResult, CaseResult, Turn, misrouted
from ..workload.arms import ARMS, REFERENCES, Arm

Json = dict[str, Any]
Number = float | None
Pair = tuple[Turn, Answer]
LESS_WORK = 0.05
"""A prompt that is shorter than the reference's by more than this share is not the same work.

A longer one is: what an arm puts into its prompt is its own cost."""
ALONE = "no other expert shares this one's tokenizer"


def report_cases(
    results: Iterable[CaseResult], slo: Slo, *, overlap: bool, seed: int
) -> list[Json]:
    """Return the report's cases."""
    return [_case(one, slo, overlap=overlap, seed=seed) for one in results]


def report_turns(results: Iterable[CaseResult]) -> list[Json]:
    """Return one row per turn, in the order of asking within each case."""
    return [
        row(one.case.name, block.block.index, one.case.expert.expert_id, turn)
        for one in results
        for block in one.blocks
        for turn in block.turns
    ]


def ablation_summary(cases: Sequence[Json]) -> dict[str, Number]:
    """Return the summary in the names of DESIGN §6: every arm over A and over L, per case.

    ``ttft.identical_share`` without a suffix covers all cases.
    """
    found: dict[str, Number] = {}
    for case in cases:
        suffix = case["suffix"]
        for reference in REFERENCES[:2]:
            for arm in ARMS:
                if arm == reference:
                    continue
                pair = case["pairs"].get(reference, {}).get(arm)
                for level in ("p50", "p95"):
                    key = f"ttft.{arm}_over_{reference}.{level}{suffix}"
                    found[key] = pair and pair["ratio"][level]
            draft = case["pairs"].get(reference, {}).get("E")
            key = f"ttft.E_adopted_over_{reference}.p50{suffix}"
            found[key] = draft and draft["ratio_adopted"]["p50"]
        for arm in ARMS:
            one = case["arms"].get(arm)
            for level in ("p50", "p95"):
                found[f"ttft.ms.{arm}.{level}{suffix}"] = one and one["ttft_ms"][level]
            if ARMS[arm].door == "live":
                multiplier = one and one["cost_multiplier"]
                found[f"waste.cost_multiplier.{arm}{suffix}"] = multiplier
        drafts = case["arms"].get("E")
        found[f"draft.adopted_share.E{suffix}"] = drafts and drafts["drafts"]["adopted_share"]
    found |= _identical(cases)
    found |= dict.fromkeys(("harness.error_ms.p50", "harness.error_ms.p99"))
    found["harness.vs_third_party.p50"] = None
    return found


def _identical(cases: Iterable[Json]) -> dict[str, Number]:
    """Return the share of identical answers, against the best reference that was asked."""
    counted: list[Verdict] = []
    for case in cases:
        for pairs in list(case["pairs"].values())[:1]:
            for pair in pairs.values():
                for verdict in VERDICTS:
                    counted += [verdict] * pair[verdict]
    return {
        "ttft.identical_share": identical_share(counted),
        "ttft.identical_share_strict": identical_share(counted, strict=True),
    }


def _case(result: CaseResult, slo: Slo, *, overlap: bool, seed: int) -> Json:
    case, blocks = result.case, result.blocks
    expert_id = case.expert.expert_id
    asked_for = dict.fromkeys(arm for block in blocks for arm in block.block.arms)
    arms = [arm for arm in asked_for if case.asks(arm)]
    order = [*ARMS, *(arm.id for arm in arms)]
    arms.sort(key=lambda arm: order.index(arm.id))
    asked = {arm: [t for b in blocks for t in b.turns if t.arm == arm] for arm in arms}
    spans = {
        arm: sum(b.spans_s.get(arm.id, 0.0) for b in blocks) if overlap else None for arm in arms
    }
    return {
        "name": case.name,
        "suffix": case.suffix,
        "expert": expert_id,
        "label": case.expert.label,
        "random_weights": case.expert.random_weights,
        "cadence": case.cadence,
        "documents_tokens": case.documents_tokens,
        "not_asked": {arm.id: ALONE for arm in asked_for if not case.asks(arm)},
        "arms": {arm.id: arm_figures(asked[arm], expert_id, slo, spans[arm]) for arm in arms},
        "pairs": {
            name: {
                arm.id: _pairs(blocks, name, arm, expert_id, seed) for arm in arms if arm.id != name
            }
            for name in REFERENCES
            if any(arm.id == name for arm in arms)
        },
    }


def arm_figures(turns: Sequence[Turn], expert_id: str, slo: Slo, span_s: float | None) -> Json:
    """Return the figures of one arm; ``span_s`` = time it took where turns overlap, else None."""
    answers = [turn.answer for turn in turns]
    done = [answer for answer in answers if answer.outcome == "completed"]
    outcomes = Counter(answer.outcome for answer in answers)
    good = sum(map(slo.met_by, answers)) if slo.given else None
    tokens = [ledger_tokens(answer) for answer in done]
    generated = total([answer.completion_tokens for answer in done])
    leads = [leads_ms(answer) for answer in done]
    adopted = sum(bool(answer.draft_adopted) for answer in done)
    return {
        "asked": len(turns),
        **{name: outcomes[name] for name in OUTCOMES},
        "misrouted": sum(misrouted(turn, expert_id) for turn in turns),
        "errors": sorted({answer.error for answer in answers if answer.error is not None}),
        "ttft_ms": distribution(answer.ttft_ms for answer in done),
        "first_sentence_ms": distribution(map(first_sentence_ms, done)),
        "itl_ms": distribution(gap for answer in done for gap in gaps_ms(answer)),
        "tpot_ms": distribution(map(tpot_ms, done)),
        "e2e_ms": distribution(answer.e2e_ms for answer in done),
        "tokens_per_s": distribution(map(tokens_per_s, done)),
        "server_ttft_ms": distribution(answer.server_ttft_ms for answer in done),
        "throughput_tokens_per_s": ratio(generated, span_s),
        "goodput_share": None if good is None else share(good, len(answers)),
        "goodput_per_s": None if good is None else ratio(good, span_s),
        "lead_ms": {stage: distribution(lead[stage] for lead in leads) for stage in STAGES},
        **_prompts(done),
        "drafts": {
            "made": sum(len(answer.of_type("draft.created")) for answer in done),
            "adopted": adopted,
            "discarded": sum(len(answer.of_type("draft.discarded")) for answer in done),
            "adopted_share": share(adopted, len(done)),
        },
        "tokens": {
            name: total([book[name] for book in tokens])
            for name in ("speculated", "adopted", "wasted")
        },
        "cost_multiplier": _cost(done),
    }


def _prompts(done: Sequence[Answer]) -> Json:
    cached = _known(answer.cached_tokens for answer in done)
    shares = (ratio(answer.cached_tokens, answer.prompt_tokens) for answer in done)
    return {
        "prompt_tokens_p50": p50(_known(answer.prompt_tokens for answer in done)),
        "cached_tokens_p50": p50(cached),
        "cached_tokens_max": max(cached, default=None),
        "cached_share_p50": p50(_known(shares)),
    }


def _cost(done: Iterable[Answer]) -> Number:
    """Return the tokens computed in all over those a plain server would have computed."""
    spent = plain = 0.0
    for answer in done:
        multiplier = (answer.ledger or {}).get("cost_multiplier")
        if multiplier is not None and answer.prompt_tokens is not None:
            alone = answer.prompt_tokens + (answer.completion_tokens or 0)
            spent, plain = spent + multiplier * alone, plain + alone
    return ratio(spent, plain)


def _pairs(
    blocks: Sequence[BlockResult], reference: str, arm: Arm, expert_id: str, seed: int
) -> Json:
    pairs = _completed(blocks, reference, arm)
    same = [p for p in pairs if not misrouted(p[0], expert_id) and _same_work(p[0].answer, p[1])]
    ratios: dict[bool, list[float]] = {True: [], False: []}
    for turn, base in same:
        value = ratio(turn.answer.ttft_ms, base.ttft_ms)
        if value is not None:
            ratios[bool(turn.answer.draft_adopted)].append(value)
    every = ratios[True] + ratios[False]
    compared = [(turn, turn.answer.comparison) for turn, _ in pairs if turn.answer.comparison]
    verdicts = Counter(comparison.verdict for _, comparison in compared)
    return {
        "pairs": len(pairs),
        "other_work": len(pairs) - len(same),
        "ratios": every,
        "ratio": distribution(every),
        "ratio_p50_ci95": bootstrap(every, p50, seed),
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


def _completed(blocks: Sequence[BlockResult], reference: str, arm: Arm) -> list[Pair]:
    """Return the turns of an arm with the reference's answer, where both are complete."""
    found = []
    for block in blocks:
        answers = block.answers()
        for turn in block.turns:
            base = answers.get((reference, turn.conversation, turn.turn))
            if turn.arm == arm and base and base.outcome == turn.answer.outcome == "completed":
                found.append((turn, base))
    return found


def _same_work(one: Answer, reference: Answer) -> bool:
    if one.prompt_tokens is None or reference.prompt_tokens is None:
        return True
    return one.prompt_tokens >= (1.0 - LESS_WORK) * reference.prompt_tokens


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
