from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from livemind.benchmarks import cli
from livemind.benchmarks.bench import UsageError
from livemind.benchmarks.figures.table import short
from livemind.benchmarks.names import BENCHES
from livemind.benchmarks.reporting import outputs

from ..ttft_content import content

Json = dict[str, Any]
EVIL = "<script>alert(1)</script> & \"quotes\" 'here'"
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Keeps what matters: tags that load something, ids, text, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags = Counter[str]()
        self.ids = Counter[str]()
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids[value or ""] += 1
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}:
                self.links.append(value or "")
            assert not name.startswith("on"), name

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _report(tmp_path: Path, report: Json, *more: str) -> int:
    file = tmp_path / "in.json"
    file.write_text(json.dumps(report))
    return cli.main(["report", str(file), *more])


def _page(tmp_path: Path, report: Json) -> tuple[str, Page]:
    out = tmp_path / "out.html"
    assert _report(tmp_path, report, "--html", str(out)) == 0
    return out.read_text(), Page(out.read_text())


def test_page_shows_every_part_and_loads_nothing(tmp_path: Path) -> None:
    report = content(conversations=8, experts=("random", "embedded"))
    text, page = _page(tmp_path, report)
    assert page.open == []
    assert [link for link in page.links if not link.startswith("#")] == []
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == 0
    assert "@import" not in text
    assert "url(http" not in text
    assert max(page.ids.values()) == 1
    assert page.tags["svg"] == 10
    assert "prefers-color-scheme: dark" in text
    listed = page.text[page.text.index("Summary") : page.text.index("Pictures")]
    known, unknown = listed.split("Not measured in this run")
    for key, value in report["summary"].items():
        assert key in (unknown if value is None else known), key
        assert value is None or short(value) in known
    for told in ("Time to first token", "One turn", "What the gain costs", "Time between pieces"):
        assert text.count(f">{told}") >= 2, told
    assert "Every turn (48)" in page.text
    for told in ("0123abc", "max tokens 32", "cpu one", "python 3.11.7", "loop late, ms"):
        assert told in page.text
    assert "Nothing was interrupted" in page.text


def test_page_tells_failures_first_and_escapes_them(tmp_path: Path) -> None:
    report = content(conversations=12, failing={3: EVIL, 5: EVIL})
    report |= {"interrupted": True, "failure": EVIL}
    report["cases"][0]["label"] = EVIL
    report["config"][EVIL] = EVIL
    report["arms"]["B"]["title"] = EVIL
    report["turns"][0]["error"] = EVIL
    text, page = _page(tmp_path, report)
    assert page.tags["script"] == 0
    assert "<script" not in text
    before_summary = page.text[: page.text.index("Summary")]
    for told in ("was interrupted", "could not go on", "of 12 turns 2 failed", "differ from A's"):
        assert told in before_summary
    assert page.text.count("alert(1)") >= 5
    assert text.count('<tr class="lost">') == 2


def test_page_without_any_answer_still_says_what_failed(tmp_path: Path) -> None:
    report = content(conversations=2, failing={0: "gone", 1: "gone"})
    report["turns"] = [row for row in report["turns"] if row["arm"] == "E"]
    _, page = _page(tmp_path, report)
    assert "no values" in page.text
    assert "of 2 turns 2 failed (gone)" in page.text


def test_page_of_another_benchmark_has_its_summary_and_measurements(tmp_path: Path) -> None:
    report = content(conversations=1)
    kept = ("schema", "commit", "machine", "versions", "seed", "config")
    other = {key: report[key] for key in kept}
    other |= {"name": "another", "summary": {"kernels.x": 0.04}, "cases": [{"question": EVIL}]}
    _, page = _page(tmp_path, other)
    assert "kernels.x" in page.text
    assert "0.0400" in page.text
    assert "alert(1)" in page.text
    assert page.tags["script"] == 0


def test_page_of_a_self_check_has_its_numbers(tmp_path: Path) -> None:
    report = content(conversations=1)
    for part in ("turns", "arms", "interference", "harness"):
        del report[part]
    report["cases"] = [{"name": "chat", "error_ms": {"p50": 0.25}}]
    report["summary"] = {"harness.error_ms.p50": 0.25}
    _, page = _page(tmp_path, report)
    assert "error of the harness's own clock" in page.text
    assert '"p50": 0.25' in page.text


