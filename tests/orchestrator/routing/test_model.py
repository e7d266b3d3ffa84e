"""The shipped classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from livemind.orchestrator.routing import model as module
from livemind.orchestrator.routing.model import RouteModel, load_model, sharpness

MODEL = load_model()


def test_final_probability_grows_with_confidence_and_words() -> None:
    early = MODEL.final_probability([0.6, 0.2], "what is")
    sure = MODEL.final_probability([0.99, 0.005], "what is")
    late = MODEL.final_probability([0.99, 0.005], "what is the port of the server in the rack")
    assert 0 < early < sure < late < 1


def test_sharpness_grows_with_what_has_been_typed() -> None:
    weights = MODEL.calibration.sharpness
    typed = ("what", "what is the", "what is the port", "what is the port?")
    found = [sharpness(weights, text) for text in typed]
    assert found == sorted(set(found))


def test_model_saved_and_loaded_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MODEL.save(tmp_path / "m.npz")
    monkeypatch.setattr(module, "MODEL_FILE", tmp_path / "m.npz")
    again: RouteModel = load_model.__wrapped__()
    assert again.calibration == MODEL.calibration
    np.testing.assert_array_equal(again.inner, MODEL.inner)
    np.testing.assert_array_equal(again.outer, MODEL.outer)


def test_model_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(MODEL, inner=MODEL.inner[:7])
    wrong.save(tmp_path / "m.npz")
    monkeypatch.setattr(module, "MODEL_FILE", tmp_path / "m.npz")
    with pytest.raises(ValueError, match="another version"):
        load_model.__wrapped__()
