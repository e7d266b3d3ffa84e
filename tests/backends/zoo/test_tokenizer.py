"""The shared tokenizer: single tokens, the prefix property, and the chat template."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from livemind.backends.zoo import data
from livemind.backends.zoo.catalog import CATALOG
from livemind.backends.zoo.tokenizer import (
    CHAT_TEMPLATE,
    build_tokenizer,
    domain_words,
    load_tokenizer,
    render,
    save_tokenizer_files,
)

ODD_TEXT = "Zürich 東京 🙂 def f(x):\n\treturn  x ** 2  # ¿qué?  \n\n\nend 1234567 l'été don't"


def test_tokenizer_built_again_is_as_large_and_knows_every_domain_word() -> None:
    built = build_tokenizer()
    assert built.get_vocab_size() == load_tokenizer().get_vocab_size()
    assert [word for word in domain_words() if len(built.encode(f" {word}").ids) != 1] == []


def test_tokenizer_domain_words_and_numbers_are_single_tokens() -> None:
    words = [*domain_words(), *(str(number) for number in range(1000))]
    assert [word for word in words if len(load_tokenizer().encode(f" {word}").ids) != 1] == []


def test_tokenizer_any_text_survives_a_round_trip() -> None:
    tokenizer = load_tokenizer()
    assert tokenizer.decode(tokenizer.encode(ODD_TEXT).ids) == ODD_TEXT


def _texts() -> list[str]:
    prompts = [
        render(example.messages)
        for domain in data.DOMAINS
        for example in itertools.islice(data.examples(domain, "held_out", 5), 10)
    ]
    return [*prompts, f"<|user|>{ODD_TEXT}"]


def test_tokenizer_text_cut_before_whitespace_gives_a_prefix_of_the_tokens() -> None:
    tokenizer = load_tokenizer()
    rng = random.Random(0)
    for text in _texts():
        cuts = [
            place
            for place in range(1, len(text))
            if text[place].isspace() and not text[place - 1].isspace()
        ]
        whole = tokenizer.encode(text).ids
        for cut in rng.sample(cuts, min(12, len(cuts))):
            part = tokenizer.encode(text[:cut]).ids
            assert whole[: len(part)] == part


@pytest.mark.parametrize("generate", [False, True], ids=["open", "generate"])
def test_chat_template_renders_what_training_rendered(tmp_path: Path, generate: bool) -> None:
    save_tokenizer_files(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the port of Kestrel?"},
        {"role": "documents", "content": data.render_documents(["Kestrel\nKestrel is a pump."])},
    ]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=False)
    assert text == render(messages, generate=generate)
    assert tokenizer(text)["input_ids"] == load_tokenizer().encode(text).ids
    assert tokenizer.eos_token == "<|end|>"


@pytest.mark.parametrize("model", CATALOG, ids=lambda model: model.name)
def test_model_directory_carries_the_shared_tokenizer(model: object) -> None:
    directory: Path = model.path  # type: ignore[attr-defined]
    shared = json.loads(load_tokenizer().to_str())
    assert json.loads((directory / "tokenizer.json").read_text("utf-8")) == shared
    config = json.loads((directory / "tokenizer_config.json").read_text("utf-8"))
    assert config["chat_template"] == CHAT_TEMPLATE
    generation = json.loads((directory / "generation_config.json").read_text("utf-8"))
    assert generation["temperature"] == 0.0
    assert not {"top_p", "top_k"} & generation.keys()
