"""What recorded partial transcripts show beside times: what was prepared before the commit. Pure.

Read from the rows of turns that a report keeps. A moment is before the commit as the client saw it.
"""

from __future__ import annotations

import re
from collections import Counter

from ..figures.answer import Json
from ..figures.stats import ratio
from ..figures.table import Table
from ..workload.plan import EARLY, SPEECH

PREPARATION = ("route.updated", "retrieval.updated", "prefill.updated", "draft.created")
"""Events that show work ahead of the commit."""
EVENTS = (*PREPARATION, "draft.discarded")
MEANINGS = {
    "live_over_request_at_end.p50": "wait after the commit as a share of the same request's with "
    "the final transcript",
    "live_over_request_at_end.p95": "the same for the slowest turns",
    "adopted_share": "turns whose answer began as a draft",
    "drafted_share": "turns that adopted a draft, or verified tokens of one",
    "cost_multiplier.p50": "tokens computed over a plain server's, median of turns",
    "route_settled_share": "turns whose route was settled before the commit",
    "prompt_ready.p50": "share of the prompt that was computed before the commit, median",
    "unprepared_share": "turns without route, passages, prefill or draft before the commit",
    "same_documents_share": "turns with exactly the documents of the final transcript",
    "identical_share": "answers equal to the request's on the same documents, ties included",
    "events_per_turn.": "events of this type before the commit, mean of turns",
    "drafts_lost.": "drafts dropped for this reason, mean of turns",
}
"""Key, or how keys begin, behind ``ttft.speech.NAME.`` -> what it says."""
_COMMIT = re.compile(rf"{SPEECH.id}(?:-(\d+))?(?:-({EARLY}))?")


def summary_stem(case: Json, arm: str) -> str:
    """Return how the summary keys of a live arm of a case begin.

    Without ``after_Nms`` the commit is when the final transcript was recorded; without ``early``
    the documents are the final transcript's.
    """
    after = _COMMIT.fullmatch(arm)
    told = f".after_{after[1]}ms" if after is not None and after[1] else ""
    early = f".{EARLY}" if after is not None and after[2] else ""
    return f"ttft{case['suffix']}{told}{early}"


def meaning(key: str) -> str:
    """Return what a summary number of this file says; empty for another one."""
    if not key.startswith("ttft.speech."):
        return ""
    return next((told for name, told in MEANINGS.items() if f".{name}" in key), "")


def before_commit(row: Json) -> Counter[str]:
    """Return how many events of each type came before the commit."""
    events = (row["timeline"] or {}).get("events", ())
    return Counter(event["type"] for event in events if event["at_ms"] < 0)


def is_unprepared(row: Json) -> bool:
    """Whether nothing was prepared before the commit."""
    seen = before_commit(row)
    return not any(seen[kind] for kind in PREPARATION)


def drafts_lost(row: Json) -> Counter[str]:
    """Return how many drafts were dropped, by reason, before the commit or at it."""
    events = (row["timeline"] or {}).get("events", ())
    return Counter(event["reason"] for event in events if event["type"] == "draft.discarded")


def used_a_draft(row: Json) -> bool:
    """Whether a draft from before the commit was the answer's beginning, or part of it verified.

    What is left of a draft that was dropped is a guess, which the expert verifies.
    """
    events = (row["timeline"] or {}).get("events", ())
    left = any(event["tokens"] for event in events if event["type"] == "draft.discarded")
    return bool(row["drafts"]["adopted_tokens"]) or (left and bool(row["drafts"]["verified"]))


def ready_share(row: Json) -> float | None:
    """Return how much of the prompt was computed; a draft that was adopted computed all of it."""
    if row["drafts"]["adopted_tokens"]:
        return 1.0
    return ratio(row["cached_tokens"], row["prompt_tokens"])


def slug(text: str) -> str:
    """Return a text as part of a key."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def table(case: Json, title: str) -> Table:
    """Return what a case's live arms prepared, one row per figure."""
    arms = case["speech"]
    keys = dict.fromkeys(key for one in arms.values() for key in one)
    rows = [[_label(key), *(one.get(key) for one in arms.values())] for key in keys]
    return Table(title, ("", *arms), rows)


def _label(key: str) -> str:
    if key in MEANINGS:
        return MEANINGS[key]
    kind, _, name = key.partition(".")
    return f"{kind.replace('_', ' ')}: {name.replace('_', ' ')}"
