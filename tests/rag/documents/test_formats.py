"""What is read of each format, and what never becomes a passage."""

from __future__ import annotations

import io
import zipfile

import pytest

from livemind.rag.documents.blocks import UnreadableFile
from livemind.rag.documents.chunking import chunk, estimate_tokens
from livemind.rag.documents.parse_process import parse_and_chunk
from livemind.rag.documents.parsing import metadata_of, parse

PAGE = """<!doctype html><html><head><title>Kestrel</title><style>p { color: red }</style>
<script>var secret = 1;</script></head><body>
<nav><a href="/">home</a></nav>
<main><h1>Ports</h1>
<p>The port is 785.<script>track("p")</script><style>b{}</style> It is fixed.</p>
<div>Loose <span hidden>never shown</span>words<noscript>enable scripts</noscript></div>
<p aria-hidden="true">decoration</p>
<table><caption>All ports</caption>
<tr><th>Name</th><th>Port</th></tr>
<tr><td>Kestrel</td><td>785</td></tr>
<tr><td>Heron <table><tr><td>wading</td><td>bird</td></tr></table></td><td>361</td></tr>
</table>
<pre>x = <script>no()</script>1</pre></main>
<footer>imprint</footer></body></html>"""


def texts(form: str, content: str | bytes) -> list[str]:
    raw = content if isinstance(content, bytes) else content.encode()
    return [block.text for block in parse(f"f.{form}", raw, form)]


def test_html_scripts_styles_and_what_is_hidden_are_no_text() -> None:
    assert texts("html", PAGE) == [
        "The port is 785. It is fixed.",
        "Loose words",
        "All ports",
        "Name: Kestrel; Port: 785",
        "Name: Heron; Port: 361",
        "wading | bird",
        "x = 1",
    ]


def test_html_of_scripts_alone_has_no_text() -> None:
    with pytest.raises(UnreadableFile, match="no text"):
        parse("f.html", b"<script>var a = 1</script><style>b{}</style>", "html")


def test_html_rows_of_a_table_without_a_header_are_parted_by_bars() -> None:
    assert texts("html", "<table><tr><td>a</td><td>b</td></tr></table>") == ["a | b"]
    assert texts("html", "<table><tr><th>a</th><th>b</th></tr></table>") == ["a | b"]


def test_html_deeply_nested_tables_are_each_read_once() -> None:
    page = "<table><tr><td>x</td><td>" * 30 + "inner" + "</td></tr></table>" * 30
    assert texts("html", page) == ["x"] * 29 + ["x | inner"]


@pytest.mark.parametrize(
    ("front", "told"),
    [
        ("title: Ports\nyear: 2024\ndraft: false\nratio: 0.5",
         {"title": "Ports", "year": 2024, "draft": False, "ratio": 0.5}),
        ("tags: [a, b]\ndate: 2024-05-06", {"tags": "a, b", "date": "2024-05-06"}),
        ("nested: {a: 1}\n1: x\nbad key: y\nempty:", {}),
        ("", {}),
        ("long: " + "x" * 600, {"long": "x" * 512}),
    ],
)  # fmt: skip
def test_markdown_front_matter_is_metadata_and_no_passage(
    front: str, told: dict[str, object]
) -> None:
    text = f"---\n{front}\n---\n# T\n\nhello\n"
    assert texts("md", text) == ["hello"]
    assert metadata_of(text.encode(), "md") == told
    assert parse_and_chunk("d", text.encode(), "md", estimate_tokens, 200).metadata == told


