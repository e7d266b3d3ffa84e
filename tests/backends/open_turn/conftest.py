# ruff: noqa: RUF001  (texts in many scripts)
"""Small tokenizers in the forms of the published families, trained here, and texts for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

MARKS = ("<|pad|>", "<|end|>", "<|user|>")
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
AFTER_WORDS = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{AFTER_WORDS}"
QWEN = CL100K.replace("{1,3}", "")
POSSESSIVE = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?|{AFTER_WORDS}".replace(
        r"]+[\r\n]*", r"]+[\r\n/]*"
    )
)
DEEPSEEK = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
DIGITS_FROM_THE_RIGHT = r"\d{1,3}(?=(?:\d{3})*\b)"

ENGLISH = (
    "The quick brown fox jumps over the lazy dog. What is the answer to the question? Don't stop: "
    "it's 12345 items, isn't it?  We'll see...\n\nNext paragraph, please! HTMLParser (of 2024) "
    "said: 'I've read the documents, and they don't agree with each other about anything.' "
)
CHINESE = (
    "机器学习是人工智能的一个分支它研究计算机怎样模拟或实现人类的学习行为以获取新的知识或技能"
    "重新组织已有的知识结构使之不断改善自身的性能。今天的天气很好，我们去公园散步吧！"
)
JAPANESE = "日本語の文章には空白がありません。コンピューターは境界を自分で見つけます。"
THAI = "ภาษาไทยไม่มีช่องว่างระหว่างคำ วันนี้อากาศดี"
CODE = (
    "function a(b,c){var d=b.map(function(e){return e*c});for(var f=0;f<d.length;f++){if(d[f]>10)"
    "{console.log(d[f])}else{g(d[f])}}return d.reduce(function(h,i){return h+i},0)}var j={k:[1,2]};"
)
OTHERS = (
    "Größe, naïve, où? 👩‍👩‍👧 🏳️‍🌈 🇩🇪🇫🇷 한국어 텍스트 हिन्दी क्षत्रिय\r\n\tTab.    four\n\n\n\nlines"
)
CORPUS = [ENGLISH, CHINESE, JAPANESE, THAI, CODE, OTHERS] * 30

PIECES: Sequence[str] = [
    *"abcxyz019 .,;:!?'\"()-_/\n\t\r",
    *("  ", "     ", " the", "the ", "don't", "'ll", "'S", "'ſ", "\n\n", ".\n", " \n", "\r\n"),
    *("...", "==", "=====", "//", "12", "1234567", "HTMLParser", "XM", "Xm", "aaaa", "abab"),
    *("Größe", "é", "e\u0301", "\u0301", "\u0300\u0301", "ß", "İ", "ǰ", "ǅ", "ʰ", "²", "٣", "Ⅷ"),
    *("答", "答え", "天气", "今天的天气很好", "。", "，", "カ", "\u3099", "ｶﾞ", " 漢字", "▁", "▁▁"),
    *("🙂", "👩‍👩‍👧", "\u200d", "🇩", "🇩🇪", "🏽", "\ufe0f", "\u00a0", "\u3000", "\u2028", "\x85"),
    *("한국어", "\u1112", "\u1161", "\u11ab", "ไทย", "ำ", "ั", "क्", "ष", "ि", "\x00", "\x1c", "ﬁ"),
    *("<|", "<|en", "|>", "<|end|>", "<|user|>", "</", "</td>", "Hello", "He", "brown", "bro"),
    *("mask", " ma", "[M]", " [", "fox", "foxes", "\ue000"),
]


def random_text(chance: random.Random, most: int) -> str:
    """Return pieces at random, or a part of what the tokenizers were trained on."""
    if chance.random() < 0.6:
        return "".join(chance.choices(PIECES, k=chance.randrange(most + 1)))
    text = chance.choice(CORPUS)
    begin = chance.randrange(len(text))
    return text[begin : begin + chance.randrange(2 * most)]


def _train(tokenizer: Tokenizer, trainer: Any, split: Any = None) -> Tokenizer:
    """Train, with another split than the tokenizer's if one is given."""
    meant = tokenizer.pre_tokenizer
    tokenizer.pre_tokenizer = meant if split is None else split
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.pre_tokenizer = meant
    tokenizer.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in MARKS])
    return tokenizer


