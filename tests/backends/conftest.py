"""Tokenizers trained on the spot and a tiny random model: nothing here needs a hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from livemind.backends import zoo

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ROLES = ("system", "user", "assistant")
MARKS = ("<|pad|>", "<|end|>", *(f"<|{role}|>" for role in ROLES))
CHATML = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CORPUS = [
    "The quick brown fox jumps over the lazy dog. What is the answer to the question?",
    "Don't stop: it's 12345 items, isn't it?  We'll see...\n\nNext paragraph, please!\n",
    "def f(x):\n    return x + 1  # comment\n\nprint(f(41))\n",
    "Größe, naïve, mañana, où est la bibliothèque? 答えは何ですか。",
    "The the the of and to in is; there are (many) brackets [here] and {there}.\r\n\tTab.",
] * 40
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _trained(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in MARKS])
    return tokenizer


def gpt2_like(split: str | None = None) -> Tokenizer:
    """Byte-level BPE with GPT-2's split into words, or with the given one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split is not None:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(split), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(MARKS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    return _trained(tokenizer, trainer)


def llama3_like() -> Tokenizer:
    """Byte-level BPE whose words swallow the newlines after punctuation."""
    return gpt2_like(LLAMA3_SPLIT)


def llama2_like() -> Tokenizer:
    """BPE without any split: blanks are replaced by a normalizer."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", *MARKS], show_progress=False
    )
    _trained(tokenizer, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def unigram() -> Tokenizer:
    """SentencePiece unigram: only the first word of a text gets a blank of its own."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", *MARKS], unk_token="<unk>", show_progress=False
    )
    return _trained(tokenizer, trainer)


def wordpiece() -> Tokenizer:
    """BERT's: lower case, no accents, punctuation apart."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=600, special_tokens=["[UNK]", *MARKS], show_progress=False
    )
    return _trained(tokenizer, trainer)


def embedded() -> Tokenizer:
    """The tokenizer of the embedded experts."""
    return Tokenizer.from_file(str(Path(zoo.__path__[0]) / "tokenizer.json"))


TOKENIZERS = {
    f.__name__: f for f in (gpt2_like, llama3_like, llama2_like, unigram, wordpiece, embedded)
}


def with_template(tokenizer: Tokenizer, template: str = CHATML) -> Any:
    """Return a Hugging Face tokenizer around it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=[m for m in MARKS if m not in ("<|pad|>", "<|end|>")],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run coroutines of one module on one event loop, as an engine's client needs it."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="session")
def hf_tokenizer() -> Callable[..., Any]:
    """Make a tokenizer by name, ``hf_tokenizer("unigram", TEMPLATE)``; each is trained once."""
    trained = cache(lambda name: TOKENIZERS[name]())
    return cache(lambda name, template=CHATML: with_template(trained(name), template))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random two-layer Llama with 600 tokens and a context of 2048; return its folder."""
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder)
    with_template(gpt2_like()).save_pretrained(folder)
    return folder


def write_model(folder: Path, hidden: int = 128, inner: int = 256, vocabulary: int = 600) -> None:
    """Write config and weights of a random Llama with heads of 64, from a fixed seed."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.2).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": random(vocabulary, hidden),
        "lm_head.weight": random(vocabulary, hidden),
        "model.norm.weight": np.ones(hidden, np.float32),
    }
    for layer in ("model.layers.0.", "model.layers.1."):
        for name in "qkvo":
            weights[f"{layer}self_attn.{name}_proj.weight"] = random(hidden, hidden)
        for name, shape in (
            ("gate", (inner, hidden)),
            ("up", (inner, hidden)),
            ("down", (hidden, inner)),
        ):
            weights[f"{layer}mlp.{name}_proj.weight"] = random(*shape)
        for name in ("input", "post_attention"):
            weights[f"{layer}{name}_layernorm.weight"] = np.ones(hidden, np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": 2,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
