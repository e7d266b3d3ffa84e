"""The turns behind each number of a ``ttft`` summary, by the formulas of docs/benchmarks.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from ..figures.answer import Json
from ..figures.estimates import Sample, quantile_sample, ratio_sample
from ..figures.stats import ratio
from ..workload.plan import FINAL_AT_END
from . import speech

LESS_WORK = 0.05
"""A prompt that is shorter than the reference's by more than this share is not the same work.

A longer one is: what an arm puts into its prompt is its own cost."""
LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
Unit = tuple[str, int, int]


def samples(content: Json) -> dict[str, Sample]:
    """Return the sample of every summary key that turns can tell."""
    turns: Sequence[Json] = content["turns"]
    found: dict[str, Sample] = {}
    for case in content["cases"]:
        rows = [row for row in turns if row["case"] == case["name"]]
        found |= _case(case, rows)
    judged = [row for row in turns if row.get("verdict") is not None]
    return found | _identical(judged, "")


def paired(rows: Iterable[Json], arm: str, reference: str) -> list[tuple[Json, Json]]:
    """Return the turns of an arm with the reference's, where both are complete."""
    done = [row for row in rows if row["outcome"] == "completed"]
    bases = {place(row): row for row in done if row["arm"] == reference}
    return [(row, bases[place(row)]) for row in done if row["arm"] == arm and place(row) in bases]


def ratio_turns(rows: Iterable[Json], arm: str, reference: str) -> list[tuple[Json, float]]:
    """Return the turns of an arm that have a ratio, with it: the paired ones of the same work."""
    both = [(row, base) for row, base in paired(rows, arm, reference) if same_work(row, base)]
    told = ((row, ratio(row["ttft_ms"], base["ttft_ms"])) for row, base in both)
    return [(row, value) for row, value in told if value is not None]


def place(row: Json) -> tuple[int, int, int]:
    """Return what names a turn in every arm of its case."""
    return row["block"], row["conversation"], row["turn"]


def unit(row: Json) -> Unit:
    """Return the conversation of a turn. Equal ones in two runs ask the same; hence its length."""
    return row["case"], row["conversation"], row["typed_chars"] if row["turn"] == 0 else -1


def adopted(row: Json) -> bool:
    """Whether the answer began as a draft."""
    return bool(row["drafts"]["adopted_tokens"])


def same_work(row: Json, base: Json) -> bool:
    """Whether a turn was answered by the asked expert, from a prompt at least as long."""
    one, other = row["prompt_tokens"], base["prompt_tokens"]
    shorter = one is not None and other is not None and one < (1.0 - LESS_WORK) * other
    return not row["misrouted"] and not shorter


def cost(rows: Iterable[Json]) -> Sample:
    """Tokens computed in all over those that a plain server would have computed."""
    return _cost(unit, rows)


def speech_samples(rows: Sequence[Json], arm: str) -> dict[str, Sample]:
    """Return the samples of a live arm of a recording, by the end of their keys."""
    units = _conversations(rows)
    told = ratio_turns(rows, arm, FINAL_AT_END.id)
    done = [row for row in rows if row["arm"] == arm and row["outcome"] == "completed"]
    costs = [(row, row["cost_multiplier"]) for row in done if row["cost_multiplier"] is not None]
    ready = [(row, share) for row in done if (share := speech.ready_share(row)) is not None]
    known = [
        (row, base)
        for row, base in paired(rows, arm, FINAL_AT_END.id)
        if row["documents_used"] is not None and base["documents_used"] is not None
    ]
    same = {place(row) for row, base in known if row["documents_used"] == base["documents_used"]}
    judged = [row for row in done if row.get("verdict") is not None]
    lost = dict.fromkeys(reason for row in done for reason in speech.drafts_lost(row))
    routed = _share(units, done, lambda row: row["lead_ms"]["route"] is not None)
    found = {
        "live_over_request_at_end.p50": _quantile(units, told, 0.5),
        "live_over_request_at_end.p95": _quantile(units, told, 0.95),
        "adopted_share": _share(units, done, adopted),
        "drafted_share": _share(units, done, speech.used_a_draft),
        "cost_multiplier.p50": _quantile(units, costs, 0.5),
        "route_settled_share": routed,
        "prompt_ready.p50": _quantile(units, ready, 0.5),
        "unprepared_share": _share(units, done, speech.is_unprepared),
        "same_documents_share": _share(units, [r for r, _ in known], lambda r: place(r) in same),
        "identical_share": _share(units, judged, lambda row: row["verdict"] != "different"),
    }
    for kind in speech.EVENTS:
        key = f"events_per_turn.{speech.slug(kind)}"
        found[key] = _mean(units, done, [speech.before_commit(row)[kind] for row in done])
    for reason in sorted(lost):
        key = f"drafts_lost.{speech.slug(reason)}"
        found[key] = _mean(units, done, [speech.drafts_lost(row)[reason] for row in done])
    return found


