"""The single steps: normalisers, added tokens, words and subwords of texts that go on."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from livemind.backends.open_turn.added import AddedToken, AddedTokens
from livemind.backends.open_turn.normalising import OpenNormalizer
from livemind.backends.open_turn.subwords import Subwords
from livemind.backends.open_turn.words import Words, component

from .conftest import CHINESE, CODE, PIECES, random_text

NORMALIZERS = [
    *(normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD()),
    *(normalizers.BertNormalizer(), normalizers.Lowercase(), normalizers.Prepend("▁")),
    *(normalizers.Strip(), normalizers.Replace("ab", "c"), normalizers.Replace(Regex(" +"), "_")),
    normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Replace("  ", " ")]
    ),
]


@pytest.mark.parametrize("normalizer", NORMALIZERS, ids=str)
def test_known_normalised_text_begins_every_longer_one(normalizer: Any) -> None:
    opened = OpenNormalizer(
        json.loads(normalizer.__getstate__()), functools.partial(component, "normalizer")
    )
    chance = random.Random(0)
    held_back = 0
    for _ in range(300):
        text = random_text(chance, 12)
        known = opened.known(text)
        held_back += len(normalizer.normalize_str(text)) - len(known)
        for rest in ["", "\u0301", "b", " ", *chance.choices(PIECES, k=12)]:
            whole = normalizer.normalize_str(text + rest)
            assert whole.startswith(known), (text, rest)
    assert held_back < 300 * 4


def test_certain_text_ends_before_what_may_become_a_token() -> None:
    tokens = AddedTokens(
        [
            AddedToken("<end>"),
            AddedToken("<end>!"),
            AddedToken("\n\n"),
            AddedToken("word", single_word=True),
            AddedToken("[M]", takes_left=True),
        ]
    )
    cases = {
        "a <en": "a",
        "a<end>": "a",  # may become <end>!
        "a<end>.": "a<end>.",
        "a\n": "a",
        "a word": "a",  # may become words
        "a word.": "a word.",
        "a  [": "a",
        "": "",
    }
    assert {text: tokens.certain(text) for text in cases} == cases


def test_split_takes_blanks_and_leaves_parts_of_words_alone() -> None:
    tokens = AddedTokens(
        [
            AddedToken("[M]", 1, takes_left=True, takes_right=True),
            AddedToken("word", 2, single_word=True),
            AddedToken("<a>", 3),
            AddedToken("<a><a>", 4),
        ]
    )
    found = list(tokens.split("a  [M] \n b words word<a><a><a>"))
    assert found == [
        ("a", None),
        ("  [M] \n ", 1),
        ("b words ", None),
        ("word", 2),
        ("<a><a>", 4),
        ("<a>", 3),
    ]


@pytest.mark.parametrize(
    ("split", "known", "begin", "word"),
    [
        (pre_tokenizers.Metaspace(), "one two", 3, "▁two"),
        (pre_tokenizers.Metaspace(split=False), "one two", 0, "one▁two"),
        (pre_tokenizers.WhitespaceSplit(), "one two", 4, "two"),
        (pre_tokenizers.WhitespaceSplit(), "one ", 3, ""),
        (pre_tokenizers.Digits(True), "ab12", 3, "2"),
        (pre_tokenizers.Punctuation("merged_with_previous"), "ab.c", 3, "c"),
        (pre_tokenizers.Split("x", "contiguous"), "axxb", 3, "b"),
        (pre_tokenizers.Split(Regex(r"\d+"), "removed"), "ab12", 2, ""),
        (pre_tokenizers.Split(Regex(r"ab|a"), "isolated"), "xa", 1, "a"),
        (pre_tokenizers.Split(Regex(r"ab"), "isolated"), "xa", 0, "x"),
        (pre_tokenizers.Split(Regex(r"a+b"), "merged_with_next"), "xaab", 0, ""),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), "no é", 2, "ĠÃ©"),
        (None, "one two", 0, "one two"),
    ],
    ids=str,
)
def test_open_word_begins_where_no_more_text_moves_it(
    split: Any, known: str, begin: int, word: str
) -> None:
    description = json.loads(split.__getstate__()) if split is not None else None
    words = Words(description, functools.partial(component, "pre_tokenizer"))
    assert words.open(known)[1:] == (begin, word)


@pytest.mark.parametrize("name", ["gemma", "llama3", "unigram without a split"])
def test_stable_subwords_far_behind_are_found_from_the_end_alone(
    family: Callable[[str], Tokenizer], name: str
) -> None:
    """What a window at the end says is what the whole word says."""
    model = family(name).model
    vocabulary = family(name).get_vocab(with_added_tokens=False)
    subwords, chance = Subwords(model, vocabulary), random.Random(0)
    letters = [text for text in vocabulary if len(text) < 4 and "<" not in text]

    def ids(word: str) -> list[int]:
        return [token.id for token in model.tokenize(word)]

    for number in range(60):
        text = CHINESE + CODE if number % 2 else ""
        word = "▁".join(text.split()) if "▁" in vocabulary else ""
        word += "".join(chance.choices(letters, k=chance.randrange(1, 200)))
        stable = subwords.stable(word, ids(word))
        assert len(stable) > len(ids(word)) - 25
        for rest in chance.choices(letters, k=20):
            assert ids(word + rest)[: len(stable)] == stable


def bpe(merges: list[tuple[str, str]], *more: str, **settings: Any) -> Subwords:
    letters = sorted({letter for merge in merges for letter in "".join(merge)})
    texts = dict.fromkeys([*letters, *("".join(merge) for merge in merges), *more])
    vocabulary = {text: number for number, text in enumerate(texts)}
    return Subwords(models.BPE(vocab=vocabulary, merges=merges, **settings), vocabulary)


def test_stable_subwords_that_depend_on_a_far_end_are_not_stable() -> None:
    """Whether the letters pair as ab cd … or bc de … is decided by the last one."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    subwords = bpe([(b, c) for b, c in zip(letters[-2::-1], letters[:0:-1], strict=True)])
    for end in range(2, 26):
        word = letters[:end]
        stable = subwords.stable(word, subwords_ids(subwords, word))
        for rest in range(end, 27):
            longer = subwords_ids(subwords, letters[:rest])
            assert longer[: len(stable)] == stable
    word = "z" * 20 + "ab"
    assert len(subwords.stable(word, subwords_ids(subwords, word))) >= 20


def test_stable_subwords_of_a_word_that_is_a_token_beside_the_merges_are_none() -> None:
    subwords = bpe([("a", "b")], "abc", "c", "d", "dd", ignore_merges=True)
    whole, longer = subwords_ids(subwords, "abc"), subwords_ids(subwords, "abcd")
    assert len(whole) == 1
    assert len(longer) == 3
    assert subwords.stable("abc", whole) == []
    assert subwords.stable("abcd", longer) == longer[:2]


def subwords_ids(subwords: Subwords, word: str) -> list[int]:
    return [token.id for token in subwords._model.tokenize(word)]