def test_page_of_another_benchmark_has_the_meanings_of_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("livemind.benchmarks.other_bench")
    module.__dict__["MEANING"] = {"other.x": f"how far x goes {EVIL}"}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(BENCHES, "other", ("other_bench", "told"))
    report = {**content(conversations=1), "name": "other", "summary": {"other.x": 1.0}}
    _, page = _page(tmp_path, report)
    assert "how far x goes <script>" in page.text
    assert page.tags["script"] == 0


def test_page_shows_load_beside_ttft(tmp_path: Path) -> None:
    report = content(conversations=6)
    common: Json = {"round": 0, "user": 0, "outcome": "completed"}
    rows: list[Json] = [
        {**common, "sessions": n, "mode": mode, "turn": t, "ttft_ms": 10.0 * n + t}
        for n in (1, 4, 16)
        for mode in ("off", "on")
        for t in range(8)
    ]
    rows.append({**rows[0], "outcome": "failed", "ttft_ms": None})
    load = {**report, "name": "load", "turns": rows, "cases": [], "summary": {}}
    files = [tmp_path / "ttft.json", tmp_path / "load.json"]
    for file, one in zip(files, (report, load), strict=True):
        file.write_text(json.dumps(one))
    out, plots = tmp_path / "out.html", tmp_path / "plots"
    arguments = ["report", *map(str, files), "--html", str(out), "--plots", str(plots)]
    assert cli.main(arguments) == 0
    assert "Time to first token against load, p95" in out.read_text()
    assert "1 of 49 turns without a whole answer: 1 failed" in out.read_text()
    names = {file.name for file in plots.iterdir()}
    assert {"ttft-load-p50.png", "ttft-load-p95.png", "ttft-load-p99.png"} < names
    assert len(names) == 8
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in plots.iterdir())


def test_report_of_half_a_report_fails_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = content(conversations=2)
    del report["cases"][0]["arms"]["E"]["ttft_ms"]
    out = tmp_path / "out.html"
    plots = tmp_path / "plots"
    assert _report(tmp_path, report, "--html", str(out), "--plots", str(plots)) == 1
    assert "not a whole report: KeyError('ttft_ms')" in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.json"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--html", "nowhere/out.html", "there is no folder nowhere"),
        ("--html", ".", "is a folder"),
        ("--plots", "in.json", "in.json is not a folder"),
        (None, None, "need --html FILE or --plots DIR"),
    ],
)
def test_report_refuses_a_place_that_cannot_be_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str | None,
    value: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        _report(tmp_path, content(conversations=1), *((option, value) if option and value else ()))
    assert message in capsys.readouterr().err


class _Measures:
    """A benchmark of some name."""

    def __init__(self, report: Json | None, ends: BaseException | None = None) -> None:
        self.report, self.ends, self.ran = report, ends, False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", type=Path)

    def run(self, options: argparse.Namespace, console: Console) -> int:
        self.ran = True
        if self.report is not None:
            options.json.write_text(json.dumps(self.report))
        if self.ends is not None:
            raise self.ends
        return 0


def test_measuring_with_html_draws_what_was_measured_and_keeps_no_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_load", lambda _: _Measures(content(conversations=2)))
    out = tmp_path / "out.html"
    assert cli.main(["ttft", "--html", str(out)]) == 0
    assert "Every turn (6)" in out.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["out.html"]


def test_measuring_interrupted_draws_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = _Measures({**content(conversations=2), "interrupted": True}, KeyboardInterrupt())
    monkeypatch.setattr(cli, "_load", lambda _: bench)
    out = tmp_path / "out.html"
    assert cli.main(["ttft", "--html", str(out)]) == 130
    assert "The run was interrupted" in out.read_text()


def test_measuring_that_wrote_nothing_draws_no_older_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(content(conversations=2)))
    monkeypatch.setattr(cli, "_load", lambda _: _Measures(None))
    out = tmp_path / "out.html"
    assert cli.main(["ttft", "--html", str(out), "--json", str(kept)]) == 0
    assert not out.exists()


def test_measuring_without_matplotlib_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = _Measures(content(conversations=2))
    monkeypatch.setattr(cli, "_load", lambda _: bench)
    monkeypatch.setattr(outputs, "find_spec", lambda name: None if name == "matplotlib" else name)
    with pytest.raises(SystemExit):
        cli.main(["ttft", "--html", str(tmp_path / "out.html")])
    assert "--html: needs matplotlib: make install, or pip install" in capsys.readouterr().err
    assert not bench.ran


def test_check_without_options_needs_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "find_spec", lambda _: None)
    outputs.check(argparse.Namespace(html=None, plots=None))
    with pytest.raises(UsageError, match="matplotlib and jinja2"):
        outputs.check(argparse.Namespace(html=None, plots=Path("plots")))
