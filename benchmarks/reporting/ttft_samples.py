"""The turns behind each number of a ``ttft`` summary, by the formulas of docs/benchmarks.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..figures.stats import ratio
from ..ttft.summary import LESS_WORK
from .estimates import Sample, quantile_sample, ratio_sample
from .reports import Json

LEVELS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
Unit = tuple[str, int, int]


def samples(content: Json) -> dict[str, Sample]:
    """Return the sample of every summary key that turns can tell."""
    turns: Sequence[Json] = content["turns"]
    found: dict[str, Sample] = {}
    for case in content["cases"]:
        rows = [row for row in turns if row["case"] == case["name"]]
        found |= _case(case, rows, content["arms"])
    judged = [row for row in turns if row.get("verdict") is not None]
    return found | _identical(judged, "")


def ratio_turns(rows: Sequence[Json], arm: str, reference: str) -> list[tuple[Json, float]]:
    """Return the turns of an arm that have a ratio, with it: the paired ones of the same work."""
    by_turn = {
        (row["block"], row["conversation"], row["turn"]): row
        for row in rows
        if row["arm"] == reference and row["outcome"] == "completed"
    }
    found = []
    for row in rows:
        base = by_turn.get((row["block"], row["conversation"], row["turn"]))
        if row["arm"] != arm or row["outcome"] != "completed" or base is None:
            continue
        value = ratio(row["ttft_ms"], base["ttft_ms"])
        if value is not None and not row["misrouted"] and _same_work(row, base):
            found.append((row, value))
    return found


def unit(row: Json) -> Unit:
    """Return the conversation of a turn. Equal ones in two runs ask the same; hence its length."""
    return row["case"], row["conversation"], row["typed_chars"] if row["turn"] == 0 else -1


def adopted(row: Json) -> bool:
    """Whether the answer began as a draft."""
    return row["drafts"]["adopted_tokens"] is not None


def _case(case: Json, rows: Sequence[Json], arms: Mapping[str, Json]) -> dict[str, Sample]:
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
    for arm in arms:
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
    return ratio_sample(
        [units(row) for row in rows], [float(holds(row)) for row in rows], [1.0] * len(rows)
    )


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


def _same_work(row: Json, base: Json) -> bool:
    one, other = row["prompt_tokens"], base["prompt_tokens"]
    return one is None or other is None or one >= (1.0 - LESS_WORK) * other
