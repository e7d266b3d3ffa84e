"""From rows to the report's cases and its flat summary. Pure.

Differences and ratios are paired: the same question in both arms. Failed turns count as wrong and
have no times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..figures.answer import Json, Number
from ..figures.estimates import ci95
from ..figures.measure import distribution
from ..figures.stats import mean, ratio, share
from ..harness.experts import FAST
from .accuracy import best_single
from .draft_summary import draft_summary, identical, mix, pairs
from .model_questions import MODEL_SETS
from .plan import POLICIES
from .questions import SETS
from .rows import Row

ARMS = {
    "fast": "fast expert alone",
    "strong": "the domain's expert alone",
    "single": "best single expert, by validation",
    "samples": "best single, as many samples as experts",
    "first": "first: the routed expert alone",
    "draft": "draft",
    "verify": "verify",
    "vote": "vote",
    "oracle": "any expert right",
}
_OF_ARMS: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "accuracy.routed_right": ("accuracy_routed_right",),
    **{f"accuracy.{kind}": ("accuracy_by_set", kind) for kind in (*SETS, *MODEL_SETS)},
    "ttft_ms.p50": ("ttft_ms", "p50"),
    "ttft_ms.p95": ("ttft_ms", "p95"),
    "completion_ms.p50": ("completion_ms", "p50"),
    **{name: (name,) for name in ("tokens_per_shown", "deadline_share", "abstained_share")},
    "accuracy_minus_single": ("minus_single",),
    "accuracy_minus_single.routed_right": ("minus_single_routed_right",),
}
"""End of a summary key of every arm -> where the number stands in the arm's figures."""
JUDGES = "quorum"
MISROUTED = "out_of_domain"


def arms_of(rows: Iterable[Row]) -> dict[str, dict[int, Row]]:
    """Return the measured turns of ``accuracy`` by arm and question, without the oracle.

    ``fast``, ``strong``, ``single`` and ``first`` are turns of an expert alone: which one, follows
    from question and validation.
    """
    rows = list(rows)
    single = best_single(rows)
    asked: dict[int, dict[str, Row]] = {}
    for one in rows:
        if one.part == "accuracy":
            asked.setdefault(one.question, {})[one.arm] = one
    found: dict[str, dict[int, Row]] = {arm: {} for arm in ARMS if arm != "oracle"}
    for number, turns in asked.items():
        some = next(iter(turns.values()))
        who = {
            "fast": FAST,
            "strong": some.domain,
            "single": single.get(some.leader, some.leader),
            "first": some.leader,
        }
        for arm, by_question in found.items():
            turn = turns.get(f"alone.{who[arm]}" if arm in who else arm)
            if turn is not None:
                by_question[number] = turn
    return found


def cases(rows: Sequence[Row], seed: int) -> list[Json]:
    """Return one case per part that has rows."""
    makers: dict[str, Callable[[Sequence[Row], int], Json]] = {
        "accuracy": _accuracy,
        "identical": identical,
        "pairs": pairs,
        "mix": mix,
        "typed": _typed,
    }
    found = []
    for part, make in makers.items():
        if any(one.part == part for one in rows):
            found.append({"name": part, **make(rows, seed)})
    return found


def summary(cases: Iterable[Json]) -> dict[str, Number]:
    """Return the summary in the names of DESIGN §6; None for what was not measured."""
    parts = {case["name"]: case for case in cases}
    arms, typed = (parts.get(name, {}).get("arms", {}) for name in ("accuracy", "typed"))
    found: dict[str, Number] = {}
    for arm in ARMS:
        for name, path in _OF_ARMS.items():
            has_no_times = arm == "oracle" and not name.startswith("accuracy")
            is_minus_itself = "minus_single" in name and arm in ("single", "oracle")
            if not has_no_times and not is_minus_itself:
                found[f"consensus.{arm}.{name}"] = _at(arms, arm, *path)
    for name in ("accepted_share", "wrong_given_accepted", "wrong_given_taken_over"):
        found[f"consensus.verify.{name}"] = _at(arms, "verify", "verdicts", name)
    found |= draft_summary(parts)
    for arm in POLICIES:
        for level in ("p50", "p95"):
            found[f"consensus.{arm}.typed_ttft_ms.{level}"] = _at(typed, arm, "ttft_ms", level)
    settled = "settled_before_commit_share"
    return {**found, f"consensus.vote.{settled}": _at(typed, "vote", settled)}


def _at(where: Json, *path: str) -> Number:
    """Return the number at a place of nested objects; None when there is none."""
    found: Any = where
    for name in path:
        found = (found or {}).get(name)
    return found  # type: ignore[no-any-return]


