"""The corpus and the questions of ``livemind bench retrieval``.

Owns where Python's documentation comes from (Debian's ``python3-doc``) and which page answers
which question. The questions are the project's own; ``names`` are what the answer is about.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...rag.search.ingest import Folder, IngestError
from ..bench import BenchmarkFailed

QUESTIONS = Path(__file__).parents[1] / "data" / "python_docs_questions.jsonl"
PACKAGE = "python3.11-doc"
INSTALLED = Path("/usr/share/doc")
QUICK_PARTS = ("tutorial", "faq", "howto", "reference")
_LISTS = ("genindex", "search.", "contents.", "py-modindex.")


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question, the pages that answer it, and names of which those pages have one."""

    text: str
    pages: tuple[str, ...]
    names: tuple[str, ...]


def load_questions(file: Path = QUESTIONS) -> list[AskedQuestion]:
    """Return the questions in the order of the file. Raises BenchmarkFailed."""
    found = []
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            pages, names = tuple(entry["pages"]), tuple(entry["names"])
            found.append(AskedQuestion(entry["question"], pages, names))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BenchmarkFailed(f"{file.name}: {type(exc).__name__}: {exc}") from None
    return found


def find_docs(given: Path | None, kept: Path, say: Callable[[str], None]) -> Path:
    """Return the folder of the documentation: the given one, the installed one, or a download.

    Args:
        given: ``--docs``.
        kept: where a download is unpacked and looked for first.
        say: is told before something is downloaded.

    Raises:
        BenchmarkFailed: there is none; the message says what to install.
    """
    if given is not None:
        if not (given / "tutorial").is_dir():
            raise BenchmarkFailed(f"--docs: {given} has no folder tutorial/, need Python's HTML")
        return given
    for folder in sorted(INSTALLED.glob("python3*/html")) + _unpacked(kept):
        if (folder / "tutorial").is_dir():
            return folder.resolve()
    say(f"downloading the Debian package {PACKAGE} into {kept}")
    _download(kept)
    if not (unpacked := _unpacked(kept)):
        raise BenchmarkFailed(f"{PACKAGE} has no usr/share/doc/python3*/html")
    return unpacked[0].resolve()


def pages_of(folder: Path, quick: bool) -> list[Path]:
    """Return the HTML files that are read; generated lists are not. Raises BenchmarkFailed."""
    try:
        files = Folder.at(folder).files
    except IngestError as exc:
        raise BenchmarkFailed(f"--docs: {exc}") from None
    found = []
    for path in files:
        parts = path.relative_to(folder).parts
        wanted = path.suffix == ".html" and not parts[0].startswith(_LISTS)
        if wanted and (not quick or parts[0] in QUICK_PARTS):
            found.append(path)
    return found


def answered_by(questions: Sequence[AskedQuestion], pages: frozenset[str]) -> list[AskedQuestion]:
    """Return the questions all of whose pages are there."""
    return [question for question in questions if pages.issuperset(question.pages)]


def _unpacked(kept: Path) -> list[Path]:
    return sorted(kept.glob("usr/share/doc/python3*/html"))


def _download(kept: Path) -> None:
    advice = f"install it (apt install {PACKAGE}) or name a copy with --docs DIR"
    if sys.platform != "linux":
        raise BenchmarkFailed(f"Python's documentation is not here: {advice}")
    kept.mkdir(parents=True, exist_ok=True)
    try:
        for command in (
            ["apt-get", "download", PACKAGE],
            ["sh", "-c", f"dpkg-deb -x {PACKAGE}_*.deb ."],
        ):
            subprocess.run(command, cwd=kept, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as exc:
        reason = f"{command[0]} failed ({type(exc).__name__})"
        raise BenchmarkFailed(f"{PACKAGE} could not be downloaded, {reason}: {advice}") from None
