"""Open turns: never a wrong prefix, and little is held back, in every form of tokenizer."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from livemind.backends import zoo
from livemind.backends.open_turn.tokens import OpenTokens, why_no_cut

from .conftest import CHINESE, CODE, ENGLISH, FAMILIES, JAPANESE, PIECES, THAI, random_text

Family = Callable[[str], Tokenizer]


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def certain(tokenizer: Tokenizer, opened: OpenTokens, text: str) -> list[int]:
    known = opened.known(text)
    ids = ids_of(tokenizer, known)
    return ids[: opened.stable(known, ids)]


def assert_never_wrong(tokenizer: Tokenizer, texts: int, seed: int) -> None:
    chance = random.Random(seed)
    opened = OpenTokens(tokenizer)
    ends = ["", " ", "\n", "s", "\u0301"]
    for _ in range(texts):
        begun = random_text(chance, chance.choice([3, 12, 40]))
        begun = ("<|user|>" if chance.random() < 0.5 else "") + begun
        kept = certain(tokenizer, opened, begun)
        more = [random_text(chance, 4) for _ in range(8)] + chance.choices(PIECES, k=8) + ends
        for rest in more:
            # A template may have trimmed the blanks at the end.
            for whole in (begun + rest, begun.rstrip() + rest):
                assert ids_of(tokenizer, whole)[: len(kept)] == kept, (begun, rest)


@pytest.mark.parametrize("name", FAMILIES)
def test_stable_tokens_begin_every_longer_text(family: Family, name: str) -> None:
    assert_never_wrong(family(name), texts=150, seed=zlib.crc32(name.encode()))


@pytest.mark.parametrize(
    ("text", "most"), [(ENGLISH, 8), (CHINESE, 24), (JAPANESE, 24), (THAI, 24), (CODE, 24)]
)
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"bert", "falcon", "tokens of many words"}))
def test_stable_tokens_end_close_behind_the_text(
    family: Family, name: str, text: str, most: int
) -> None:
    """But for WordPiece, which decides on whole words, what splits bytes, and learnt phrases."""
    tokenizer = family(name)
    opened = OpenTokens(tokenizer)
    for end in range(20, len(text), 3):
        begun = f"<|user|>{text}{text[:end]}"
        behind = len(ids_of(tokenizer, begun)) - len(certain(tokenizer, opened, begun))
        assert behind <= most, begun[-40:]


def test_stable_tokens_of_the_embedded_experts_never_wrong() -> None:
    file = Path(zoo.__path__[0]) / "tokenizer.json"
    assert_never_wrong(Tokenizer.from_file(str(file)), texts=60, seed=1)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_stable_tokens_of_a_sentencepiece_model_never_wrong(tmp_path: Path, kind: str) -> None:
    """Its normaliser is a table (Precompiled) that looks at graphemes."""
    sentencepiece = pytest.importorskip("sentencepiece")
    from transformers.convert_slow_tokenizer import SpmConverter

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join([ENGLISH.replace("\n", " "), CHINESE, THAI, CODE] * 40))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "sp"),
        vocab_size=600,
        model_type=kind,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    made = SpmConverter.__new__(SpmConverter)
    if kind == "bpe":
        from transformers import AutoTokenizer

        (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        (tmp_path / "sp.model").rename(tmp_path / "tokenizer.model")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path).backend_tokenizer
    else:
        SpmConverter.__init__(made, _Slow(str(tmp_path / "sp.model")))
        tokenizer = made.converted()
    assert_never_wrong(tokenizer, texts=80, seed=2)


class _Slow:
    legacy = True
    add_prefix_space = True

    def __init__(self, vocab_file: str) -> None:
        self.vocab_file = vocab_file
        self.added_tokens_decoder: dict[int, AddedToken] = {}


class Counting:
    """A model of ``tokenizers`` that counts the characters it is given."""

    def __init__(self, model: object) -> None:
        self.model = model
        self.characters = 0

    def tokenize(self, text: str) -> object:
        self.characters += len(text)
        return self.model.tokenize(text)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)


@pytest.mark.parametrize("name", ["gemma", "llama2", "llama3", "qwen"])
@pytest.mark.parametrize("text", [CHINESE, CODE, "ab" * 40, "=" * 80, "x    y"])
def test_stable_tokens_cost_a_second_tokenization_and_little_more(
    family: Family, name: str, text: str
) -> None:
    tokenizer = family(name)
    opened = OpenTokens(tokenizer)
    known = opened.known(text * 50)
    ids = ids_of(tokenizer, known)
    counting = Counting(tokenizer.model)
    opened._model = opened._subwords._model = counting
    assert opened.stable(known, ids) > 0.9 * len(ids)
    assert counting.characters < 3 * len(known.encode()) + 60_000


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"pre_tokenizer": pre_tokenizers.UnicodeScripts()}, "pre-tokenizer UnicodeScripts"),
        ({"model": models.WordLevel({"a": 0}, unk_token="a")}, "WordLevel decides on whole words"),
        ({"model": models.BPE(end_of_word_suffix="</w>")}, "inside or end of a word"),
        ({"model": models.BPE(dropout=0.1)}, "at random"),
        ({"normalizer": normalizers.Replace(Regex("a(?=b)"), "c")}, "normalizer Replace"),
        ({"normalizer": normalizers.Replace(Regex("^a"), "c")}, "normalizer Replace"),
        ({"pre_tokenizer": pre_tokenizers.Split(Regex(r"(?<=a)b"), "isolated")}, "Split"),
    ],
)
def test_why_no_cut_names_what_is_not_understood(settings: dict[str, Any], why: str) -> None:
    tokenizer = Tokenizer(settings.get("model", models.BPE()))
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    assert why in str(why_no_cut(json.loads(tokenizer.to_str())))
    opened = OpenTokens(tokenizer)
    assert why in str(opened.why_not)
    assert opened.stable("a b c", ids_of(tokenizer, "a b c")) == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_why_no_cut_says_nothing_of_the_families(family: Family, name: str) -> None:
    assert why_no_cut(json.loads(family(name).to_str())) is None


def test_stable_tokenizer_that_does_otherwise_than_described_keeps_nothing(family: Family) -> None:
    """The tokens are compared with what the parts say: a wrong idea of them cuts too early."""
    tokenizer = family("llama3")
    opened = OpenTokens(tokenizer)
    text = "The quick brown fox"
    ids = ids_of(tokenizer, text)
    assert opened.stable(text, ids) > 0
    assert opened.stable(text, [*ids[:-1], ids[-1] + 1]) == 0
