"""Finding, checking and unpacking the GGUF file of a wheel, and fetching the wheel."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from livemind.backends.models import wheels
from livemind.backends.models.errors import ModelImportError

from .conftest import write_wheel

GGUF = b"GGUF" + bytes(range(200))


def unpacked(found: list[Path], target: Path, chosen: str | None = None) -> tuple[str, bytes]:
    name, members = wheels.find_gguf(found, chosen)
    digest = wheels.unpack(members, target, lambda count: None)
    assert digest == hashlib.sha256(target.read_bytes()).hexdigest()
    return name, target.read_bytes()


def test_wheel_with_one_gguf_gives_it_whole(tmp_path: Path) -> None:
    wheel = write_wheel(
        tmp_path, "some-model", {"m.gguf": GGUF, "__init__.py": b"raise SystemExit"}
    )
    assert unpacked([wheel], tmp_path / "out") == ("m.gguf", GGUF)
    assert wheels.metadata(wheel) == ("MIT", ())
    assert dict(wheels.legal_texts([wheel])) == {"LICENSE": b"as is"}


@pytest.mark.parametrize(
    "form", ["m.gguf.part{:02}", "m-chunk{}.bin", "part{}.bin", "m.gguf.{}"], ids=str
)
def test_wheel_parts_are_joined_in_the_order_of_their_numbers(tmp_path: Path, form: str) -> None:
    pieces = [GGUF[at : at + 18] for at in range(0, len(GGUF), 18)]
    assert len(pieces) > 10
    found = [
        write_wheel(tmp_path, f"m-part{number}", {form.format(number): piece, "__init__.py": b""})
        for number, piece in enumerate(pieces)
    ]
    name, content = unpacked([write_wheel(tmp_path, "m", {"x.py": b""}), *found], tmp_path / "out")
    assert content == GGUF
    assert name.endswith(".gguf")


def test_wheel_with_several_gguf_files_wants_a_choice(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "two", {"a.gguf": GGUF, "b.gguf": GGUF + b"b"})
    with pytest.raises(ModelImportError, match=r"--file: a\.gguf, b\.gguf"):
        wheels.find_gguf([wheel])
    assert unpacked([wheel], tmp_path / "out", "b.gguf") == ("b.gguf", GGUF + b"b")
    with pytest.raises(ModelImportError, match=r"no c\.gguf inside"):
        wheels.find_gguf([wheel], "c.gguf")


def test_wheel_without_gguf_says_so(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "code", {"part1.bin": b"no model", "code.py": b""})
    with pytest.raises(ModelImportError, match="no GGUF file inside code-1"):
        wheels.find_gguf([wheel])


def test_wheel_whose_content_differs_from_its_record_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "bad", {"m.gguf": GGUF}, recorded={"m.gguf": GGUF[:-1] + b"x"})
    with pytest.raises(ModelImportError, match=r"m\.gguf is not what its RECORD says"):
        unpacked([wheel], tmp_path / "out")


def test_wheel_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "cut", {"m.gguf": GGUF})
    wheel.write_bytes(wheel.read_bytes()[:100])
    with pytest.raises(ModelImportError, match="not a wheel, or cut off"):
        wheels.metadata(wheel)


def test_metadata_names_parts_and_no_other_requirements(tmp_path: Path) -> None:
    requires = ["m-part1==1.0", "M_part2 (==1.0)", "torch==2.0", "m-part3>=1", "mm==1.0",
                "m-part4 @ file:///etc/x.whl"]  # fmt: skip
    wheel = write_wheel(tmp_path, "m", {"x.py": b""}, requires=requires)
    assert wheels.metadata(wheel)[1] == ("m-part1==1.0", "M_part2==1.0")


def test_checksum_file_of_a_package_is_read(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "m", {"SHA256SUMS": b"AB12  m.gguf\ncd34 *n.gguf\n"})
    assert wheels.stated_sha256([wheel], "m.gguf") == "ab12"
    assert wheels.stated_sha256([wheel], "n.gguf") == "cd34"
    assert wheels.stated_sha256([wheel], "o.gguf") is None


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that pip is configured to take packages from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_download_asks_pip_once_and_takes_no_requirements(index: Path, tmp_path: Path) -> None:
    made = write_wheel(index, "some-model", {"m.gguf": GGUF}, requires=["torch==99"])
    wheel = wheels.download("some-model==1.0", tmp_path)
    assert wheel.read_bytes() == made.read_bytes()
    made.unlink()
    assert wheels.download("some-model==1.0", tmp_path) == wheel
    with pytest.raises(ModelImportError, match=r"pip cannot fetch some-model==2\.0: No matching"):
        wheels.download("some-model==2.0", tmp_path)


def test_download_of_a_source_package_runs_none_of_it(index: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    setup = tmp_path / "evil-1.0" / "setup.py"
    setup.parent.mkdir()
    setup.write_text(f"open({str(ran)!r}, 'w')")
    with tarfile.open(index / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup.parent, "evil-1.0")
    with pytest.raises(ModelImportError, match=r"pip cannot fetch evil==1\.0"):
        wheels.download("evil==1.0", tmp_path)
    assert not ran.exists()
