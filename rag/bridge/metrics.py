"""The bridge's figures for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class BridgeMetrics:
    """Counters of one bridge, in a registry of its own: two bridges in a process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._asked = Counter(
            "livemind_bridge_retrievals",
            "Retrievals answered.",
            ["result"],
            registry=self._registry,
        )
        self._stages = Histogram(
            "livemind_bridge_stage_ms", "Milliseconds of a stage.", ["stage"], buckets=_MS,
            registry=self._registry,
        )  # fmt: skip
        self._passages = Gauge(
            "livemind_bridge_passages", "Passages held.", ["collection"], registry=self._registry
        )
        self._written = Counter(
            "livemind_bridge_documents", "Documents written.", ["action"], registry=self._registry
        )

    def answered(self, ms: Mapping[str, float], degraded: Sequence[str]) -> None:
        """Count a retrieval and its stages."""
        self._asked.labels("degraded" if degraded else "complete").inc()
        for stage, value in ms.items():
            self._stages.labels(stage).observe(value)

    def superseded(self) -> None:
        """Count a retrieval that a newer revision made pointless."""
        self._asked.labels("superseded").inc()

    def wrote(self, action: str, count: int) -> None:
        """Count documents of an ``upsert`` or ``delete``."""
        self._written.labels(action).inc(count)

    def text(self, passages: Mapping[str, int]) -> bytes:
        """Return the exposition, with the current sizes."""
        for name, count in passages.items():
            self._passages.labels(name).set(count)
        return generate_latest(self._registry)
