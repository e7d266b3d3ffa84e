"""The benchmark of languages: its facts, and what it makes of found passages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from livemind.benchmarks import cli
from livemind.benchmarks.languages import bench
from livemind.benchmarks.languages.bench import load_facts, passages, routes, summarise, tables
from livemind.benchmarks.languages.routing import BLIND, PROMPTS, load_registers, routing_summary
from livemind.benchmarks.reporting.charts.languages import charts
from livemind.orchestrator.routing.dataset import DOMAINS
from livemind.orchestrator.routing.model import load_model
from livemind.orchestrator.routing.training.texts import training_prompts, tuning_prompts
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.kinds import EncoderKind


def test_facts_have_every_topic_in_every_language_once() -> None:
    facts = load_facts()
    topics, languages = {f.topic for f in facts}, {f.language for f in facts}
    assert (len(topics), len(languages)) == (20, 12)
    assert len({(f.topic, f.language) for f in facts}) == len(facts) == 240
    assert all(f.passage and f.question and f.passage != f.question for f in facts)


@pytest.mark.parametrize("file", [PROMPTS, *BLIND])
def test_registers_have_every_domain_in_the_languages_and_none_of_the_training_prompts(
    file: Path,
) -> None:
    prompts = load_registers(file)
    assert len({prompt.text for prompt in prompts}) == len(prompts) >= 400
    assert len({prompt.language for prompt in prompts}) >= 15
    for language, least in (("en", 200), ("es", 120)):
        mine = [prompt for prompt in prompts if prompt.language == language]
        assert len(mine) >= least
        assert {prompt.domain for prompt in mine} == set(DOMAINS)
    learned = {prompt.text.lower() for prompt in (*training_prompts(), *tuning_prompts())}
    assert not learned & {prompt.text.lower() for prompt in prompts}


def test_bench_counts_by_language_encoder_and_mode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kind = EncoderKind("fake", 64, FakeEmbedder, FakeEmbedder)
    monkeypatch.setattr(bench, "installed", lambda: [kind])
    model = replace(load_model(), encoder="fake")
    monkeypatch.setattr(bench, "load_model", {"fake": model}.__getitem__)
    file = tmp_path / "report.json"
    assert cli.main(["languages", "--quick", "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    found = passages(content["cases"])
    assert [(c["language"], c["mode"]) for c in found[:3]] == [
        ("en", "dense"),
        ("en", "hybrid"),
        ("es", "dense"),
    ]
    english = found[1]
    assert english["own"] == english["english"]
    assert 3 <= english["own"] <= 20
    summary = content["summary"]
    routed = routes(content["cases"])
    assert summary == routing_summary(routed) | summarise(found)
    assert {case["reads"] for case in routed} == {"every language", "English and Spanish"}
    assert all(case["lasted"] <= case["fired"] <= case["prompts"] for case in routed)
    assert summary["languages.fake.hybrid.en.recall3"] == english["own"] / 20
    assert all(bench.meaning(key) for key in summary)
    console = Console(record=True, width=120)
    for table in tables(content):
        console.print(table)
    assert "fake, hybrid" in console.export_text()
    assert [chart.name for chart in charts(content)] == ["languages-routing-fake", "languages-fake"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            '{"text": "a", "domain": "coding", "language": "en"}\n{"text": "b"}',
            "line 2: no 'domain'",
        ),
        ('{"text": "a", "domain": "code", "language": "en"}', "line 1: domain 'code', need one of"),
        ("[1]", "line 1: "),
        ("{", "line 1: "),
    ],
)
def test_bench_prompts_that_are_none_are_refused_by_line(
    lines: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(lines)
    with pytest.raises(SystemExit):
        cli.main(["languages", "--prompts", str(file)])
    assert message in capsys.readouterr().err


def test_summary_of_a_run_that_measured_nothing_is_empty() -> None:
    assert summarise([]) == {}
    assert tables({"cases": []}) == []
