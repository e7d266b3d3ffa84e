"""The tables that ``livemind bench ttft`` prints, all from the report's own JSON."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.table import Table

from ..harness.report import Json, Number, number, summary_table, table
from ..workload.arms import ARMS
from ..workload.plan import QUICK_ARMS

_QUICK_MEANING = {
    "ttft.live_over_request_at_end.p50": "typed live: wait after Enter as a share of the wait "
    "when everything is sent at the end (1 = no gain)",
    "ttft.live_over_request_at_end.p95": "the same for the slowest turns",
    "ttft.prefill_over_request_at_end.p50": "the same with drafts switched off: the prefill alone",
    "ttft.paste_over_request_at_end.p50": "a paste leaves no time ahead: 1 = it costs nothing",
    "ttft.identical_share": "greedy answers equal to the reference's, numerical ties included",
    "ttft.identical_share_strict": "greedy answers equal to the last character",
    "ttft.adopted_first_token_ms.p50": "with a draft adopted: server time from the commit's "
    "arrival to the first token",
    "ttft.adopted_share": "drafts adopted, of the turns with a pause before Enter",
    "itl.with_typing_over_without.p95": "time between tokens of a running answer while others "
    "type, over without them",
    "draft.adopted_share.E": "turns of arm E whose answer began as a draft",
    "harness.error_ms.p50": "error of the harness's own clock: see --self-check",
    "harness.error_ms.p99": "the same for the worst answers",
    "harness.vs_third_party.p50": "agreement with another load tester, when one was run beside",
}
_RATIO = re.compile(r"ttft\.(\w)(_adopted)?_over_(\w)\.(p\d+)")
_TIME = re.compile(r"ttft\.ms\.(\w)\.(p\d+)")


def show(console: Console, content: Json) -> None:
    """Print the figures of each case and what each summary number says."""
    for case in content["cases"]:
        console.print(_arms(case))
        if any(one["drafts"]["made"] for one in case["arms"].values()):
            console.print(_speculation(case))
    for stream in content["interference"]:
        console.print(_interference(stream))
    for error in _errors(content):
        console.print(f"failed: {error}", style="red", markup=False, highlight=False)
    known = {name: value for name, value in content["summary"].items() if _shown(name, content)}
    console.print(summary_table(known, meaning))


def meaning(name: str) -> str:
    """Return what a summary number says; empty for an unknown one."""
    for known, told in _QUICK_MEANING.items():
        if name == known or name.startswith(f"{known}."):
            return told
    if found := _RATIO.match(name):
        arm, adopted, reference, level = found.groups()
        what = " where a draft was adopted" if adopted else ""
        return f"{_title(arm)}: time to first token over {reference}'s, {level} of turns{what}"
    if found := _TIME.match(name):
        return f"{_title(found[1])}: milliseconds to the first token, {found[2]}"
    if name.startswith("waste.cost_multiplier."):
        return "tokens computed in all over those a plain server would have computed"
    return ""


def show_self_check(console: Console, checked: Json) -> None:
    """Print the errors of the harness's own clock."""
    found = table(
        "milliseconds that the harness adds to a known time to first token",
        ("door", "answers", "p50", "p95", "p99", "worst"),
    )
    for case in checked["cases"]:
        error = case["error_ms"]
        levels = [number(error[name], 3) for name in ("p50", "p95", "p99", "max")]
        found.add_row(case["name"], str(error["n"]), *levels)
    console.print(found)
    console.print(summary_table(checked["summary"], meaning))


def _shown(name: str, content: Json) -> bool:
    """Whether to print a number of the summary; the file has all of them.

    Left out are those of arms that were not asked, times, which stand in the tables, and ratios
    over another reference than the tables'.
    """
    if content["config"]["quick"]:
        return True
    reference = next((arm for arm, one in content["arms"].items() if one["reference"]), None)
    ratio = _RATIO.match(name)
    other = ratio is not None and ratio[3] != reference
    return content["summary"][name] is not None and not other and not _TIME.match(name)


