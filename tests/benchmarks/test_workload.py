from __future__ import annotations

import pytest

from livemind.benchmarks.workload import FILLER, turn_input

KINDS = [FILLER, "technical", "coding"]


@pytest.mark.parametrize("kind", KINDS)
def test_turn_same_arguments_repeat_other_index_differs_from_the_start(kind: str) -> None:
    first, again, other = (turn_input(kind, 7, n, 6000) for n in (0, 0, 1))
    assert first == again
    assert first.documents[0] != other.documents[0]


@pytest.mark.parametrize("kind", KINDS)
def test_turn_documents_have_the_wanted_length(kind: str) -> None:
    documents = turn_input(kind, 7, 0, 6000).documents
    assert 5700 <= sum(map(len, documents)) <= 6300
    assert len(documents) <= 64


def test_filler_questions_have_8_to_14_words() -> None:
    lengths = {len(turn_input(FILLER, 7, n, 100).question.split()) for n in range(60)}
    assert lengths == set(range(8, 15))


def test_domain_turn_holds_the_asked_entity_in_one_document() -> None:
    turn = turn_input("technical", 7, 3, 6000)
    words = turn.question.replace("?", " ").replace(".", " ").replace(",", " ").split()
    assert sum(document.split("\n")[0] in words for document in turn.documents) == 1