@pytest.mark.parametrize(
    "text", ["---\nhello\n---\nthere\n", "---\n: : [\n---\nhello there", "--- no\n\nhello there"]
)
def test_markdown_that_only_looks_like_front_matter_is_text(text: str) -> None:
    blocks = parse("f.md", text.encode(), "md")
    assert any(
        "hello" in (*block.headings, block.text)[-1] or "hello" in block.headings
        for block in blocks
    )
    assert metadata_of(text.encode(), "md") == {}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_rows_carry_the_names_of_their_columns(delimiter: str) -> None:
    rows = [["name", "port"], ["Kestrel", "785"], ["", ""], ["Heron", "361"]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert texts("csv", text) == ["name: Kestrel; port: 785", "name: Heron; port: 361"]


def test_csv_quoted_cells_keep_delimiters_and_lines() -> None:
    assert texts("csv", 'a,b\n"x, y","one\ntwo"\n') == ["a: x, y; b: one two"]


def test_json_lists_members_and_lines_are_records() -> None:
    assert texts("json", '[{"name": "Kestrel", "at": {"port": 785}}, {"tags": ["a", "b"]}]') == [
        "name: Kestrel\nat.port: 785",
        "tags: a, b",
    ]
    blocks = parse("f.json", b'{"kestrel": {"port": 785}, "on": true, "off": null}', "json")
    assert [(block.headings, block.text) for block in blocks] == [
        (("kestrel",), "port: 785"),
        (("on",), "true"),
    ]
    assert texts("jsonl", '{"q": "a"}\n\n{"q": "b", "n": 2}\n') == ["q: a", "q: b\nn: 2"]


@pytest.mark.parametrize(
    ("form", "content", "why"),
    [
        ("json", "{", "not JSON, line 1"),
        ("json", "[" * 100_000, "not JSON|nested"),
        ("json", '{"a":' * 40 + "1" + "}" * 40, "nested deeper than 32"),
        ("jsonl", '{"a": 1}\nx\n', "line 2"),
        ("docx", b"PK rubbish", "not a readable archive"),
        ("epub", b"", "not a readable archive"),
    ],
)
def test_format_that_is_not_what_it_claims_is_refused(
    form: str, content: str | bytes, why: str
) -> None:
    with pytest.raises(UnreadableFile, match=why):
        texts(form, content)


def test_docx_headings_paragraphs_and_tables_are_read() -> None:
    from docx import Document

    document = Document()
    document.add_heading("Birds", 1)
    document.add_paragraph("A heron stands still.")
    document.add_heading("Ports", 2)
    table = document.add_table(2, 2)
    for at, word in enumerate(("name", "port", "Kestrel", "785")):
        table.cell(at // 2, at % 2).text = word
    out = io.BytesIO()
    document.save(out)
    blocks = parse("f.docx", out.getvalue(), "docx")
    assert [(block.headings, block.text) for block in blocks] == [
        (("Birds",), "A heron stands still."),
        (("Birds", "Ports"), "name: Kestrel; port: 785"),
    ]


def epub(*chapters: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="in/book.opf"/></rootfiles></container>',
        )
        items = "".join(f'<item id="c{n}" href="c%20{n}.xhtml"/>' for n in range(len(chapters)))
        order = "".join(f'<itemref idref="c{n}"/>' for n in reversed(range(len(chapters))))
        package = f"<package><manifest>{items}</manifest><spine>{order}</spine></package>"
        archive.writestr("in/book.opf", package)
        for number, chapter in enumerate(chapters):
            archive.writestr(f"in/c {number}.xhtml", chapter)
    return out.getvalue()


def test_epub_chapters_are_read_in_the_order_of_the_spine() -> None:
    book = epub("<h1>Last</h1><p>end<script>x()</script></p>", "<h1>First</h1><p>begin</p>")
    blocks = parse("f.epub", book, "epub")
    assert [(block.headings, block.text) for block in blocks] == [
        (("First",), "begin"),
        (("Last",), "end"),
    ]


def test_epub_without_its_chapters_or_far_too_large_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="EPUB"):
        parse("f.epub", epub().replace(b"book", b"beek"), "epub")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big", bytes(300 << 20))
    with pytest.raises(UnreadableFile, match="300 MiB inside, at most"):
        parse("f.epub", out.getvalue(), "epub")


def test_chunk_text_without_blanks_is_cut_at_its_sentences() -> None:
    sentences = [f"これは公園の池のそばに立っている鳥{n:02}についての説明です。" for n in range(37)]
    (block,) = parse("f.txt", "".join(sentences).encode(), "txt")
    found = chunk("d", [block])
    assert len(found) > 3
    assert "".join(one.text for one in found) == block.text
    assert all(one.text.endswith("。") for one in found)
    assert all(one.tokens <= 220 for one in found)