def _case(case: Json, rows: Sequence[Json]) -> dict[str, Sample]:
    suffix = case["suffix"]
    found: dict[str, Sample] = {}
    units = _conversations(rows)
    for reference, pairs in case["pairs"].items():
        over = reference.replace("-", "_")
        for arm in pairs:
            told = ratio_turns(rows, arm, reference)
            for level, q in LEVELS.items():
                key = f"ttft.{arm}_over_{over}.{level}{suffix}"
                found[key] = _quantile(units, told, q)
                key = f"ttft.{arm}_adopted_over_{over}.{level}{suffix}"
                found[key] = _quantile(units, [one for one in told if adopted(one[0])], q)
    for arm in case["arms"]:
        done = [r for r in rows if r["arm"] == arm and r["outcome"] == "completed"]
        times = [(r, r["ttft_ms"]) for r in done if r["ttft_ms"] is not None]
        for level, q in LEVELS.items():
            found[f"ttft.ms.{arm}.{level}{suffix}"] = _quantile(units, times, q)
        found[f"waste.cost_multiplier.{arm}{suffix}"] = _cost(units, done)
        share = _share(units, done, adopted)
        found[f"draft.adopted_share.{arm}{suffix}"] = share
        if arm == "draft":
            found[f"ttft.adopted_share{suffix}"] = share
            first = [(r, r["server_ttft_ms"]) for r in done if adopted(r)]
            known = [one for one in first if one[1] is not None]
            found[f"ttft.adopted_first_token_ms.p50{suffix}"] = _quantile(units, known, 0.5)
    for arm in case.get("speech", ()):
        stem = speech.summary_stem(case, arm)
        found |= {f"{stem}.{key}": one for key, one in speech_samples(rows, arm).items()}
    judged = [row for row in rows if row.get("verdict") is not None]
    return found | (_identical(judged, suffix) if suffix else {})


def _conversations(rows: Iterable[Json]) -> Callable[[Json], Unit]:
    """Return what names the conversation of a turn, by the length of its first question."""
    first: dict[int, Unit] = {}
    for row in rows:
        if row["turn"] == 0:
            first.setdefault(row["conversation"], unit(row))
    return lambda row: first.get(row["conversation"], unit(row))


def _quantile(
    units: Callable[[Json], Unit], told: Sequence[tuple[Json, float]], q: float
) -> Sample:
    return quantile_sample([units(row) for row, _ in told], [value for _, value in told], q)


def _cost(units: Callable[[Json], Unit], rows: Iterable[Json]) -> Sample:
    """Tokens computed in all over those that a plain server would have computed."""
    known = [
        (row, row["cost_multiplier"], row["prompt_tokens"] + (row["completion_tokens"] or 0))
        for row in rows
        if row["cost_multiplier"] is not None and row["prompt_tokens"] is not None
    ]
    return ratio_sample(
        [units(row) for row, _, _ in known],
        [multiplier * plain for _, multiplier, plain in known],
        [plain for _, _, plain in known],
    )


def _share(
    units: Callable[[Json], Unit], rows: Sequence[Json], holds: Callable[[Json], bool]
) -> Sample:
    return _mean(units, rows, [holds(row) for row in rows])


def _mean(units: Callable[[Json], Unit], rows: Sequence[Json], values: Sequence[float]) -> Sample:
    return ratio_sample([units(row) for row in rows], values, [1.0] * len(rows))


def _identical(rows: Sequence[Json], suffix: str) -> dict[str, Sample]:
    by_case: dict[str, list[Json]] = defaultdict(list)
    for row in rows:
        by_case[row["case"]].append(row)
    names = {case: _conversations(own) for case, own in by_case.items()}

    def units(row: Json) -> Unit:
        return names[row["case"]](row)

    return {
        f"ttft.identical_share{suffix}": _share(
            units, rows, lambda row: row["verdict"] in ("identical", "tie")
        ),
        f"ttft.identical_share_strict{suffix}": _share(
            units, rows, lambda row: row["verdict"] == "identical"
        ),
    }
