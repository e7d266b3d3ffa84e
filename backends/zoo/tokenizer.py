"""The shared tokenizer: byte-level BPE in which domain words and integers up to 999 are one token.

Any text encodes, since all 256 bytes are in the vocabulary. The GPT-2 pre-tokenisation splits
before whitespace, so the tokens of a text cut right before whitespace are a prefix of the tokens
of the whole text: a user turn that is still being typed can be prefilled.
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from . import coding, data, languages, lexicon

PAD: Final = "<|pad|>"
END: Final = "<|end|>"
ROLES: Final = ("system", "documents", "user", "assistant")
SPECIAL_TOKENS: Final = (PAD, END, *(f"<|{role}|>" for role in ROLES))
VOCABULARY_SIZE: Final = 4096
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TOKENIZER_FILE: Final = Path(__file__).with_name("tokenizer.json")
_COMMON_WORDS: Final = (
    "the of and to in is that it was for on are as with his they at be this have from or one "
    "had by word but not what all were we when your can said there use an each which she do "
    "how their if will up other about out many then them these so some her would make like "
    "him into time has look two more write go see number no way could people my than first "
    "been call who its now find long down day did get come made may part over new sound take "
    "only little work know place year live me back give most very after thing our just name "
    "good sentence man think say great where help through much before line right too mean old "
    "any same tell boy follow came want show also around form three small set put end does "
    "another well large must big even such because turn here why ask went men read need land "
    "different home us move try kind hand picture again change off play spell air away animal "
    "house point page letter mother answer found study still learn should world please server "
    "data file user text model token system expert request error cache memory latency"
)


def build_tokenizer(size: int = VOCABULARY_SIZE) -> Tokenizer:
    """Return a freshly trained tokenizer; the same on every call.

    Args:
        size: number of tokens, special tokens included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return tokenizer


def _corpus() -> list[str]:
    """Return the training text: domain words and numbers, conversations, common words."""
    counts: Counter[str] = Counter({f" {number}": 400 for number in range(1000)})
    for word in domain_words():
        counts[f" {word}"] += 400
    for domain in data.DOMAINS:
        rng = random.Random(domain)
        for topic in data.topics(domain):
            for _ in range(1500 // len(data.topics(domain))):
                messages, _ = data.conversation(topic, rng, "train", data.Shape(turns=(1, 4)))
                for message in messages:
                    counts.update(re.findall(r"\s?\w+|\s?[^\w\s]+|\n +", message["content"]))
    for word in _COMMON_WORDS.split():
        counts[f" {word}"] += 40
    return [text for text, count in sorted(counts.items()) for _ in range(count)]


def domain_words() -> list[str]:
    """Return every entity, attribute and word value of the four domains, sorted."""
    words: set[str] = set(lexicon.FUNCTION_NAMES) | set(coding.RULES[0].words.split())
    words |= {
        entity.lower()
        for vocabulary in (lexicon.GENERAL, lexicon.TECHNICAL)
        for entity in vocabulary.entities
    }
    for vocabulary in (lexicon.GENERAL, lexicon.TECHNICAL, *languages.LANGUAGES):
        words |= {*vocabulary.entities, *vocabulary.attributes, *vocabulary.kinds}
        words |= {value for values in vocabulary.attributes.values() for value in values}
    for word, translations in languages.TRANSLATIONS.items():
        words |= {word, *translations.values()}
    return sorted(word for word in words if word.isalpha())


@functools.lru_cache(maxsize=1)
def load_tokenizer() -> Tokenizer:
    """Return the committed tokenizer.

    It is frozen, since the trained weights depend on its ids; `build_tokenizer` made it, and would
    make another one after a change of the word lists or templates.
    """
    return Tokenizer.from_file(str(TOKENIZER_FILE))


def token_id(token: str) -> int:
    """Return the id of a token.

    Raises:
        KeyError: the vocabulary has no such token.
    """
    number = load_tokenizer().token_to_id(token)
    if number is None:
        raise KeyError(f"no token {token!r} in the vocabulary")
    return number


def render(messages: Sequence[data.Message], *, generate: bool = False) -> str:
    """Return what the chat template renders; `generate` adds the start of the answer."""
    text = "".join(f"<|{message['role']}|>{message['content']}{END}" for message in messages)
    return f"{text}<|assistant|>" if generate else text


def save_tokenizer_files(directory: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json."""
    tokenizer = load_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 4096,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [f"<|{role}|>" for role in ROLES],
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "chat_template": CHAT_TEMPLATE,
    }
    generation = {
        "eos_token_id": token_id(END),
        "pad_token_id": token_id(PAD),
        "do_sample": False,
        "temperature": 0.0,
    }
    for name, content in (
        ("tokenizer_config.json", config),
        ("generation_config.json", generation),
    ):
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
