"""The tables and the failures of a ``ttft`` report, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .reports import Json
from .short import short

_LOST = ("failed", "incomplete", "error")


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first ``text_columns`` are words, the others numbers.

    ``flagged``: numbers of the rows that failed. ``folded``: closed until it is opened.
    """

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    flagged: frozenset[int] = frozenset()
    folded: bool = False


def failures(content: Json) -> Iterator[str]:
    """Yield one sentence per arm of a case that lost turns, and per stream that did."""
    for case in content["cases"]:
        for arm, one in case["arms"].items():
            lost = [f"{one[kind]} {kind}" for kind in _LOST if one[kind]]
            if one["misrouted"]:
                lost.append(f"{one['misrouted']} answered by another expert")
            if lost:
                told = "; ".join(one["errors"])
                where = f"{case['name']}, arm {arm}: of {one['asked']} turns {', '.join(lost)}"
                yield where + (f" ({told})" if told else "")
        for reference, pairs in list(case["pairs"].items())[:1]:
            for arm, pair in pairs.items():
                if pair["different"]:
                    yield (
                        f"{case['name']}: {pair['different']} of {pair['pairs']} answers of {arm} "
                        f"differ from {reference}'s and are no tie"
                    )
    for stream in content.get("interference") or ():
        errors = [*stream["typist_errors"], *stream["alone"]["errors"]]
        errors += stream["beside_typing"]["errors"]
        if errors:
            yield f"{stream['label']}, running answers: {'; '.join(errors)}"


def tables(content: Json) -> list[Table]:
    """Return per case the arms and the texts that differ, then every turn."""
    found = []
    for case in content["cases"]:
        found += [_arms(case, content["arms"]), _ahead(case)]
        if (differing := _differences(case)).rows:
            found.append(differing)
    return [*found, _turns(content["turns"])]


def _arms(case: Json, arms: Json) -> Table:
    reference = next(iter(case["pairs"]), None)
    pairs = case["pairs"].get(reference, {})
    rows = []
    for arm, one in case["arms"].items():
        pair = pairs.get(arm)
        times = [_n(one["ttft_ms"][level]) for level in ("p50", "p90", "p95", "p99")]
        same = f"{pair['identical']}/{pair['tie']}/{pair['different']}" if pair else ""
        rows.append(
            [
                arm,
                str(arms.get(arm, {}).get("title", "")),
                f"{one['completed']}/{one['asked']}",
                *times,
                _n(pair["ratio"]["p50"]) if pair else "1" if arm == reference else "",
                _between(pair["ratio_p50_ci95"]) if pair else "",
                _n(one["tpot_ms"]["p50"]),
                _n(one["e2e_ms"]["p50"]),
                same,
            ]
        )
    over = f" over {reference}" if reference else ""
    note = (
        f"Milliseconds from the commit. ratio{over}: p50 of turn by turn; same/tie/not: answers "
        "equal to the reference's, equal but for a numerical tie, different."
    )
    columns = ["arm", "", "done", "TTFT p50", "p90", "p95", "p99", "ratio", "95 %"]
    columns += ["TPOT p50", "end p50", "same/tie/not"]
    return Table(_where(case), note, columns, rows, text_columns=2)


def _ahead(case: Json) -> Table:
    rows = []
    for arm, one in case["arms"].items():
        tokens, drafts = one["tokens"], one["drafts"]
        rows.append(
            [
                arm,
                _n(one["prompt_tokens_p50"]),
                _n(one["cached_tokens_p50"]),
                *(_n(lead["p50"]) for lead in one["lead_ms"].values()),
                str(drafts["made"]),
                str(drafts["adopted"]),
                str(drafts["discarded"]),
                _n(tokens["speculated"]),
                _n(tokens["wasted"]),
                _n(one["cost_multiplier"]),
            ]
        )
    leads = [f"{stage}, ms" for stage in next(iter(case["arms"].values()))["lead_ms"]]
    columns = ["arm", "prompt tokens", "cached", *leads, "drafts", "adopted", "discarded"]
    columns += ["tokens ahead", "wasted", "cost"]
    note = (
        "What was ready at the commit: tokens of the prompt and how many of them were cached "
        "(p50); how long before it each stage was ready (p50); drafts; tokens computed ahead and "
        "for nothing; cost: all tokens computed over a plain server's."
    )
    return Table(f"Work ahead of the commit: {_where(case)}", note, columns, rows, folded=True)


def _differences(case: Json) -> Table:
    rows = [
        [
            arm,
            str(one["turn"]),
            one["verdict"],
            _n(one["token_index"]),
            _n(one["gap_nats"]),
            one["text"][:400],
        ]
        for pairs in list(case["pairs"].values())[:1]
        for arm, pair in pairs.items()
        for one in pair["differences"]
    ]
    columns = ["arm", "turn", "verdict", "token", "gap, nats", "answer of the arm"]
    note = "Answers that are not the reference's to the last character."
    return Table(f"Other answers: {_where(case)}", note, columns, rows, folded=True)


def _turns(turns: Sequence[Json]) -> Table:
    columns = ["case", "arm", "outcome", "block", "talk", "turn", "typed", "TTFT", "server"]
    columns += ["end", "TPOT", "prompt", "cached", "adopted", "wasted", "cost", "answer"]
    rows, flagged = [], set()
    for number, row in enumerate(turns):
        if row["outcome"] != "completed" or row["misrouted"]:
            flagged.add(number)
        rows.append(
            [
                row["case"],
                row["arm"],
                row["error"] or row["outcome"],
                str(row["block"]),
                str(row["conversation"]),
                str(row["turn"]),
                str(row["typed_chars"]),
                *(_n(row[key]) for key in ("ttft_ms", "server_ttft_ms", "e2e_ms", "tpot_ms")),
                _n(row["prompt_tokens"]),
                _n(row["cached_tokens"]),
                _n(row["drafts"]["adopted_tokens"]),
                _n(row["tokens"]["wasted"]),
                _n(row["cost_multiplier"]),
                row.get("verdict") or "",
            ]
        )
    note = (
        "One row per turn and arm, in the order of asking. Milliseconds from the commit; lengths "
        "in tokens, typed in characters. Empty: not known or not asked."
    )
    title = f"Every turn ({len(rows)})"
    return Table(title, note, columns, rows, 3, frozenset(flagged), folded=True)


def _where(case: Json) -> str:
    return f"{case['label']}, {case['cadence']}, documents of {case['documents_tokens']} tokens"


def _n(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else short(value)


def _between(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{short(interval[0])}-{short(interval[1])}"
