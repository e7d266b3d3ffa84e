"""What the server counts, for ``/metrics`` (Prometheus) and ``/stats``; one registry per server.

Turns are counted in ``turn_done`` and nowhere else. Labels have few values: expert ids, statuses,
route patterns; never anything a client chose freely.
"""

from __future__ import annotations

import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence

from msgspec import structs
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ...backends.base import Usage
from ...backends.pool.pool import ExpertState
from ...backends.pool.state import STATES
from ..config.telemetry import TelemetryConfig
from ..events import Event, ResponseDone, RouteUpdated
from .consensus_metrics import ConsensusMetrics
from .labelled import counter, histogram
from .outcomes import Outcomes
from .tracing.traces import Traces
from .turn_history import TurnHistory

logger = logging.getLogger(__name__)

TTFT_BUCKETS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


ADDABLE = ("ttft_seconds", "route_seconds")
"""Histograms that ``/stats`` has as well."""


class RoutingCollector(Collector):
    """The router's and the encoder's own counters, read when somebody asks."""

    def __init__(self, stats: Callable[[], dict[str, object]]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield cache look-ups by cache and result; nothing while the server is not running."""
        found = CounterMetricFamily(
            "livemind_route_cache", "Look-ups of routes and vectors", labels=["cache", "result"]
        )
        stats = self._stats()
        for cache in ("routing", "embedding"):
            counts = stats.get(cache)
            if isinstance(counts, dict):
                for result in ("hits", "misses"):
                    found.add_metric([cache, result], counts[result])
        yield found


class ExpertCollector(Collector):
    """The pool's states and counters, read when somebody asks."""

    def __init__(self, states: Callable[[], Sequence[ExpertState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield state, progress, users and transitions of every expert."""
        state = _gauge("state", "1 for the state that the expert is in", "state")
        progress = _gauge("load_progress", "0 to 1 of a load, estimated; 1 when loaded")
        users = _gauge("requests", "Requests that hold the expert or wait for it", "phase")
        happened = CounterMetricFamily(
            "livemind_expert_transitions", "What happened to experts", labels=["expert", "what"]
        )
        for expert in self._states():
            for name in STATES:
                state.add_metric([expert.expert_id, name], float(expert.state == name))
            progress.add_metric([expert.expert_id], expert.progress or 0.0)
            users.add_metric([expert.expert_id, "waiting"], expert.waiting)
            users.add_metric([expert.expert_id, "holding"], expert.users - expert.waiting)
            for what, count in structs.asdict(expert.counts).items():
                happened.add_metric([expert.expert_id, what], count)
        yield from (state, progress, users, happened)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"livemind_expert_{name}", text, labels=["expert", *labels])


class Metrics:
    """Counters of one server, the last day's turns in numbers, and the traces of turns."""

    def __init__(self, traces: Traces | None = None) -> None:
        self.traces = traces or Traces(TelemetryConfig())
        self.registry = CollectorRegistry()
        self.history = TurnHistory()
        self._started_s = time.monotonic()
        self._tally: Tally[str] = Tally()
        self._requests = counter(
            "livemind_http_requests",
            "HTTP requests",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._turns = counter(
            "livemind_turns", "Turns by outcome", ["expert", "status"], registry=self.registry
        )
        self._ttft = histogram(
            "livemind_ttft_seconds",
            "Commit to first text, server clock",
            ["expert"],
            buckets=TTFT_BUCKETS_S,
            registry=self.registry,
        )
        self._route = histogram(
            "livemind_route_seconds",
            "Estimates of where a partial text will go",
            ["expert"],
            buckets=TTFT_BUCKETS_S,
            registry=self.registry,
        )
        self._tokens = counter(
            "livemind_tokens",
            "Tokens of answered requests",
            ["expert", "kind"],
            registry=self.registry,
        )
        self._speculation = counter(
            "livemind_speculation_tokens",
            "Tokens worked ahead: speculated = adopted + wasted",
            ["stage", "outcome"],
            registry=self.registry,
        )
        self._consensus = ConsensusMetrics(self.registry)
        self._outcomes = Outcomes(self.registry)
        self.sessions = Gauge("livemind_sessions", "Open live sessions", registry=self.registry)
        self.waiting = Gauge(
            "livemind_turns_waiting", "Answers that wait to begin", registry=self.registry
        )
        self.in_flight = Gauge(
            "livemind_requests_in_flight", "HTTP requests being answered", registry=self.registry
        )

    def watch_routing(self, stats: Callable[[], dict[str, object]]) -> None:
        """Export the cache counters of ``LiveMind.stats``-like dicts."""
        self.registry.register(RoutingCollector(stats))

    def watch_experts(self, states: Callable[[], Sequence[ExpertState]]) -> None:
        """Export what the pool knows of its experts."""
        self.registry.register(ExpertCollector(states))

    def request(self, route: str, method: str, status: int) -> None:
        """Count one HTTP request."""
        self._requests(route, method, str(status)).inc()
        self._tally["requests"] += 1
        if status >= 400:
            self._tally["requests_refused" if status < 500 else "requests_failed"] += 1

    def refused(self, code: str) -> None:
        """Count a request that was refused before there was a turn."""
        self._outcomes.refused(code)

    def event(self, event: Event) -> None:
        """Look at every session event; routes and a turn's end count."""
        if isinstance(event, ResponseDone):
            self.turn_done(event)
            return
        if isinstance(event, RouteUpdated) and event.ms is not None:
            self._route(event.expert).observe(event.ms / 1000)
        self.traces.saw(event)

    def turn_done(self, done: ResponseDone) -> None:
        """Count a finished turn: outcome, TTFT, tokens and the ledger; never raises."""
        self.traces.saw(done)
        try:
            self._count_turn(done)
        except Exception as exc:  # an answer must not end because it cannot be counted
            logger.error("a turn was not counted: %s", type(exc).__name__)

    def _count_turn(self, done: ResponseDone) -> None:
        expert = done.expert or "none"
        self._turns(expert, done.status).inc()
        self._tally[f"turns_{done.status}"] += 1
        if done.timings.ttft_ms is not None:
            self._ttft(expert).observe(done.timings.ttft_ms / 1000)
        self._outcomes.saw(done)
        self.history.saw(done)
        self._count_usage(expert, done.usage)
        if done.consensus is not None:
            self._consensus.saw(done.consensus)
        ledger = done.ledger
        for stage, outcome, tokens in (
            ("prefill", "speculated", ledger.prefill_speculated),
            ("prefill", "adopted", ledger.prefill_adopted),
            ("prefill", "wasted", ledger.prefill_wasted),
            ("draft", "speculated", ledger.draft_speculated),
            ("draft", "adopted", ledger.draft_adopted),
            ("draft", "wasted", ledger.draft_wasted),
        ):
            if tokens:
                self._speculation(stage, outcome).inc(tokens)
                self._tally[f"{stage}_tokens_{outcome}"] += tokens

    def render(self) -> bytes:
        """Return the Prometheus text format."""
        return generate_latest(self.registry)

    def totals(self) -> dict[str, object]:
        """Return what those of several gateways add up to, number by number; JSON-ready.

        ``counters``; of each histogram ``count``, ``sum`` and, by its upper limit in seconds, how
        many were no longer, for each expert.
        """
        histograms = {name: self._histogram(f"livemind_{name}") for name in ADDABLE}
        return {"counters": sorted_items(self._tally), **histograms}

    def _histogram(self, name: str) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        parts = [f"{name}_{part}" for part in ("bucket", "count", "sum")]
        for metric in self.registry.restricted_registry(parts).collect():
            for sample in metric.samples:
                part = sample.name.removeprefix(f"{name}_")
                within = sample.labels.get("le", part)
                found.setdefault(sample.labels["expert"], {})[within] = sample.value
        return found

    def stats(self) -> dict[str, object]:
        """Return the counters as a flat JSON-ready object."""
        return {
            "uptime_s": round(time.monotonic() - self._started_s, 3),
            **sorted_items(self._tally),
        }

    def _count_usage(self, expert: str, usage: Usage | None) -> None:
        if usage is None:
            return
        for kind, tokens in (
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("cached", usage.cached_tokens or 0),
        ):
            self._tokens(expert, kind).inc(tokens)
            self._tally[f"{kind}_tokens"] += tokens


def sorted_items(tally: Tally[str]) -> dict[str, int]:
    """Return the tally as a dict in key order."""
    return {name: tally[name] for name in sorted(tally)}