def _byte_level(split: Any, normalizer: Any = None, **settings: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**settings))
    tokenizer.pre_tokenizer = split
    tokenizer.normalizer = normalizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=list(MARKS), initial_alphabet=alphabet, show_progress=False
    )
    return _train(tokenizer, trainer)


def _splits(*patterns: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _sentencepiece(normalizer: Any, split: Any, train_split: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = split
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=["<unk>", *fallback, *MARKS],
        limit_alphabet=250,
        show_progress=False,
    )
    return _train(tokenizer, trainer, train_split)


def _unigram(normalizer: Any, split: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = split
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=["<unk>", *MARKS], unk_token="<unk>", show_progress=False
    )
    return _train(tokenizer, trainer)


def _with_added(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_tokens(
        [
            AddedToken("\n\n", normalized=False),
            AddedToken("\n\n\n", normalized=False),
            AddedToken("</td>", normalized=False),
            AddedToken("Hello", single_word=True, normalized=False),
            AddedToken("[M]", lstrip=True, rstrip=True, normalized=False),
            AddedToken("brown", normalized=True),
            AddedToken("mask", lstrip=True, normalized=True),
            AddedToken("foxes", single_word=True, normalized=True),
        ]
    )
    return tokenizer


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=600, special_tokens=["[UNK]", *MARKS], show_progress=False
    )
    return _with_added(_train(tokenizer, trainer))


def _byte_level_split(*before: Any) -> Any:
    return pre_tokenizers.Sequence([*before, pre_tokenizers.ByteLevel(add_prefix_space=False)])


MARKED = normalizers.Replace(" ", "▁")
FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "smollm": lambda: _byte_level(_byte_level_split(pre_tokenizers.Digits(True))),
    "llama3": lambda: _byte_level(_splits(CL100K), ignore_merges=True),
    "qwen": lambda: _byte_level(_splits(QWEN), normalizers.NFC()),
    "o200k": lambda: _byte_level(_splits(O200K)),
    "cl100k possessive": lambda: _byte_level(_splits(POSSESSIVE)),
    "deepseek": lambda: _byte_level(_splits(*DEEPSEEK)),
    "digits from the right": lambda: _byte_level(_splits(DIGITS_FROM_THE_RIGHT, CL100K)),
    "falcon": lambda: _byte_level(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Punctuation("contiguous"),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
                pre_tokenizers.Digits(individual_digits=False),
                pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
            ]
        )
    ),
    "gemma": lambda: _with_added(
        _sentencepiece(
            MARKED,
            pre_tokenizers.Split(" ", "merged_with_previous"),
            pre_tokenizers.Metaspace(prepend_scheme="never"),
        )
    ),
    "tokens of many words": lambda: _sentencepiece(MARKED, pre_tokenizers.Split(" ", "isolated")),
    "llama2": lambda: _sentencepiece(
        normalizers.Sequence([normalizers.Prepend("▁"), MARKED]),
        pre_tokenizers.Metaspace(prepend_scheme="never", split=False),
        pre_tokenizers.Metaspace(prepend_scheme="never"),
    ),
    "codellama": lambda: _sentencepiece(
        None,
        pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        pre_tokenizers.Metaspace(prepend_scheme="first"),
    ),
    "metaspace": lambda: _with_added(
        _sentencepiece(None, pre_tokenizers.Metaspace(prepend_scheme="always"))
    ),
    "t5": lambda: _unigram(
        normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
    ),
    "unigram without a split": lambda: _with_added(
        _unigram(normalizers.NFKC(), pre_tokenizers.Metaspace(split=False))
    ),
    "bert": _wordpiece,
}


@pytest.fixture(scope="session")
def family() -> Callable[[str], Tokenizer]:
    """Make a tokenizer by name; each is trained once."""
    return cache(lambda name: FAMILIES[name]())
