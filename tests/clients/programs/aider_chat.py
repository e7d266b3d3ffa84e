"""Aider, the command, asked about a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = ("aider-chat", "litellm", "openai")
LINES = (
    'OPENAI_API_BASE="http://HOST:8000/v1" OPENAI_API_KEY=any aider --model openai/auto '
    "--no-show-model-warnings"
)
QUIET = (
    *("--yes-always", "--no-git", "--no-pretty", "--no-check-update", "--analytics-disable"),
    *("--no-show-release-notes", "--no-show-model-warnings", "--no-detect-urls"),
    *("--map-tokens", "0", "--chat-mode", "ask", "--no-suggest-shell-commands"),
)


def _ask(url: str, model: str, *words: str) -> None:
    with TemporaryDirectory() as folder:
        Path(folder, "greet.py").write_text('print("hello")\n')
        aider = Path(sys.executable).with_name("aider")
        asked = [*QUIET, *words, "--model", f"openai/{model}", "--message", "What does it print?"]
        where = {"OPENAI_API_BASE": url, "OPENAI_API_KEY": "any", "HOME": folder}
        ended = subprocess.run(
            [aider, *asked, "greet.py"],
            cwd=folder,
            env={**os.environ, **where},
            capture_output=True,
            text=True,
            timeout=200,
        )
        history = Path(folder, ".aider.chat.history.md").read_text()
        answer = history.partition("#### What does it print?")[2]
        assert ended.returncode == 0, ended.stderr[-200:]
        assert "Tokens:" in answer, answer[-200:]
        assert answer.partition("> Tokens:")[0].strip(), "no answer"


def plain(url: str, model: str) -> None:
    """A question, answered whole."""
    _ask(url, model, "--no-stream")


def stream(url: str, model: str) -> None:
    """The same, as it comes."""
    _ask(url, model, "--stream")
