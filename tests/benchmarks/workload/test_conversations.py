from __future__ import annotations

import re

import pytest

from livemind.benchmarks.workload.conversations import FILLER, conversation, corpus, turn_input
from livemind.rag.documents.corpus import MAX_WORDS

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


def test_filler_questions_take_ten_seconds_or_so_to_type_and_are_many() -> None:
    questions = [turn_input(FILLER, 7, n, 0).question for n in range(200)]
    assert {len(question) // 10 for question in questions} <= set(range(5, 12))
    assert len(set(questions)) > 190


@pytest.mark.parametrize("kind", [FILLER, "technical"])
def test_corpus_sections_stay_one_passage_each_and_answer_the_questions(kind: str) -> None:
    sections = corpus(kind, 7, 2, 900).split("# ")[1:]
    assert max(len(section.split()) for section in sections) <= MAX_WORDS
    titles = {section.splitlines()[0].split()[-1].lower() for section in sections}
    for number in range(20):
        words = set(re.findall(r"\w+", turn_input(kind, 7, number, 0).question.lower()))
        assert words & titles


def test_conversation_follow_ups_differ_and_bring_no_documents() -> None:
    talk = conversation(FILLER, 7, 0, 500, 3)
    assert len(set(talk.questions)) == 3
    assert talk.questions[0] == turn_input(FILLER, 7, 0, 500).question
    assert talk.documents == turn_input(FILLER, 7, 0, 500).documents


def test_domain_turn_holds_the_asked_entity_in_one_document() -> None:
    turn = turn_input("technical", 7, 3, 6000)
    words = turn.question.replace("?", " ").replace(".", " ").replace(",", " ").split()
    assert sum(document.split("\n")[0] in words for document in turn.documents) == 1
