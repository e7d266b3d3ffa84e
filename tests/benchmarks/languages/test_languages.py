"""The benchmark of languages: its facts, and what it makes of found passages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from livemind.benchmarks import cli
from livemind.benchmarks.languages import bench
from livemind.benchmarks.languages.bench import load_facts, summarise, tables
from livemind.benchmarks.reporting.charts.languages import charts
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.kinds import EncoderKind


def test_facts_have_every_topic_in_every_language_once() -> None:
    facts = load_facts()
    topics, languages = {f.topic for f in facts}, {f.language for f in facts}
    assert (len(topics), len(languages)) == (20, 12)
    assert len({(f.topic, f.language) for f in facts}) == len(facts) == 240
    assert all(f.passage and f.question and f.passage != f.question for f in facts)


def test_bench_counts_by_language_encoder_and_mode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kind = EncoderKind("fake", 64, FakeEmbedder, FakeEmbedder)
    monkeypatch.setattr(bench, "installed", lambda: [kind])
    file = tmp_path / "report.json"
    assert cli.main(["languages", "--quick", "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    assert [(c["language"], c["mode"]) for c in content["cases"][:3]] == [
        ("en", "dense"),
        ("en", "hybrid"),
        ("es", "dense"),
    ]
    english = content["cases"][1]
    assert english["own"] == english["english"]
    assert 3 <= english["own"] <= 20
    summary = content["summary"]
    assert summary == summarise(content["cases"])
    assert summary["languages.fake.hybrid.en.recall3"] == english["own"] / 20
    assert all(bench.meaning(key) for key in summary)
    console = Console(record=True, width=120)
    for table in tables(content):
        console.print(table)
    assert "fake, hybrid" in console.export_text()
    assert [chart.name for chart in charts(content)] == ["languages-fake"]


def test_summary_of_a_run_that_measured_nothing_is_empty() -> None:
    assert summarise([]) == {}
    assert tables({"cases": []}) == []