# ---- accuracy


def _accuracy(rows: Sequence[Row], seed: int) -> Json:
    arms = arms_of(rows)
    found = {arm: _figures(list(turns.values()), seed) for arm, turns in arms.items()}
    for arm, turns in arms.items():
        gains = _gains(turns, arms["single"])
        routed = [gain for number, gain in gains.items() if turns[number].set != MISROUTED]
        found[arm] |= {
            "minus_single": mean(list(gains.values())),
            "minus_single_ci95": ci95(list(gains.values()), seed, "mean"),
            "minus_single_routed_right": mean(routed),
            "minus_single_routed_right_ci95": ci95(routed, seed, "mean"),
        }
    found["verify"]["verdicts"] = _verdicts(list(arms["verify"].values()))
    found["oracle"] = _oracle(rows, seed)
    return {"single": best_single(rows), "arms": found}


def _gains(turns: Mapping[int, Row], base: Mapping[int, Row]) -> dict[int, float]:
    """Return by question 1 where only this arm was right, -1 where only the base was, else 0."""
    both = sorted(turns.keys() & base.keys())
    return {n: float(turns[n].right is True) - float(base[n].right is True) for n in both}


def _figures(turns: Sequence[Row], seed: int) -> Json:
    done = [one for one in turns if one.completed]
    shown = sum(one.shown_tokens or 0 for one in done)
    generated = sum(one.generated_tokens or 0 for one in done)
    return {
        "asked": len(turns),
        "completed": len(done),
        "errors": sorted({one.error for one in turns if one.error is not None}),
        **_right(turns, seed),
        "ttft_ms": _times((one.ttft_ms for one in done), seed),
        "completion_ms": _times((one.total_ms for one in done), seed),
        "tokens_per_shown": ratio(generated, shown),
        "deadline_share": share(sum("deadline" in one.settled_by for one in done), len(done)),
        "abstained_share": share(sum(bool(one.abstained) for one in done), len(done)),
    }


def _right(turns: Sequence[Row], seed: int) -> Json:
    groups = {
        "accuracy": list(turns),
        "accuracy_routed_right": [one for one in turns if one.set != MISROUTED],
        "accuracy_routed_wrong": [one for one in turns if one.set == MISROUTED],
    }
    found: Json = {}
    for name, some in groups.items():
        values = [float(one.right is True) for one in some]
        found |= {name: mean(values), f"{name}_ci95": ci95(values, seed, "mean")}
    by_set = {
        kind: mean([float(one.right is True) for one in turns if one.set == kind])
        for kind in (*SETS, *MODEL_SETS)
    }
    return {**found, "accuracy_by_set": by_set}


def _oracle(rows: Sequence[Row], seed: int) -> Json:
    """Return how often at least one expert alone was right."""
    best: dict[int, Row] = {}
    for one in rows:
        if one.part == "accuracy" and one.arm.startswith("alone."):
            kept = best.get(one.question)
            if kept is None or (one.right and not kept.right):
                best[one.question] = one
    return {"asked": len(best), **_right(list(best.values()), seed)}


def _verdicts(turns: Sequence[Row]) -> Json:
    """Return what became of the fast expert's words: accepted to the end, or taken over."""
    done = [one for one in turns if one.completed]
    accepted = [one for one in done if one.authors == (FAST,)]
    taken_over = [one for one in done if one.authors != (FAST,)]
    judged = [one for one in accepted if JUDGES in one.settled_by]
    return {
        "accepted": len(accepted),
        "accepted_after_waiting": len(judged),
        "taken_over": len(taken_over),
        "accepted_share": share(len(accepted), len(done)),
        "wrong_given_accepted": share(sum(not one.right for one in accepted), len(accepted)),
        "wrong_given_taken_over": share(sum(not one.right for one in taken_over), len(taken_over)),
    }


# ---- typed


def _typed(rows: Sequence[Row], seed: int) -> Json:
    found = {}
    for arm in POLICIES:
        turns = [one for one in rows if (one.part, one.arm) == ("typed", arm)]
        before = [one.before_commit is True for one in turns if one.completed]
        settled = share(sum(before), len(before))
        found[arm] = {**_figures(turns, seed), "settled_before_commit_share": settled}
    return {"arms": found}


# ---- of all


def _times(values: Iterable[Number], seed: int) -> Json:
    known = [value for value in values if value is not None]
    return {**distribution(known), "p50_ci95": ci95(known, seed)}
