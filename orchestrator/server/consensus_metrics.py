"""What consensus cost and did, for ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from ..events import ConsensusRecord
from .labelled import counter, histogram

ADDED_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ConsensusMetrics:
    """Counters of one server; labels are policies, expert ids and fixed words."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._spans = counter(
            "livemind_consensus_spans",
            "Settled pieces of answers",
            ["policy", "author", "settled_by", "before_commit"],
            registry=registry,
        )
        self._added = histogram(
            "livemind_consensus_added_seconds",
            "After the commit, from the first token of a piece until it was settled",
            ["policy"],
            buckets=ADDED_BUCKETS_S,
            registry=registry,
        )
        self._abstained = counter(
            "livemind_consensus_abstentions",
            "Experts that were to take part in an answer and did not",
            ["policy", "expert"],
            registry=registry,
        )
        self._tokens = counter(
            "livemind_consensus_tokens",
            "Tokens generated for answers, shown or not; drafted ones accepted and rejected",
            ["policy", "kind"],
            registry=registry,
        )

    def saw(self, record: ConsensusRecord) -> None:
        """Count one answer."""
        policy = record.policy
        for span in record.spans:
            before = "yes" if span.before_commit else "no"
            self._spans(policy, span.author, span.settled_by, before).inc()
            self._added(policy).observe(span.added_ms / 1000)
        for entry in record.abstained:
            self._abstained(policy, entry.expert).inc()
        self._tokens(policy, "generated").inc(record.generated_tokens)
        self._tokens(policy, "drafted_accepted").inc(record.drafted_tokens_accepted or 0)
        self._tokens(policy, "drafted_rejected").inc(record.drafted_tokens_rejected or 0)
