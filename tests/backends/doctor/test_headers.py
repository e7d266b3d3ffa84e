"""Headers of weight files, sound and damaged; sizes as text; the machine's memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from livemind.backends.doctor import Question, Subject, examine
from livemind.backends.doctor.engine_tables import EngineTables
from livemind.backends.doctor.gguf_header import read_gguf
from livemind.backends.doctor.model_files import locate, read_model
from livemind.backends.doctor.quantities import GIB, gib, parse_size
from livemind.backends.doctor.safetensors_header import BadWeights, read_safetensors
from livemind.backends.spec import ExpertSpec

from .conftest import write_safetensors


def test_safetensors_header_gives_elements_and_bytes_without_data(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": ("BF16", (1000, 3)), "b": ("I32", (7,)), "c": ("F32", ())})
    found = {t.name: (t.dtype, t.elements, t.size) for t in read_safetensors(path)}
    assert found == {"a": ("BF16", 3000, 6000), "b": ("I32", 7, 28), "c": ("F32", 1, 4)}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no safetensors header"),
        (b"\xff" * 64, "no safetensors header"),
        (struct.pack("<Q", 5) + b"{...}", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not an object"),
        (struct.pack("<Q", 10) + b'{"a": {} }', "does not describe tensors"),
    ],
)
def test_safetensors_damaged_file_is_refused_with_its_name(
    content: bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadWeights, match=f"x.safetensors: .*{complaint}"):
        read_safetensors(path)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf_file(path: Path) -> Path:
    """A GGUF of one Q4_K matrix, 4096 x 256, and one F32 vector."""
    pairs = {
        "general.architecture": (8, text("llama")),
        "llama.block_count": (4, struct.pack("<I", 2)),
        "llama.context_length": (4, struct.pack("<I", 4096)),
        "llama.embedding_length": (4, struct.pack("<I", 256)),
        "llama.attention.head_count": (4, struct.pack("<I", 4)),
        "llama.attention.head_count_kv": (4, struct.pack("<I", 2)),
        "tokenizer.ggml.tokens": (9, struct.pack("<IQ", 8, 2) + text("a") + text("b")),
        "tokenizer.ggml.scores": (9, struct.pack("<IQ", 6, 2) + struct.pack("<ff", 0, 1)),
        "tokenizer.chat_template": (8, text("{{ messages }}")),
    }
    content = b"GGUF" + struct.pack("<IQQ", 3, 2, len(pairs))
    for key, (kind, value) in pairs.items():
        content += text(key) + struct.pack("<I", kind) + value
    content += text("q") + struct.pack("<IQQIQ", 2, 256, 4096, 12, 0)
    content += text("n") + struct.pack("<IQIQ", 1, 256, 0, 0)
    path.write_bytes(content)
    return path


def test_gguf_header_gives_shape_template_and_packed_bytes(tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "model.gguf")
    model = read_model(path)
    assert model.weights is not None
    assert model.weights.stored_bytes == 4096 * 144 + 256 * 4
    assert model.weights.dtypes == {"Q4_K": 4096 * 256, "F32": 256}
    assert model.has_chat_template
    assert model.has_tokenizer
    assert model.config is not None
    assert model.config["num_key_value_heads"] == 2
    assert model.config["max_position_embeddings"] == 4096


def test_gguf_is_an_error_for_an_engine_that_cannot_read_it(
    tmp_path: Path, engine: EngineTables
) -> None:
    """vLLM 0.32 has no GGUF; KV and context are told all the same."""
    path = gguf_file(tmp_path / "model.gguf")
    spec = ExpertSpec("one", model_path=str(path), max_model_len=1024)
    report = examine(Question([Subject("experts[0]", spec)], memory=8 * GIB), engine)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert [finding.code for finding in errors] == ["quantization_unsupported"]
    assert 'no quantization method "gguf"' in errors[0].why
    assert report.experts[0].kv_bytes_per_token == 2 * 2 * 2 * 64 * 2


def test_gguf_cut_off_is_reported_as_damaged(tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "model.gguf")
    whole = path.read_bytes()
    for length in (3, 20, 100, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(BadWeights, match=r"model\.gguf"):
            read_gguf(path)


def test_model_is_found_by_hub_name_below_models_and_in_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert locate("org/name", tmp_path) is None
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    assert locate("org/name") == snapshot
    (tmp_path / "name").mkdir()
    assert locate("org/name", tmp_path) == tmp_path / "name"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert locate("org/name", tmp_path) == tmp_path / "org" / "name"


def test_tokenizers_are_the_same_but_for_truncation_and_padding(tmp_path: Path) -> None:
    ids = []
    for number, extra in enumerate(({"truncation": {"max_length": 1}}, {}, {"model": {"a": 1}})):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"b": 1}} | extra))
        ids.append(read_model(folder).tokenizer)
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("given", "size"),
    [("128GiB", 128 * GIB), ("64 GB", 64 * 10**9), ("1024", 1024), ("1.5g", 1_500_000_000),
     ("512 MiB", 512 * 2**20), ("2TiB", 2 * 2**40)],
)  # fmt: skip
def test_size_text_is_bytes_in_decimal_or_binary_units(given: str, size: int) -> None:
    assert parse_size(given) == size


@pytest.mark.parametrize("given", ["", "GiB", "-1", "1 i", "12 parsecs", "0"])
def test_size_text_without_meaning_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="need"):
        parse_size(given)


def test_size_is_shown_in_gib_and_small_ones_in_mib() -> None:
    assert (gib(54.86e9), gib(2.5e6)) == ("51.1 GiB", "2.4 MiB")
