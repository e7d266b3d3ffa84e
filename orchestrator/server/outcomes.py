"""How turns ended, for the operator: one log line for each that failed, counts by key and cause.

Labels have few values: names of keys, codes of our own, kinds of what was missing.
"""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry

from ..events import ResponseDone
from ..fairness.asker import asker
from .labelled import counter

logger = logging.getLogger(__name__)

NOBODY = "none"
MOST_CODES = 100
_RETRIEVAL = ("timeout", "unreachable", "superseded", "error", "overloaded", "deadline")


class Outcomes:
    """Counters of one server, in its registry; logs what failed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._codes: set[str] = set()
        self._turns = counter(
            "livemind_key_turns", "Turns by API key", ["key", "status"], registry=registry
        )
        self._tokens = counter(
            "livemind_key_tokens", "Tokens by API key", ["key", "kind"], registry=registry
        )
        self._failures = counter(
            "livemind_turn_failures", "Failed turns by cause", ["expert", "code"], registry=registry
        )
        self._refusals = counter(
            "livemind_refusals", "Requests refused, by key and code", ["key", "code"],
            registry=registry,
        )  # fmt: skip
        self._degraded = counter(
            "livemind_turns_degraded", "Answers that lacked something", ["what"], registry=registry
        )
        self._retrievals = counter(
            "livemind_turn_retrievals", "What retrieval gave to answers", ["outcome"],
            registry=registry,
        )  # fmt: skip

        for what in (*_RETRIEVAL, "expert"):  # so that an alert finds a series from the start on
            self._degraded(what)
        self._failures(NOBODY, "internal_error")
        self._refusals(NOBODY, "overloaded")

    def saw(self, done: ResponseDone) -> None:
        """Count a turn that ended, and tell of one that failed."""
        who = asker.get()
        key = NOBODY if who is None else who.name
        self._turns(key, done.status).inc()
        if done.usage is not None:
            self._tokens(key, "prompt").inc(done.usage.prompt_tokens)
            self._tokens(key, "completion").inc(done.usage.completion_tokens)
        what = [_kind(words) for words in done.degraded]
        for kind in what:
            self._degraded(kind).inc()
        if done.documents.before or done.documents.behind:
            self._retrievals("used").inc()
        elif any(kind in _RETRIEVAL for kind in what):
            self._retrievals("missing").inc()
        else:
            self._retrievals("none").inc()
        if done.status == "failed":
            self._tell(done, key)

    def refused(self, code: str) -> None:
        """Count a request that was refused before there was a turn."""
        who = asker.get()
        self._refusals(NOBODY if who is None else who.name, self._code(code)).inc()

    def _code(self, code: str) -> str:
        """Return a code as a label: a remote server may have made it up."""
        if len(self._codes) < MOST_CODES and code.isidentifier() and len(code) <= 64:
            self._codes.add(code)
        return code if code in self._codes else "other"

    def _tell(self, done: ResponseDone, key: str) -> None:
        error, expert = done.error, done.expert or NOBODY
        code = "unknown" if error is None else error.code
        self._failures(expert, self._code(code)).inc()
        cause = "" if error is None else error.cause or error.message
        logger.warning(
            "turn %s failed: key=%s expert=%s code=%s ms=%.0f cause=%s",
            done.response_id,
            key,
            expert,
            code,
            done.timings.total_ms or 0.0,
            " ".join(cause.split())[:300],
        )


def _kind(words: str) -> str:
    """Return in one word what an answer had to do without."""
    first = words.partition(":")[0].partition(",")[0].strip()
    if first in _RETRIEVAL:
        return first
    return "expert" if "is not loaded" in words else "other"
