"""``livemind bench retrieval`` on a corpus of four pages, and its arithmetic on results by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livemind.benchmarks.bench import BenchmarkFailed
from livemind.benchmarks.cli import main
from livemind.benchmarks.retrieval import bench
from livemind.benchmarks.retrieval.docs import (
    AskedQuestion,
    answered_by,
    find_docs,
    load_questions,
    pages_of,
)
from livemind.benchmarks.retrieval.early import equal_at, hidden_part, sufficient_at
from livemind.benchmarks.retrieval.play import in_time, play
from livemind.benchmarks.retrieval.quality import summarise
from livemind.benchmarks.retrieval.scale import scale
from livemind.rag.base import Passage
from livemind.rag.encoder.fake import FakeEmbedder

PAGES = {
    "tutorial/reading.html": "open a text file and read every line of it",
    "tutorial/errors.html": "catch an exception and go on",
    "faq/speed.html": "make a slow program fast with a profiler",
    "genindex-A.html": "abs all any ascii",
}


def found(*names: str) -> tuple[Passage, ...]:
    """Return passages of the pages; a passage is called as its page."""
    return tuple(Passage(name, name, f"text of {name} " * 20, 0.0) for name in names)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for name, text in PAGES.items():
        page = tmp_path / "docs" / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"<html><body><div role='main'><h1>Page</h1><p>{text}</p></div></body>")
    return tmp_path / "docs"


def test_questions_are_many_and_each_has_its_own_words_and_pages() -> None:
    questions = load_questions()
    assert len(questions) >= 150
    assert len({question.text for question in questions}) == len(questions)
    assert all(question.pages and question.names for question in questions)
    assert {page.split("/")[0] for q in questions for page in q.pages} >= {
        "library", "reference", "tutorial", "howto", "faq", "c-api",
    }  # fmt: skip


def test_pages_generated_lists_are_not_read(docs: Path) -> None:
    names = {page.relative_to(docs).as_posix() for page in pages_of(docs, quick=False)}
    assert names == set(PAGES) - {"genindex-A.html"}


def test_answered_by_missing_page_leaves_the_question_out() -> None:
    questions = load_questions()
    left = answered_by(questions, frozenset({"library/csv.html"}))
    assert left
    assert {page for question in left for page in question.pages} == {"library/csv.html"}


def test_find_docs_wrong_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match=r"--docs: .* tutorial/"):
        find_docs(tmp_path, tmp_path / "kept", lambda told: None)


def test_find_docs_no_package_manager_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livemind.benchmarks.retrieval.docs.INSTALLED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    told: list[str] = []
    with pytest.raises(BenchmarkFailed, match=r"apt install .*--docs DIR"):
        find_docs(None, tmp_path / "kept", told.append)
    assert len(told) == 1


def test_sufficient_at_counts_from_the_last_prefix_that_missed() -> None:
    results = {2: found("a"), 3: found("b"), 4: found("c", "a"), 5: found("a", "b")}
    assert sufficient_at(results, ["a"]) == 4
    assert sufficient_at(results, ["elsewhere"]) == 5  # the best passage settles at the end
    assert equal_at(results) == 5
    assert equal_at(results | {4: found("b", "a")}) == 4


def test_hidden_part_two_words_hide_600_ms_and_one_word_half() -> None:
    assert hidden_part(8, 10, 0.6) == 1.0
    assert hidden_part(9, 10, 0.6) == pytest.approx(1 / 3 / 0.6)
    assert hidden_part(10, 10, 0.6) == 0.0


TEXT = "words of which every one has twelve characters in all"  # 40 with the eighth


def test_play_documents_of_a_text_that_says_enough_stand_before_the_end() -> None:
    results = {n: found("a", "b", "c") for n in range(2, 11)}
    played = play(TEXT, results, 0.02, 0.5)
    assert played.settled
    assert played.came_back == (2, 3, 4, 5, 6, 7, 8, 9)
    assert (played.sent, played.wasted) == (8, 7)
    assert played.tail_words == pytest.approx(2 - 0.02 * 3)
    assert [p.id for p in played.shown] == ["a", "b", "c"]


def test_play_slow_retrieval_comes_back_for_older_texts_while_the_newest_waits() -> None:
    results = {n: found("a", "b", "c") for n in range(2, 11)}
    played = play(TEXT, results, 0.6, 0.5)
    assert played.came_back == (2, 3, 4, 5, 6, 7, 8)
    assert played.sent == 8
    assert played.settled
    assert in_time(played, 8)
    assert not in_time(played, 9)


def test_play_retrieval_past_its_deadline_leaves_nothing_to_answer_with() -> None:
    results = {n: found("a", "b", "c") for n in range(2, 11)}
    played = play(TEXT, results, 0.7, 0.5)
    assert (played.came_back, played.shown, played.settled) == ((), (), False)


def test_summarise_names_every_latency_and_counts_frozen_apart_from_final() -> None:
    page = "library/csv.html"
    question = AskedQuestion(TEXT, (page,), ("x",))
    wrong_until_late = {n: found("x", "y") for n in range(2, 10)} | {10: found(page, "z")}
    case, summary = summarise([question], [wrong_until_late], 0.5, 0.02)
    assert summary["retrieval.recall5.final"] == 1.0
    assert summary["retrieval.recall5.frozen"] == 0.0
    assert summary["retrieval.recall5.shown"] == 1.0
    assert summary["retrieval.hidden_share_150ms"] == 0.0
    assert case["played"]["ownms"]["chosen_on"]["final_recall5"] == 1.0
    assert case["played"]["ownms"]["held_out"]["final_recall5"] is None
    early = {n: found(page, "z") for n in range(2, 11)}
    summary = summarise([question], [early], 0.5, 0.02)[1]
    assert summary["retrieval.hidden_share_600ms"] == 1.0
    assert summary["retrieval.hideable_share_600ms"] == 1.0


def test_bench_small_corpus_writes_every_number_of_the_summary(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "questions.jsonl"
    entries = [
        {"question": "how do I read every line of a text file", "pages": ["tutorial/reading.html"]},
        {"question": "my program is slow what now", "pages": ["faq/speed.html"]},
    ]
    asked.write_text("".join(json.dumps(entry | {"names": ["x"]}) + "\n" for entry in entries))
    monkeypatch.setattr(
        "livemind.benchmarks.retrieval.bench.load_questions", lambda: load_questions(asked)
    )
    monkeypatch.setattr(bench, "MiniLMEmbedder", FakeEmbedder)
    monkeypatch.setattr("livemind.benchmarks.retrieval.load.ROUNDS", 1)
    out = tmp_path / "report.json"
    shown = tmp_path / "page.html"
    plots = ["--html", str(shown), "--plots", str(tmp_path / "plots")]
    assert main(["retrieval", "--docs", str(docs), "--json", str(out), *plots]) == 0
    written = json.loads(out.read_text())
    summary = written["summary"]
    assert summary["retrieval.recall5.hybrid"] == 1.0
    assert summary["retrieval.ingest.documents_lost"] == 0.0
    assert written["cases"]["build"]["pages"] == 3
    slow = written["cases"]["slow_disk"]
    assert slow["said_degraded"] == slow["answers"] == 50
    drawn = {plot.name for plot in (tmp_path / "plots").iterdir()}
    assert drawn == {"retrieval-early.png", "retrieval-latency.png"}
    assert "What a retrieval" in shown.read_text()
    missing = {name for name in bench.MEANING if name not in summary}
    assert missing == {
        "retrieval.hnsw_recall10", "retrieval.dense_ms.p50_100k", "retrieval.hybrid_ms.p50_100k",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--synthetic", "5"], "--synthetic: got 5"),
        (["--only-synthetic"], "--only-synthetic"),
        (["--prefill-ms-per-token", "0"], "--prefill-ms-per-token: got 0"),
    ],
)
def test_bench_bad_option_is_refused_by_name(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["retrieval", *arguments])
    assert told in capsys.readouterr().err


async def test_scale_small_collection_is_written_and_searched(tmp_path: Path) -> None:
    case, summary = await scale(tmp_path, 2_000, None, 1, lambda told: None)
    assert (case["passages"], case["method"]) == (2_000, "exact")
    assert summary["retrieval.dense_ms.p50_2k"] is not None
    assert summary["retrieval.hnsw_recall10"] is None  # there is no graph at this size
    assert case["query_embedded"] is False
