"""What the report says of drafts: how much sooner answers end with one, in the same words.

Pure. Ratios are paired: the same question, the same text before the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ..figures.answer import Json, Number
from ..figures.estimates import ci95
from ..figures.identity import VERDICTS, Verdict, identical_share
from ..figures.measure import distribution
from ..figures.stats import p50, ratio, share
from .mix import ARMS, CADENCES
from .rows import Row

Found = Literal["answer", "guess", "nothing"]
FOUND: tuple[Found, ...] = ("answer", "guess", "nothing")
"""What of a draft there was at the commit: the answer or its beginning, a guess at it, nothing."""


def draft_summary(parts: Mapping[str, Json]) -> dict[str, Number]:
    """Return the summary of the cases, None for what was not measured."""
    texts, times, typed = (parts.get(name, {}) for name in ("identical", "pairs", "mix"))
    key = "consensus.draft.completion_speedup"
    return {
        "consensus.draft.identical_share": texts.get("identical_share"),
        "consensus.draft.identical_share_strict": texts.get("identical_share_strict"),
        "consensus.draft.identical_turns": texts.get("compared"),
        f"{key}.p50": _middle(typed, "alone"),
        f"{key}.over_first": _middle(typed, "first"),
        f"{key}.pause": _middle(times, "pause"),
        f"{key}.unmarked": _middle(times, "right"),
        f"{key}.right": _middle(times, "all_accepted"),
        f"{key}.wrong": _middle(times, "wrong"),
        "consensus.draft.accepted_token_share": times.get("accepted_token_share"),
    }


def _middle(case: Json, kind: str) -> Number:
    found: Number = case.get("speedup", {}).get(kind, {}).get("p50")
    return found


def identical(rows: Sequence[Row], seed: int) -> Json:
    """Return how many texts were compared, and what came of it."""
    turns = [one for one in rows if one.part == "identical"]
    return {
        "asked": len(turns),
        **_verdicts(turns),
        "with_accepted_tokens": sum(bool(one.accepted_tokens) for one in turns),
        "with_rejected_tokens": sum(bool(one.rejected_tokens) for one in turns),
    }


def _verdicts(turns: Sequence[Row]) -> Json:
    verdicts: list[Verdict] = [one.verdict for one in turns if one.verdict is not None]
    return {
        "compared": len(verdicts),
        **{verdict: verdicts.count(verdict) for verdict in VERDICTS},
        "identical_share": identical_share(verdicts),
        "identical_share_strict": identical_share(verdicts, strict=True),
    }


def pairs(rows: Sequence[Row], seed: int) -> Json:
    """Return the time without over that with a draft, by what stood there before the question."""
    turns = [one for one in rows if one.part == "pairs"]
    alone = {(one.question, one.kind): one for one in turns if one.arm == "first"}
    speedups: dict[str, list[float]] = {}
    drafted = [one for one in turns if one.arm == "draft" and one.completed]
    for one in drafted:
        gain = _gain(alone.get((one.question, one.kind)), one)
        if gain is None:
            continue
        kinds = [str(one.kind)]
        if one.accepted_tokens and not one.rejected_tokens and one.kind != "wrong":
            kinds.append("all_accepted")
        for kind in kinds:
            speedups.setdefault(kind, []).append(gain)
    accepted = sum(one.accepted_tokens or 0 for one in drafted)
    rejected = sum(one.rejected_tokens or 0 for one in drafted)
    return {
        "speedup": {kind: _spread(values, seed) for kind, values in speedups.items()},
        "accepted_token_share": share(accepted, accepted + rejected),
        "shown_tokens_p50": p50([float(one.shown_tokens or 0) for one in drafted]),
        "arms": {
            arm: {
                kind: distribution(
                    one.total_ms for one in turns if (one.arm, one.kind) == (arm, kind)
                )
                for kind in ("right", "pause", "wrong")
            }
            for arm in ("first", "draft")
        },
    }


def mix(rows: Sequence[Row], seed: int) -> Json:
    """Return the same of typed questions: all of them, by what was there at the commit, by typist.

    ``of_sums``: all the time that was waited without, over all with drafts.
    """
    turns = [one for one in rows if one.part == "mix"]
    drafted = [one for one in turns if one.arm == "draft"]
    by_arm = {arm: {one.question: one for one in turns if one.arm == arm} for arm in ARMS}

    def speedups(some: Sequence[Row]) -> Json:
        told: Json = {}
        for base in ARMS[:-1]:
            both = [(by_arm[base].get(one.question), one) for one in some]
            paired = [(a, b, gain) for a, b in both if (gain := _gain(a, b)) is not None]
            told[base] = {
                **_spread([gain for _, _, gain in paired], seed),
                "of_sums": ratio(
                    sum(a.total_ms or 0.0 for a, _, _ in paired if a is not None),
                    sum(b.total_ms or 0.0 for _, b, _ in paired),
                ),
            }
        return told

    return {
        "asked": len(drafted),
        "speedup": speedups(drafted),
        "found": {
            name: {"share": share(len(some), len(drafted)), "speedup": speedups(some)}
            for name in FOUND
            if (some := [one for one in drafted if _found(one) == name])
        },
        "typists": {
            kind: speedups(some)
            for kind in CADENCES
            if (some := [one for one in drafted if one.kind == kind])
        },
        "arms": {
            arm: distribution(one.total_ms for one in by_question.values())
            for arm, by_question in by_arm.items()
        },
        "texts": _verdicts([one for one in turns if one.arm != "alone"]),
    }


def _found(drafted: Row) -> Found:
    if drafted.before_commit:
        return "answer"
    return "guess" if drafted.accepted_tokens is not None else "nothing"


def _gain(base: Row | None, one: Row) -> Number:
    """Return how many times longer the base took; None where an answer is not whole."""
    if base is None or not base.completed or not one.completed:
        return None
    if not base.total_ms or not one.total_ms:
        return None
    return base.total_ms / one.total_ms


def _spread(values: Sequence[float], seed: int) -> Json:
    found = distribution(values)
    ordered = sorted(values)
    return {
        **found,
        "p10": ordered[len(ordered) // 10] if ordered else None,
        "p50_ci95": ci95(values, seed),
    }
