"""The shipped classifier, and how a user's domain meets it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from livemind.orchestrator.routing import model as module
from livemind.orchestrator.routing.dataset import DOMAINS
from livemind.orchestrator.routing.model import DomainScorer, RouteModel, load_model
from livemind.rag.base import FloatArray

MODEL = load_model()


def towards(domain: str) -> FloatArray:
    """A vector in the middle of a domain's prototypes."""
    middle = MODEL.prototypes[domain].mean(0)
    found: FloatArray = middle / np.linalg.norm(middle)
    return found


@pytest.mark.parametrize("domain", DOMAINS)
def test_scorer_middle_of_a_domain_is_that_domain(domain: str) -> None:
    ranked = DomainScorer(MODEL, DOMAINS, {})(towards(domain), "x", 0.0)
    assert ranked[0][1] == domain
    assert sum(probability for probability, _ in ranked) == pytest.approx(1.0)


def test_scorer_domain_that_is_not_configured_gets_nothing() -> None:
    ranked = DomainScorer(MODEL, ("general", "coding"), {})(towards("technical"), "x", 0.0)
    assert {domain for _, domain in ranked} == {"general", "coding"}


def test_scorer_users_domain_wins_where_its_examples_are() -> None:
    law = towards("technical") + np.float32(0.5) * towards("multimodal")
    law /= np.linalg.norm(law)
    scorer = DomainScorer(MODEL, (*DOMAINS, "law"), {"law": np.stack([law] * 3)})
    assert scorer(law, "x", 0.0)[0][1] == "law"
    assert scorer(MODEL.prototypes["coding"][0], "x", 0.0)[0][1] == "coding"


def test_scorer_own_domain_of_a_built_in_name_is_known_by_examples_alone() -> None:
    mine = towards("general")[None, :]
    scorer = DomainScorer(MODEL, ("coding", "general"), {"coding": mine}, frozenset({"coding"}))
    assert scorer(mine[0], "x", 0.0)[0][1] == "coding"


def test_final_probability_grows_with_confidence_and_words() -> None:
    early = MODEL.final_probability([0.6, 0.2], "what is")
    sure = MODEL.final_probability([0.99, 0.005], "what is")
    late = MODEL.final_probability([0.99, 0.005], "what is the port of the server in the rack")
    assert 0 < early < sure < late < 1


def test_model_saved_and_loaded_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MODEL.save(tmp_path / "m.npz")
    monkeypatch.setattr(module, "MODEL_FILE", tmp_path / "m.npz")
    again: RouteModel = load_model.__wrapped__()
    assert again.calibration == MODEL.calibration
    np.testing.assert_array_equal(again.weights, MODEL.weights)


def test_model_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = RouteModel(MODEL.weights[:7], MODEL.bias, MODEL.prototypes, MODEL.calibration, "x")
    wrong.save(tmp_path / "m.npz")
    monkeypatch.setattr(module, "MODEL_FILE", tmp_path / "m.npz")
    with pytest.raises(ValueError, match="another version"):
        load_model.__wrapped__()
