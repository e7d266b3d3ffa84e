"""The generators of the embedded experts: determinism, splits, rendering, sample handbook."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from livemind.backends.zoo import data
from livemind.backends.zoo.facts import Record, Split, split_of

REPOSITORY = Path(__file__).parents[3]


def _records(domain: str, split: Split, count: int) -> list[Record]:
    rng = random.Random(f"{domain}{split}")
    return [
        topic.record(rng, split, set())
        for topic in data.topics(domain)
        for _ in range(count // len(data.topics(domain)))
    ]


def _facts(records: list[Record]) -> set[tuple[str, str, str]]:
    return {(record.entity, *fact) for record in records for fact in record.facts}


@pytest.mark.parametrize("domain", data.DOMAINS)
def test_examples_same_seed_yield_the_same_prompts(domain: str) -> None:
    first = list(itertools.islice(data.examples(domain, "train", 3), 20))
    second = list(itertools.islice(data.examples(domain, "train", 3), 20))
    other = list(itertools.islice(data.examples(domain, "train", 4), 20))
    assert first == second
    assert first != other


@pytest.mark.parametrize("domain", data.DOMAINS)
def test_records_train_and_held_out_share_no_fact(domain: str) -> None:
    train = _facts(_records(domain, "train", 2000))
    held_out = _facts(_records(domain, "held_out", 2000))
    assert len(held_out) > 200
    assert not train & held_out


@pytest.mark.parametrize("domain", data.DOMAINS)
def test_examples_held_out_documents_state_the_answer_unless_it_is_a_refusal(domain: str) -> None:
    for example in itertools.islice(data.examples(domain, "held_out", 0), 200):
        documents = " ".join(m["content"] for m in example.messages if m["role"] == "documents")
        if example.turn.kind == "lookup":
            assert example.turn.answer in documents
        elif example.turn.kind == "refuse":
            assert example.turn.answer not in documents


@pytest.mark.parametrize("domain", data.DOMAINS)
def test_examples_end_with_a_message_that_awaits_an_answer(domain: str) -> None:
    for example in itertools.islice(data.examples(domain, "train", 1), 200):
        assert example.messages[-1]["role"] in {"user", "documents"}
        users = [m["content"] for m in example.messages if m["role"] == "user"]
        assert users[-1] == example.turn.question


def test_render_documents_two_passages_numbers_them_on_lines_of_their_own() -> None:
    rendered = data.render_documents(["Kestrel\nThe port of Kestrel is 361.", "Ruby\nNothing."])
    assert rendered == "[1] Kestrel\nThe port of Kestrel is 361.\n[2] Ruby\nNothing."


def test_handbook_facts_are_all_held_out() -> None:
    for domain, _, record in data.handbook():
        for first, second in record.facts:
            parts = ("function", first) if domain == "coding" else (first, second)
            assert split_of(record.entity, *parts) == "held_out"


def test_handbook_questions_name_an_entity_that_has_exactly_one_section() -> None:
    entities = [record.entity for _, _, record in data.handbook()]
    assert len(entities) == len(set(entities))
    assert 40 <= len(entities) <= 60
    for question, answer, domain, entity in data.handbook_questions():
        assert entity in question
        assert entity in answer
        assert domain in data.DOMAINS
        assert entity in entities


def test_handbook_files_match_the_generator(tmp_path: Path) -> None:
    committed = REPOSITORY / "rag" / "handbook"
    written = data.write_handbook(tmp_path)
    assert {path.name for path in written} == {path.name for path in committed.glob("*.md")}
    for path in written:
        assert path.read_text("utf-8") == (committed / path.name).read_text("utf-8")
