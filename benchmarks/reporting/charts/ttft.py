"""The plots of a ``ttft`` report: one set per case."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ...figures.answer import Json
from ...figures.stats import p50
from ...figures.table import short
from ...ttft.samples import ratio_turns
from ...ttft.tables import where as case_told
from .shared import Bar, Point, bars, cdf, estimated, scatter
from .style import Chart
from .waterfall import Row, waterfall

SMALL_ITL_MS = 0.001


def charts(content: Json) -> Iterator[Chart]:
    """Yield the plots of every case, in the order of the report."""
    for number, case in enumerate(content["cases"]):
        rows = [row for row in content["turns"] if row["case"] == case["name"]]
        done = [row for row in rows if row["outcome"] == "completed"]
        stem = re.sub(r"[^A-Za-z0-9]+", "-", case["name"]).strip("-") + f"-{number}"
        titles = {arm: _title(arm, content["arms"]) for arm in case["arms"]}
        where = case_told(case)
        yield _times(f"ttft-cdf-{stem}", where, titles, done)
        if case["pairs"]:
            yield _ratios(f"ttft-ratio-{stem}", where, titles, case, rows)
            yield _waste(f"waste-gain-{stem}", where, titles, case, rows)
        if (turn := _typical(done)) is not None:
            base = _reference_turn(turn, done, next(iter(case["pairs"]), None))
            yield _waterfall(f"waterfall-{stem}", where, titles, turn, base)
        yield _gaps(f"itl-cdf-{stem}", where, titles, done)


def _title(arm: str, arms: Json) -> str:
    title = str(arms.get(arm, {}).get("title", ""))
    short_name = len(arm) <= 2
    return f"{arm} {title}" if short_name and title else title or arm


def _times(stem: str, where: str, titles: dict[str, str], done: Sequence[Json]) -> Chart:
    return cdf(
        stem,
        "Time to first token",
        {title: _known(done, arm, "ttft_ms") for arm, title in titles.items()},
        "ms from commit (Enter) to first text, logarithmic",
        log_x=True,
        unit="ms",
        subtitle=where,
        caption="Further left is faster; a steep curve means that turns wait alike. "
        "Completed turns only; the others are counted above.",
    )


def _known(done: Sequence[Json], arm: str, key: str) -> list[float]:
    return [row[key] for row in done if row["arm"] == arm and row[key] is not None]


def _median_ratio(
    rows: Sequence[Json], arm: str, reference: str
) -> tuple[float | None, float | None, float | None, int]:
    """Return the median ratio, its interval and how many turns have one."""
    told = ratio_turns(rows, arm, reference)
    units, values = [row["conversation"] for row, _ in told], [value for _, value in told]
    return *estimated(units, values, 0.5), len(values)


def _ratios(
    stem: str, where: str, titles: dict[str, str], case: Json, rows: Sequence[Json]
) -> Chart:
    reference, pairs = next(iter(case["pairs"].items()))
    groups = []
    for arm in pairs:
        middle, low, high, n = _median_ratio(rows, arm, reference)
        groups.append(Bar(titles[arm], middle, low, high, f"n={n}"))
    return bars(
        stem,
        f"Wait as a share of: {titles[reference]}",
        groups,
        "time to first token over the reference's, logarithmic",
        log_x=True,
        reference=1.0,
        reference_label="the same",
        subtitle=where,
        caption="Each turn is held against its own reference turn; 0.1 means a tenth of "
        "the wait, right of 1 is slower. Lines are 95 % bootstrap intervals of the median over "
        "conversations; without a line there are too few for one.",
    )


def _waste(
    stem: str, where: str, titles: dict[str, str], case: Json, rows: Sequence[Json]
) -> Chart:
    reference, pairs = next(iter(case["pairs"].items()))
    points, order = [], list(titles)
    for arm in pairs:
        middle, low, high, _ = _median_ratio(rows, arm, reference)
        cost = case["arms"][arm]["cost_multiplier"]
        points.append(Point(titles[arm], cost, middle, low, high, order.index(arm)))
    unknown = [point.label for point in points if point.x is None]
    left_out = f" Cost not known: {', '.join(unknown)}." if unknown else ""
    return scatter(
        stem,
        "What the gain costs",
        points,
        "cost multiplier: tokens computed over a plain server's",
        "wait over the reference's (p50), logarithmic",
        log_y=True,
        reference=(1.0, 1.0),
        subtitle=where,
        caption="Lower is a shorter wait, further right is more tokens computed for "
        f"nothing; the dashed lines are a plain server.{left_out}",
    )


def _gaps(stem: str, where: str, titles: dict[str, str], done: Sequence[Json]) -> Chart:
    gaps: dict[str, list[float]] = {}
    at_once = 0
    for arm, title in titles.items():
        every = [
            after - before
            for row in done
            if row["arm"] == arm
            for before, after in pairwise(row["arrivals_ms"])
        ]
        gaps[title] = [gap for gap in every if gap >= SMALL_ITL_MS]
        at_once += len(every) - len(gaps[title])
    together = f" {at_once} pieces that came at once are left out." if at_once else ""
    return cdf(
        stem,
        "Time between pieces of an answer",
        gaps,
        "ms between pieces of text, logarithmic",
        log_x=True,
        unit="ms",
        subtitle=where,
        caption="An adopted draft arrives in one piece and has no gaps of its own; "
        f"what follows it has.{together}",
    )


def _typical(done: Sequence[Json]) -> Json | None:
    """Return the turn to look at closely: most stages seen, then nearest to the median wait."""
    typed = [
        row
        for row in done
        if row["timeline"] is not None
        and row["timeline"]["keys_ms"]
        and row["ttft_ms"] is not None
        and not row["misrouted"]
    ]
    if not typed:
        return None

    def stages(row: Json) -> int:
        return len({event["type"] for event in row["timeline"]["events"]})

    most = max(stages(row) for row in typed)
    arm = next(row["arm"] for row in reversed(typed) if stages(row) == most)
    of_arm = [row for row in typed if row["arm"] == arm]
    middle = p50([row["ttft_ms"] for row in of_arm]) or 0.0
    return min(of_arm, key=lambda row: (-stages(row), abs(row["ttft_ms"] - middle)))


def _reference_turn(turn: Json, done: Sequence[Json], reference: str | None) -> Json | None:
    """Return the same turn through the reference arm; None when it has no answer there."""
    same = ("block", "conversation", "turn")
    return next(
        (
            row
            for row in done
            if row["arm"] == reference
            and row["ttft_ms"] is not None
            and all(row[key] == turn[key] for key in same)
        ),
        None,
    )


def _waterfall(
    stem: str, where: str, titles: dict[str, str], turn: Json, base: Json | None
) -> Chart:
    timeline = turn["timeline"]
    rows = [Row("typing", marks=timeline["keys_ms"], note=f"{turn['typed_chars']} characters")]
    rows += _stages(timeline["events"])
    rows.append(
        Row(
            "first token",
            [(0.0, turn["ttft_ms"])],
            [turn["ttft_ms"]],
            f"after {short(turn['ttft_ms'])} ms",
        )
    )
    if base is not None:
        note = f"after {short(base['ttft_ms'])} ms"
        rows.append(Row(titles[base["arm"]], [(0.0, base["ttft_ms"])], note=note))
    return waterfall(
        stem,
        f"One turn: {titles[turn['arm']]}",
        rows,
        subtitle=where,
        caption=f"Conversation {turn['conversation']}, turn {turn['turn']}: the turn with "
        "the most stages that is nearest to the median of its arm. Ticks are events, bars how long "
        "something was under way or ready before the commit"
        + (f"; the last row is the same turn through {titles[base['arm']]}." if base else "."),
    )


def _stages(events: Sequence[Json]) -> Iterator[Row]:
    by_type: dict[str, list[Json]] = {}
    for event in events:
        by_type.setdefault(event["type"], []).append(event)
    for name, kind in (("route", "route.updated"), ("retrieval", "retrieval.updated")):
        if found := by_type.get(kind):
            stable = next((e["at_ms"] for e in found if e.get("stable")), None)
            spans = [] if stable is None or stable >= 0 else [(stable, 0.0)]
            note = "never stable" if stable is None else f"stable {short(-stable / 1000)} s before"
            yield Row(name, spans, [event["at_ms"] for event in found], note, strong=False)
    if found := by_type.get("prefill.updated"):
        at = [event["at_ms"] for event in found]
        ready, total = found[-1]["tokens_ready"], found[-1]["tokens_total"]
        yield Row("prefill", [(at[0], at[-1])], at, f"{ready} of {total} tokens", strong=False)
    yield from _drafts(by_type)


def _drafts(by_type: dict[str, list[Json]]) -> Iterator[Row]:
    made = [event["at_ms"] for event in by_type.get("draft.created", [])]
    if not made:
        return
    ends = [
        event["at_ms"]
        for kind in ("draft.discarded", "draft.adopted")
        for event in by_type.get(kind, [])
    ]
    spans = [(start, min((end for end in ends if end >= start), default=start)) for start in made]
    taken = sum(event["tokens"] for event in by_type.get("draft.adopted", []))
    note = f"{taken} tokens adopted" if taken else "discarded"
    yield Row("draft", spans, made, note, strong=False)
