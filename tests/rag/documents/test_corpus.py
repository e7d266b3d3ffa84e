"""From files to passages: what an expert will read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from livemind.rag.documents import corpus
from livemind.rag.documents.corpus import MAX_WORDS, CorpusError, read_corpus, split

HANDBOOK = """\
# Services

The services of the plant.

## Kestrel
The port of Kestrel is 361.
The owner of Kestrel is Mara.

## Osprey

The port of Osprey
is 80.
"""


def texts(content: str) -> list[str]:
    return [passage.text for passage in split("a.md", content.encode())]


def test_split_sections_are_heading_and_unwrapped_text() -> None:
    assert texts(HANDBOOK) == [
        "Services\nThe services of the plant.",
        "Services > Kestrel\nThe port of Kestrel is 361. The owner of Kestrel is Mara.",
        "Services > Osprey\nThe port of Osprey is 80.",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("plain text\nwrapped", ["plain text wrapped"], id="no heading"),
        pytest.param("", [], id="empty"),
        pytest.param("## Only a heading\n", [], id="heading without text"),
        pytest.param("## A\none\n\ntwo", ["A\none\ntwo"], id="paragraphs"),
        pytest.param("## A\nlist:\n- x\n- y", ["A\nlist:\n- x\n- y"], id="list keeps lines"),
        pytest.param(
            "## A\n| a |\n|---|\n| b |", ["A\n| a |\n|---|\n| b |"], id="table keeps lines"
        ),
        pytest.param("## A\n### Deeper\nx", ["A > Deeper\nx"], id="deeper heading is named too"),
        pytest.param("#hashtag", ["#hashtag"], id="hash without space is text"),
        pytest.param(
            "## A\n```\n## not a heading\n\n  x\n```\nafter",
            ["A\n```\n## not a heading\n\n  x\n```\nafter"],
            id="code",
        ),
    ],
)
def test_split_markdown_form_gives_these_passages(content: str, expected: list[str]) -> None:
    assert texts(content) == expected


def test_split_long_section_packs_whole_paragraphs_under_its_heading() -> None:
    paragraphs = [f"{name} " * 90 for name in ("a", "b", "c")]
    found = texts("## Long\n" + "\n\n".join(paragraphs))
    assert [text.split("\n")[0] for text in found] == ["Long", "Long"]
    assert [text.count("a ") + text.count("b ") + text.count("c ") for text in found] == [178, 89]


def test_split_long_paragraph_is_cut_at_sentences() -> None:
    sentences = [f"Sentence {number} has exactly six words." for number in range(50)]
    found = texts(" ".join(sentences))
    assert " ".join(found) == " ".join(sentences)
    assert all(text.endswith("words.") for text in found)
    assert max(len(text.split()) for text in found) <= MAX_WORDS


def test_split_endless_sentence_is_cut_at_words() -> None:
    words = [f"w{number}" for number in range(450)]
    found = texts(" ".join(words))
    assert [len(text.split()) for text in found] == [MAX_WORDS, MAX_WORDS, 50]
    assert " ".join(found).split() == words


def test_read_corpus_ids_depend_on_source_and_text_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
        (folder / "a.md").write_text("## A\nx\n## B\ny\n## A\nx\n")
    (second / "0.md").write_text("## A\nx\n")
    one, two = read_corpus(first), read_corpus(second)
    assert [p.text for p in one.passages] == ["A\nx", "B\ny"]
    assert {p.id for p in one.passages} < {p.id for p in two.passages}
    assert len(two.passages) == 3
    assert one.version != two.version
    assert read_corpus(first) == one


def test_read_corpus_sources_are_relative_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "sub/a.MD", "a.md"):
        (tmp_path / name).write_text(name)
    for ignored in (".hidden.md", "notes.pdf", ".git/x.md"):
        (tmp_path / ignored).parent.mkdir(exist_ok=True)
        (tmp_path / ignored).write_text("ignored")
    assert [p.source for p in read_corpus(tmp_path).passages] == ["a.md", "b.txt", "sub/a.MD"]


def test_read_corpus_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbf## A\nx")
    assert [p.text for p in read_corpus(tmp_path).passages] == ["A\nx"]


def test_read_corpus_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="nowhere: no such folder"):
        read_corpus(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [None, "", " \n\n"], ids=["no file", "empty", "blank"])
def test_read_corpus_without_text_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "a.md").write_text(content)
    with pytest.raises(CorpusError, match="no text in"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"\x89PNG\r\n\x1a\n\xff", "bad.md: not UTF-8 text", id="binary"),
        pytest.param(b"a\0b", "bad.md: not text .*NUL", id="nul"),
        pytest.param(b"x" * (corpus.MAX_FILE_BYTES + 1), "bad.md: larger than", id="oversize"),
    ],
)
def test_read_corpus_bad_file_is_refused_by_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "good.md").write_text("x")
    (tmp_path / "bad.md").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        read_corpus(tmp_path)


def test_read_corpus_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "link.md").symlink_to("../secret.txt")
    with pytest.raises(CorpusError, match=r"link\.md: a link that leads out"):
        read_corpus(folder)


def test_read_corpus_link_inside_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    (tmp_path / "b.md").symlink_to("a.md")
    assert [p.source for p in read_corpus(tmp_path).passages] == ["a.md", "b.md"]


def test_read_corpus_dangling_link_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.md").symlink_to("gone.md")
    with pytest.raises(CorpusError, match=r"a\.md: No such file"):
        read_corpus(tmp_path)


def test_read_corpus_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "MAX_FILES", 2)
    for number in range(3):
        (tmp_path / f"{number}.md").write_text("x")
    with pytest.raises(CorpusError, match="more than 2 files"):
        read_corpus(tmp_path)
