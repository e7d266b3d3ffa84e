"""docs/operations.md: its metrics are those that are exported, its messages those of the code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import livemind
from livemind import (
    Abstention,
    ConsensusRecord,
    ExpertState,
    Ledger,
    ResponseDone,
    RouteUpdated,
    Span,
    Timings,
    Usage,
)
from livemind.orchestrator.server.metrics import Metrics
from livemind.rag.bridge.metrics import BridgeMetrics

ROOT = Path(livemind.__file__).parent
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PARTS = ("orchestrator", "backends", "rag")
Row = tuple[str, frozenset[str]]


def documented(prefix: str = "") -> dict[str, Row]:
    rows = re.findall(r"^\| `(livemind_\w+)` \| (\w+) \| ([^|]+) \|", PAGE, re.MULTILINE)
    return {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in rows
        if name.startswith("livemind_bridge_") == bool(prefix)
    }


def exported(families: Iterable[Metric]) -> Iterator[tuple[str, Row]]:
    for family in families:
        labels = {label for sample in family.samples for label in sample.labels}
        yield family.name, (family.type, frozenset(labels - {"le"}))


def test_metrics_table_has_what_the_server_exports() -> None:
    metrics = Metrics()
    metrics.watch_routing(lambda: {"routing": {"hits": 1, "misses": 1}})
    metrics.watch_experts(lambda: [ExpertState("e", "ready")])
    metrics.request("/v1/models", "GET", 200)
    metrics.event(RouteUpdated(1, "e", "d", 1.0, (), stable=True, ms=1.0))
    record = ConsensusRecord("vote", (Span("e", "quorum", 1),), (Abstention("f", "late"),), 1)
    metrics.turn_done(
        ResponseDone(
            "r",
            1,
            "completed",
            "e",
            usage=Usage(1, 1),
            timings=Timings(ttft_ms=1.0),
            ledger=Ledger(prefill_speculated=1),
            consensus=record,
        )
    )
    families = text_string_to_metric_families(metrics.render().decode())
    found = {name: row for name, row in exported(families) if not name.endswith("_created")}
    assert documented() == found


def test_metrics_table_has_what_the_bridge_exports() -> None:
    metrics = BridgeMetrics()
    metrics.answered({"search": 1.0}, ())
    metrics.wrote("upsert", 1)
    families = text_string_to_metric_families(metrics.text({"default": 1}).decode())
    found = {name: row for name, row in exported(families) if not name.endswith("_created")}
    assert documented("bridge") == found


@pytest.fixture(scope="module")
def source() -> str:
    """Return all sources, strings that are written over two lines joined."""
    files = (path for part in PARTS for path in (ROOT / part).rglob("*.py"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_troubleshooting_messages_are_those_of_the_code(source: str) -> None:
    table = PAGE.partition("| message | cause | remedy |")[2]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(messages) > 20
    pieces = [piece.strip() for message in messages for piece in message.split("…")]
    assert [piece for piece in pieces if piece not in source] == []
