"""One HTML page of one or more reports: no network, no script, light and dark, printable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..bench import BenchmarkFailed
from ..figures.answer import Json
from ..figures.estimates import interval
from ..figures.table import Table, cell, short
from ..names import BENCHES, offered
from .charts.style import DARK, Chart, variable
from .differences import Comparison, samples_of
from .reports import Report, doubts

RAW_CHARACTERS = 200_000
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One number of the summary as text."""

    key: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says of one report."""

    report: Report
    problems: list[str]
    facts: list[tuple[str, list[tuple[str, str]]]]
    summary: list[SummaryRow]
    unknown: list[str]
    charts: list[tuple[Chart, Markup]]
    tables: list[Table]
    raw: str


def page(reports: Sequence[Report], charts: Mapping[Path, Sequence[Chart]]) -> str:
    """Return the page; every text of a report is escaped.

    Raises:
        BenchmarkFailed: a report lacks what its benchmark always writes.
    """
    try:
        sections = [_section(report, charts.get(report.file, ())) for report in reports]
    except (KeyError, TypeError, AttributeError) as exc:
        raise BenchmarkFailed(f"not a whole report: {exc!r}") from exc
    return _render("report.html", title="LiveMind benchmark report", sections=sections)


def comparison_page(comparison: Comparison) -> str:
    """Return the page of two runs side by side."""
    return _render(
        "compare.html",
        title=f"LiveMind benchmark comparison: {comparison.a.name}",
        comparison=comparison,
        meaning=_meaning(comparison.a.name),
    )


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = lambda value: "?" if value is None else short(value)
    colors = [(variable(light), light, dark) for light, dark in DARK.items()]
    return environment.get_template(template).render(colors=colors, **values)


def _section(report: Report, charts: Sequence[Chart]) -> Section:
    content = report.content
    known = {key: value for key, value in report.summary.items() if value is not None}
    return Section(
        report,
        list(_problems(content)),
        list(_facts(content)),
        list(_summary(report, known)),
        [key for key in report.summary if key not in known],
        [(chart, Markup(chart.svg())) for chart in charts],
        _tables(content),
        "" if _has_turns(content) else _raw(content),
    )


def _has_turns(content: Json) -> bool:
    """Whether this is a ttft report with turns; that of its self-check has none."""
    return content["name"] == "ttft" and "turns" in content


def _tables(content: Json) -> list[Table]:
    """Return the tables that the benchmark prints, and what a page has room for besides."""
    tables = offered(content["name"], "tables")
    return [] if tables is None else list(tables(content))


def _problems(content: Json) -> Iterator[str]:
    yield from doubts(content, "The run")
    if _has_turns(content):
        yield from import_module("..ttft.tables", __package__).failures(content)
        return
    rows = [row for row in content.get("turns") or () if "outcome" in row]
    lost = Counter(row["outcome"] for row in rows if row["outcome"] != "completed")
    if lost:
        kinds = ", ".join(f"{count} {kind}" for kind, count in lost.items())
        yield f"{lost.total()} of {len(rows)} turns without a whole answer: {kinds}"


def _facts(content: Json) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    run = {"benchmark": content["name"], "commit": content.get("commit") or "unknown"}
    run["seed"] = content.get("seed")
    yield "Run", _told(run)
    yield "Machine", _told(content["machine"])
    yield "Versions", _told(content["versions"])
    yield "Configuration", _told(content["config"])
    harness: Json = content.get("harness") or {}
    if harness:
        checks = harness.get("self_check") or ()
        spreads = {f"error, {check['name']}": check["error_ms"] for check in checks}
        spreads |= {name: ms for name, ms in harness.items() if name != "self_check"}
        late = {
            f"{name.removesuffix('_ms').replace('_', ' ')}, ms": _levels(ms)
            for name, ms in spreads.items()
        }
        yield "How well the harness itself kept time", _told(late)


def _levels(ms: Json) -> str | None:
    known = [level for level in ("p50", "p99", "max") if ms.get(level) is not None]
    return ", ".join(f"{level} {short(ms[level])}" for level in known) or None


def _told(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(key.replace("_", " "), _text(value)) for key, value in values.items()]


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
        return ", ".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict | list) else cell(value)


def _summary(report: Report, known: Mapping[str, float]) -> Iterator[SummaryRow]:
    behind, meaning = samples_of(report), _meaning(report.name)
    for key, value in known.items():
        found = interval(behind[key]) if key in behind else None
        told = cell((found.low, found.high)) if found else ""
        yield SummaryRow(key, short(value), told, meaning(key))


def _meaning(name: str) -> Callable[[str], str]:
    """Return what tells a summary number's meaning: a function, or the benchmark's ``MEANING``."""
    if (found := offered(name, "meaning")) is not None:
        return found
    if name not in BENCHES:
        return lambda _: ""
    module = import_module(f"..{BENCHES[name][0]}", __package__)
    table: Mapping[str, str] = getattr(module, "MEANING", {})
    return lambda key: table.get(key, "")


def _raw(content: Json) -> str:
    rest = {key: content[key] for key in ("cases", "arms") if key in content}
    text = json.dumps(rest, indent=1) if rest else ""
    cut = len(text) - RAW_CHARACTERS
    return text if cut <= 0 else f"{text[:RAW_CHARACTERS]}\n… {cut} characters more in the file"
