"""The shipped classifier."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from livemind.orchestrator.routing import model as module
from livemind.orchestrator.routing.dataset import DOMAINS, load_prompts
from livemind.orchestrator.routing.encoders import NAMES, encoder
from livemind.orchestrator.routing.model import (
    LAYERS,
    MODEL_FILES,
    RouteModel,
    load_model,
    read_model,
    sharpness,
)
from livemind.orchestrator.routing.reading import is_latin

MODEL = load_model()
NOISE = [
    "asdf qwer zxcv", "fjdksl ghty", "xkq zzpt wvv blorf", "qwpoei rutyal ksjdhf", "lkjh gfds",
    "aaaaaaa bbbbbb", "dfgh dfgh dfgh", "zint quorp spraxing", "hjkl;' nm,./", "wsx edc rfv tgb",
    "blabla bla blablabla", "pqowieu rytlak sjd", "xcvb nmas dfgh jklq", "grmpf hrmpf zzz",
    "uiop uiop hjkl bnm", "vvvv rrrr tttt kkkk", "skdjfh ksdjfh skjdhf", "qaz wsx edc",
    "mnbvcxz lkjhgfdsa", "trewq gfdsa bvcxz",
]  # fmt: skip
QUESTIONS = [
    ("general", "Wie lange muss ein Ei kochen?"),
    ("technical", "la lavadora hace un ruido raro y no centrifuga"),
    ("technical", "мой компьютер не включается"),
    ("coding", "comment trier une liste en python"),
    ("coding", "pythonでリストを並べ替えるコードを書いて"),
    ("multimodal", "qué se ve en esta foto"),
    ("multilingual", "how do you say thank you in Polish"),
    ("general", "红烧肉怎么做"),
]


@pytest.mark.parametrize(("domain", "text"), QUESTIONS)
def test_words_alone_know_the_domain_in_many_languages(domain: str, text: str) -> None:
    assert DOMAINS[int(MODEL.log_prior(MODEL.read(text), text, 0.0).argmax())] == domain


def test_log_prior_is_a_distribution_with_and_without_the_encoder() -> None:
    text = "how do I reverse a list"
    row, layers = MODEL.read(text), np.zeros(LAYERS, np.float32)
    for found in (
        MODEL.log_prior(row, text, 0.0),
        MODEL.log_prior(row, text, 7.0, layers),
        MODEL.log_prior(MODEL.read(""), "", 0.0),
    ):
        assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-4)


def test_log_prior_of_a_language_that_nobody_reads_is_multilingual_whatever_the_words_say() -> None:
    text = "wie schreibe ich eine funktion die eine liste sortiert"
    row = MODEL.read(text)
    inside, outside = (MODEL.log_prior(row, text, margin) for margin in (-30.0, 30.0))
    assert DOMAINS[int(inside.argmax())] == "coding"
    assert DOMAINS[int(outside.argmax())] == "multilingual"


def test_final_probability_grows_with_confidence() -> None:
    for text in ("what is", "what is the port of the server in the rack"):
        found = [MODEL.final_probability([p, 1 - p], text) for p in (0.5, 0.6, 0.8, 0.95, 0.99)]
        assert found == sorted(set(found))
        assert 0 < found[0] < found[-1] < 1


def test_sharpness_of_words_grows_with_what_has_been_typed() -> None:
    weights = MODEL.calibration.words_sharpness
    typed = ("what", "what is the", "what is the port")
    found = [sharpness(weights, text) for text in typed]
    assert found == sorted(set(found))


def test_meaning_tells_noise_from_prompts_it_never_saw() -> None:
    noise = [MODEL.meaning(MODEL.read(text)) for text in NOISE]
    asked = random.Random(1).sample(load_prompts("test"), 150)
    meant = [MODEL.meaning(MODEL.read(p.text)) for p in asked if is_latin(p.text)]
    assert np.mean(np.array(noise) < 0.35) >= 0.95
    assert np.mean(np.array(meant) >= 0.35) >= 0.97


def test_model_saved_and_loaded_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MODEL.save(tmp_path / "m.npz")
    monkeypatch.setitem(module.MODEL_FILES, MODEL.encoder, tmp_path / "m.npz")
    again: RouteModel = read_model.__wrapped__(MODEL.encoder)
    assert again.calibration == MODEL.calibration
    np.testing.assert_allclose(again.table, MODEL.table, rtol=1e-5)
    np.testing.assert_array_equal(again.both.outer, MODEL.both.outer)
    for domain in DOMAINS:
        np.testing.assert_allclose(again.prototypes[domain], MODEL.prototypes[domain], atol=0.01)


def test_model_of_each_encoder_has_the_words_of_the_first() -> None:
    assert list(MODEL_FILES) == [kind.name for kind in map(encoder, NAMES)]
    for name in MODEL_FILES:
        found = load_model(name)
        assert (found.encoder, found.everywhere) == (name, name != MODEL.encoder)
        assert found.table is MODEL.table
        assert found.words is MODEL.words
        dim = encoder(name).dim
        assert {rows.shape[1] for rows in found.prototypes.values()} == {dim}


def test_model_of_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(KeyError):
        load_model("another")


def test_model_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(MODEL, table=MODEL.table[:7])
    wrong.save(tmp_path / "m.npz")
    monkeypatch.setitem(module.MODEL_FILES, MODEL.encoder, tmp_path / "m.npz")
    with pytest.raises(ValueError, match="another version"):
        read_model.__wrapped__(MODEL.encoder)
