"""How the classifier and the examples of the configuration make one ranking."""

from __future__ import annotations

import numpy as np
import pytest

from livemind.orchestrator.routing.dataset import DOMAINS
from livemind.orchestrator.routing.model import LAYERS, load_model
from livemind.orchestrator.routing.scorer import DomainScorer
from livemind.rag.base import FloatArray

MODEL = load_model()
NO_WORDS = MODEL.read("")


def towards(domain: str) -> FloatArray:
    """A vector in the middle of a domain's prototypes."""
    middle = MODEL.prototypes[domain].mean(0)
    found: FloatArray = middle / np.linalg.norm(middle)
    return found


def layered(vector: FloatArray) -> FloatArray:
    """What the classifier reads of a sentence vector whose middle layer says nothing."""
    found = np.zeros(LAYERS, np.float32)
    found[: len(vector)] = vector
    return found


def test_scorer_probabilities_of_the_domains_add_up_to_one() -> None:
    ranked = DomainScorer(MODEL, DOMAINS, {})(layered(towards("coding")), NO_WORDS, "x", 0.0)
    assert {domain for _, domain in ranked} == set(DOMAINS)
    assert sum(probability for probability, _ in ranked) == pytest.approx(1.0)


def test_scorer_domain_that_is_not_configured_gets_nothing() -> None:
    ranked = DomainScorer(MODEL, ("general", "coding"), {})(
        layered(towards("technical")), NO_WORDS, "x", 0.0
    )
    assert {domain for _, domain in ranked} == {"general", "coding"}


def test_scorer_users_domain_wins_where_its_examples_are() -> None:
    law = towards("technical") + np.float32(0.5) * towards("multimodal")
    law /= np.linalg.norm(law)
    scorer = DomainScorer(MODEL, (*DOMAINS, "law"), {"law": np.stack([law] * 3)})
    assert scorer(layered(law), NO_WORDS, "x", 0.0)[0][1] == "law"
    assert scorer(layered(MODEL.prototypes["coding"][0]), NO_WORDS, "x", 0.0)[0][1] == "coding"


def test_scorer_own_domain_of_a_built_in_name_is_known_by_examples_alone() -> None:
    mine = towards("general")[None, :]
    scorer = DomainScorer(MODEL, ("coding", "general"), {"coding": mine}, frozenset({"coding"}))
    assert scorer(layered(mine[0]), NO_WORDS, "x", 0.0)[0][1] == "coding"


def test_scorer_words_that_say_it_all_need_no_encoder() -> None:
    text = "write a python function that reverses a list"
    [(probability, domain), *_] = DomainScorer(MODEL, DOMAINS, {}).by_words(
        MODEL.read(text), text, 0.0
    )
    assert domain == "coding"
    assert probability >= MODEL.calibration.alone_at


def test_scorer_words_that_leave_a_doubt_or_cannot_know_an_example_say_nothing() -> None:
    text = "write a python function that reverses a list"
    words = MODEL.read(text)
    given = {"law": MODEL.prototypes["general"][:3]}
    assert DomainScorer(MODEL, DOMAINS, {}).by_words(MODEL.read("what"), "what", 0.0) == []
    assert DomainScorer(MODEL, (*DOMAINS, "law"), given).by_words(words, text, 0.0) == []
    assert DomainScorer(None, ("law",), given).by_words(None, text, 0.0) == []