def _title(arm: str) -> str:
    return ARMS[arm].title if arm in ARMS else arm


def _arms(case: Json) -> Table:
    found = table(
        f"{case['label']}, {case['cadence']}, documents of {case['documents_tokens']} tokens: "
        "milliseconds from the commit to the first token",
        ("arm", "done", "fail", "p50", "p95", "ratio", "95 % of it", "same/tie/not"),
    )
    reference = next(iter(case["pairs"]), None)
    for arm, one in case["arms"].items():
        pair = case["pairs"].get(reference, {}).get(arm)
        lost = one["failed"] + one["incomplete"] + one["error"]
        found.add_row(
            arm,
            str(one["completed"]),
            str(lost),
            number(one["ttft_ms"]["p50"], 1),
            number(one["ttft_ms"]["p95"], 1),
            number(pair["ratio"]["p50"], 3) if pair else "1" if arm == reference else "",
            _interval(pair["ratio_p50_ci95"]) if pair else "",
            f"{pair['identical']}/{pair['tie']}/{pair['different']}" if pair else "",
        )
    if reference is not None:
        base = case["arms"][reference]
        titles = {arm.id: arm.title for arm in (*ARMS.values(), *QUICK_ARMS)}
        found.caption = (
            f"ratio: over {reference}; its prompt has {number(base['prompt_tokens_p50'], 0)} tokens"
            f", at most {number(base['cached_tokens_max'], 0)} of them cached (0 = cold, as it "
            "should be). " + "; ".join(f"{arm}: {titles.get(arm, arm)}" for arm in case["arms"])
        )
    return found


def _speculation(case: Json) -> Table:
    found = table(
        "work ahead of the commit",
        ("arm", "cached", "route", "retrieval", "prefill", "draft", "adopted", "cost"),
    )
    for arm, one in case["arms"].items():
        if one["tokens"]["speculated"] is None:
            continue
        leads = [number(lead["p50"], 0) for lead in one["lead_ms"].values()]
        found.add_row(
            arm,
            number(one["cached_share_p50"], 2),
            *leads,
            number(one["drafts"]["adopted_share"], 2),
            number(one["cost_multiplier"], 2),
        )
    found.caption = (
        "cached: share of the prompt known at the commit; route to draft: milliseconds (p50) that "
        "each was ready before it; adopted: share of turns; cost: tokens over a plain server's"
    )
    return found


def _interference(case: Json) -> Table:
    found = table(
        f"{case['label']}: milliseconds between tokens of a running answer",
        ("", "streams", "p50", "p95", "mean", "longest", "first token"),
    )
    for name, key in (("alone", "alone"), ("others typing", "beside_typing")):
        one: dict[str, Any] = case[key]
        gaps = [number(one["itl_ms"][which], 1) for which in ("p50", "p95", "mean")]
        longest, first = number(one["gap_ms_max"], 1), number(one["ttft_ms"]["p50"], 1)
        found.add_row(name, str(one["completed"]), *gaps, longest, first)
    prefilled = number(case["typists_prefilled_tokens_p50"], 0)
    found.caption = f"typing sessions {case['typists']}, each prefilled {prefilled} tokens (p50)"
    return found


def _errors(content: Json) -> list[str]:
    found = []
    for case in content["cases"]:
        for arm, one in case["arms"].items():
            found += [f"{case['name']}, {arm}: {error}" for error in one["errors"]]
    for stream in content["interference"]:
        for key in ("alone", "beside_typing"):
            found += [f"{key}: {error}" for error in stream[key]["errors"]]
        found += [f"typing session: {error}" for error in stream["typist_errors"]]
    return found


def _interval(ci: tuple[Number, Number] | None) -> str:
    return "" if ci is None else f"{number(ci[0], 2)}-{number(ci[1], 2)}"
