"""The tables and the failures of a ``ttft`` report, all from its own JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..figures.answer import Json
from ..figures.measure import STAGES
from ..figures.table import Table, cell
from . import speech

_LOST = ("failed", "incomplete", "error")


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
    """Return per case the arms and the texts that differ, running answers, then every turn."""
    if "turns" not in content:
        return [_self_check(content)]
    found = []
    for case in content["cases"]:
        found += [_arms(case, content["arms"]), _ahead(case)]
        if case.get("speech"):
            found.append(speech.table(case, f"Prepared while it was said: {where(case)}"))
        if (differing := _differences(case)).rows:
            found.append(differing)
    found += map(_interference, content.get("interference") or ())
    return [*found, _turns(content["turns"])]


def _arms(case: Json, arms: Json) -> Table:
    reference = next(iter(case["pairs"]), None)
    pairs = case["pairs"].get(reference, {})
    rows: list[list[object]] = []
    for arm, one in case["arms"].items():
        pair = pairs.get(arm)
        same = [str(pair[name]) for name in ("identical", "tie", "different")] if pair else []
        rows.append(
            [
                arm,
                arms.get(arm, {}).get("title", ""),
                f"{one['completed']}/{one['asked']}",
                *(one["ttft_ms"][level] for level in ("p50", "p90", "p95", "p99")),
                pair["ratio"]["p50"] if pair else 1 if arm == reference else None,
                pair["ratio_p50_ci95"] if pair else None,
                one["tpot_ms"]["p50"],
                one["e2e_ms"]["p50"],
                "/".join(same),
            ]
        )
    note = (
        "Milliseconds from the commit. ratio: p50 of turn by turn; same/tie/not: answers equal to "
        "the reference's, equal but for a numerical tie, different. "
    ) + "; ".join(f"{arm}: {arms.get(arm, {}).get('title', arm)}" for arm in case["arms"])
    if reference is not None:
        base = case["arms"][reference]
        tokens, cached = cell(base["prompt_tokens_p50"]), cell(base["cached_tokens_max"])
        note += (
            f". The reference is {reference}; its prompt has {tokens} tokens, at most {cached} of "
            "them cached (0 = cold, as it should be)."
        )
    columns = ["arm", "", "done", "TTFT p50", "p90", "p95", "p99", "ratio", "95 %"]
    columns += ["TPOT p50", "end p50", "same/tie/not"]
    page_only = frozenset({"", "p90", "p99", "TPOT p50", "end p50"})
    return Table(where(case), columns, rows, note, 2, page_only)


def _ahead(case: Json) -> Table:
    rows: list[list[object]] = []
    for arm, one in case["arms"].items():
        tokens, drafts = one["tokens"], one["drafts"]
        rows.append(
            [
                arm,
                *(one[name] for name in ("prompt_tokens_p50", "cached_tokens_p50")),
                *(one["lead_ms"][stage]["p50"] for stage in STAGES),
                *(drafts[name] for name in ("made", "adopted", "discarded")),
                *(tokens[name] for name in ("speculated", "wasted")),
                one["cost_multiplier"],
            ]
        )
    columns = ["arm", "prompt tokens", "cached", *STAGES, "drafts", "adopted", "discarded"]
    columns += ["tokens ahead", "wasted", "cost"]
    note = (
        "What was ready at the commit: tokens of the prompt and how many of them were cached "
        "(p50); how long before it each stage was ready (ms, p50); drafts; tokens computed ahead "
        "and for nothing; cost: all tokens computed over a plain server's."
    )
    page_only = frozenset({"prompt tokens", "drafts", "discarded", "tokens ahead", "wasted"})
    if not any(one["drafts"]["made"] for one in case["arms"].values()):
        page_only = frozenset(columns)
    title = f"Work ahead of the commit: {where(case)}"
    return Table(title, columns, rows, note, page_only=page_only, folded=True)


def _differences(case: Json) -> Table:
    kept = ("turn", "verdict", "token_index", "gap_nats")
    rows = [
        [arm, *(one[name] for name in kept), one["text"][:400]]
        for pairs in list(case["pairs"].values())[:1]
        for arm, pair in pairs.items()
        for one in pair["differences"]
    ]
    columns = ("arm", "turn", "verdict", "token", "gap, nats", "answer of the arm")
    note = "Answers that are not the reference's to the last character."
    title = f"Other answers: {where(case)}"
    return Table(title, columns, rows, note, page_only=frozenset(columns), folded=True)


def _interference(stream: Json) -> Table:
    rows = []
    for name, key in (("alone", "alone"), ("others typing", "beside_typing")):
        one: Json = stream[key]
        gaps = [one["itl_ms"][which] for which in ("p50", "p95", "mean")]
        rows.append([name, one["completed"], *gaps, one["gap_ms_max"], one["ttft_ms"]["p50"]])
    prefilled = cell(stream["typists_prefilled_tokens_p50"])
    note = f"typing sessions {stream['typists']}, each prefilled {prefilled} tokens (p50)"
    title = f"{stream['label']}: milliseconds between tokens of a running answer"
    columns = ("", "streams", "p50", "p95", "mean", "longest", "first token")
    return Table(title, columns, rows, note)


def _turns(turns: Sequence[Json]) -> Table:
    columns = ["case", "arm", "outcome", "block", "talk", "turn", "typed", "TTFT", "server"]
    columns += ["end", "TPOT", "prompt", "cached", "adopted", "wasted", "cost", "answer"]
    own = ["block", "conversation", "turn", "typed_chars", "ttft_ms", "server_ttft_ms", "e2e_ms"]
    own += ["tpot_ms", "prompt_tokens", "cached_tokens"]
    rows = [
        [
            row["case"],
            row["arm"],
            row["error"] or row["outcome"],
            *(row[name] for name in own),
            row["drafts"]["adopted_tokens"],
            row["tokens"]["wasted"],
            row["cost_multiplier"],
            row.get("verdict"),
        ]
        for row in turns
    ]
    lost = (n for n, row in enumerate(turns) if row["outcome"] != "completed" or row["misrouted"])
    note = (
        "One row per turn and arm, in the order of asking. Milliseconds from the commit; lengths "
        "in tokens, typed in characters. Empty: not known or not asked."
    )
    title = f"Every turn ({len(rows)})"
    return Table(title, columns, rows, note, 3, frozenset(columns), frozenset(lost), folded=True)


def _self_check(content: Json) -> Table:
    levels = ("n", "p50", "p95", "p99", "max")
    rows = [
        [case["name"], *(case["error_ms"].get(name) for name in levels)]
        for case in content["cases"]
    ]
    title = "milliseconds that the harness adds to a known time to first token"
    return Table(title, ("door", "answers", "p50", "p95", "p99", "worst"), rows)


def where(case: Json) -> str:
    """Return what a case asks of whom, in a few words."""
    documents = f"documents of {case['documents_tokens']} tokens"
    if case.get("recorded") and not case["documents_tokens"]:
        documents = "passages of the handbook"
    return f"{case['label']}, {case['cadence']}, {documents}"
