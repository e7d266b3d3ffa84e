"""What the numbers of a ``ttft`` summary say, for people, and which of them are printed."""

from __future__ import annotations

import re

from ..figures.answer import Json
from ..workload.arms import ARMS
from . import speech

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
    return speech.meaning(name)


def is_shown(name: str, content: Json) -> bool:
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
