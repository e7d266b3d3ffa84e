"""What the documents show as code: Python compiles, JSON is JSON, commands and options exist.

A Python block behind the line ``<!-- runs -->`` is run, from the root of the tree.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import livemind
from livemind import load_settings
from livemind.benchmarks.names import AFTERWARDS, BENCHES
from livemind.benchmarks.reporting import outputs
from livemind.orchestrator.cli import entry

ROOT = Path(livemind.__file__).parent
# The reference shows signatures, which are no statements; a test holds it against the docstrings.
SIGNATURES = ROOT / "docs" / "sdk.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*.md")])
_BLOCK = re.compile(r"^(<!-- runs -->\n+)?```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?<![\w.-])livemind +((?:[a-z]+ ?)+(?: *[^|;&`]*)?)")
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *languages: str) -> Iterator[tuple[str, bool]]:
    for runs, language, code in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield code, bool(runs)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words behind ``livemind`` of each command in a block, indented or in a sentence."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    shown = [code for _, language, code in _BLOCK.findall(text) if language != "python"]
    prose = _BLOCK.sub("", text)
    shown += re.findall(r"^ {4}(.*livemind .*)$", prose, re.MULTILINE)
    shown += re.findall(r"`((?:\.venv/bin/)?livemind [^`]+)`", re.sub(r"\n", " ", prose))
    for code in shown:
        for line in code.splitlines():
            for found in _COMMAND.findall(line.partition(" #")[0]):
                yield found.split()


@cache
def parser_of(bench: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    module = import_module(f"livemind.benchmarks.{BENCHES[bench][0]}")
    module.add_arguments(parser)
    if bench not in AFTERWARDS:
        outputs.add_arguments(parser)
    return parser


def unknown(words: list[str]) -> str | None:
    """Return the first subcommand or option that does not exist."""
    parser = entry.parser()
    rest = list(words)
    while rest and (choices := subcommands(parser)):
        word = rest.pop(0)
        if not re.fullmatch("[a-z]+", word):  # a placeholder
            return None
        if word not in choices:
            return word
        parser = choices[word]
        if word == "bench" and rest:
            if rest[0] not in BENCHES:
                return rest[0] if re.fullmatch("[a-z-]+", rest[0]) else None
            parser = parser_of(rest.pop(0))
    options = {text for action in parser._actions for text in action.option_strings}
    for word in rest:
        name = word.partition("=")[0].rstrip(".,:")
        if name.startswith("--") and name not in options:
            return name
    return None


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


@names
def test_python_blocks_of_page_compile_and_marked_ones_run(page: Path) -> None:
    if page == SIGNATURES:
        return
    for code, runs in blocks(page, "python"):
        compile(code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if runs:
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr


@names
def test_json_blocks_of_page_are_json_and_configurations_load(page: Path, tmp_path: Path) -> None:
    found = [code for code, _ in blocks(page, "json")]
    found += re.findall(r'^(\{"experts".*\})$', page.read_text(encoding="utf-8"), re.MULTILINE)
    for code in found:
        value = json.loads(code)
        if "experts" in value and isinstance(value["experts"][0], dict):
            file = tmp_path / "config.json"
            file.write_text(code, encoding="utf-8")
            load_settings(file)


@names
def test_commands_of_page_exist_with_their_options(page: Path) -> None:
    assert [words for words in commands(page) if unknown(words) is not None] == []


def test_command_check_finds_what_does_not_exist() -> None:
    assert unknown(["serve", "--config", "my.json", "--log-level", "info"]) is None
    assert unknown(["bridge", "ingest", "docs", "--data", "var/bridge"]) is None
    assert unknown(["bench", "ttft", "--quick", "--json", "FILE"]) is None
    assert unknown(["server"]) == "server"
    assert unknown(["bridge", "injest", "docs"]) == "injest"
    assert unknown(["serve", "--conf", "my.json"]) == "--conf"
    assert unknown(["bench", "ttft", "--quik"]) == "--quik"
    found = {" ".join(words[:2]) for page in PAGES for words in commands(page)}
    assert {"bench ttft", "bridge ingest", "config show", "zoo random"} <= found
