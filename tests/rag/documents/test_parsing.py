"""Formats into blocks, blocks into passages, and files that are refused."""

from __future__ import annotations

import asyncio
import gzip
import io
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from livemind.rag.documents.blocks import Block, UnreadableFile
from livemind.rag.documents.chunking import chunk, estimate_tokens
from livemind.rag.documents.parse_process import ParseProcess
from livemind.rag.documents.parsing import MAX_FILE_BYTES, format_of, parse


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        ("md", "# T\n\none\ntwo\n\n```\nx = 1\n```\n",
         [("one two", "text"), ("```\nx = 1\n```", "code")]),
        ("html", "<nav>menu</nav><h1>T</h1><p>one <b>two</b></p><pre>x = 1</pre>",
         [("one two", "text"), ("x = 1", "code")]),
        ("rst", "T\n=\n\none\ntwo::\n\n  x = 1\n", [("one two:", "text"), ("x = 1", "code")]),
    ],
)  # fmt: skip
def test_parse_keeps_headings_paragraphs_and_code(
    form: str, content: str, expected: list[tuple[str, str]]
) -> None:
    blocks = parse("f", content.encode(), form)
    assert [(b.text, b.kind) for b in blocks] == expected
    assert {b.headings for b in blocks} == {("T",)}


def test_parse_python_names_classes_and_functions() -> None:
    source = b"class A:\n    def f(self):\n        return 1\n\n\ndef g(): ...\n"
    blocks = parse("f.py", source, "py")
    assert [b.headings for b in blocks] == [("class A",), ("class A", "f"), ("g",)]


def test_parse_rst_inclusion_reads_no_file() -> None:
    blocks = parse("f.rst", b"Title\n=====\n\n.. include:: /etc/passwd\n\ntext\n", "rst")
    assert all("root:" not in b.text for b in blocks)


@pytest.mark.parametrize(
    ("form", "content", "why"),
    [
        ("pdf", bytes(range(256)) * 40, "not a PDF"),
        ("pdf", b"%PDF-1.7\n" + bytes(range(256)) * 40, "not a readable PDF"),
        ("txt", b"\xff\xfe\x00x", "not UTF-8"),
        ("txt", b"a\0b", "NUL"),
        ("md", gzip.compress(bytes(10_000_000)), "not UTF-8"),
        ("txt", b"  \n ", "no text"),
        ("txt", b"x" * (MAX_FILE_BYTES + 1), "the limit is"),
    ],
    ids=["rubbish", "pdf head", "binary", "nul", "bomb", "empty", "large"],
)
def test_parse_bad_file_is_refused_with_its_reason(form: str, content: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        parse("f", content, form)


def test_parse_pdf_reads_its_pages() -> None:
    from pypdf import PdfWriter

    empty = PdfWriter()
    empty.add_blank_page(100, 100)
    out = io.BytesIO()
    empty.write(out)
    with pytest.raises(UnreadableFile, match="no text"):
        parse("f.pdf", out.getvalue(), "pdf")


def test_format_of_unknown_ending_is_refused() -> None:
    assert format_of("a/b.HTM") == "html"
    with pytest.raises(UnreadableFile, match="exe"):
        format_of("x.exe")


def test_chunk_respects_the_limit_and_headings_and_is_stable() -> None:
    blocks = [Block(("A",), "One two three. " * 40), Block(("B",), "x = 1\n" * 90, "code")]
    first = chunk("d", blocks, max_tokens=50)
    assert first == chunk("d", blocks, max_tokens=50)
    assert {c.text.split("\n")[0] for c in first} == {"A", "B"}
    assert all(estimate_tokens(c.text.partition("\n")[2]) <= 60 for c in first)
    assert len({c.id for c in first}) == len(first)
    assert chunk("other", blocks, max_tokens=50)[0].id != first[0].id


async def test_parse_process_reads_refuses_and_survives_a_file_that_takes_too_long() -> None:
    process = ParseProcess(time_limit_s=20.0)
    try:
        (found,) = (await process.read("a.md", b"# T\n\nhello\n", "md")).chunks
        assert found.text == "T\nhello"
        with pytest.raises(UnreadableFile, match="not a PDF"):
            await process.read("a.pdf", b"rubbish", "pdf")
        process._time_limit_s = 0.0
        with pytest.raises(UnreadableFile, match="takes longer"):
            await process.read("a.md", b"# T\n\nhello\n" * 1000, "md")
    finally:
        await process.aclose()


async def test_parse_process_is_started_beside_the_loop_and_a_cancelled_start_leaves_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    start, loop, begun = ParseProcess._start, asyncio.get_running_loop(), asyncio.Event()

    def recorded(process: ParseProcess) -> object:
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(begun.set)
        return start(process)

    monkeypatch.setattr(ParseProcess, "_start", recorded)
    process = ParseProcess()
    reading = asyncio.create_task(process.read("a.md", b"hello", "md"))
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert process._pool is None
    (found,) = (await process.read("a.md", b"hello", "md")).chunks
    await process.aclose()
    assert found.text == "hello"
    assert threading.main_thread() not in threads


def test_parse_process_ends_with_its_parent_even_when_that_is_killed() -> None:
    program = (
        "import asyncio, os\n"
        "from livemind.rag.documents.parse_process import ParseProcess\n"
        "async def main():\n"
        "    await ParseProcess().read('a', b'hi', 'txt')\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    # The parsing process inherits stdout: reading it ends when both are gone.
    killed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=8)
    assert killed.returncode == -9


def test_process_of_a_program_that_every_new_process_runs_again_says_so(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "from livemind.rag.documents.parse_process import ParseProcess\n"
        'asyncio.run(ParseProcess().read("a.txt", b"hello", "txt"))\n'
    )
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert 'if __name__ == "__main__"' in done.stderr.splitlines()[-1]
