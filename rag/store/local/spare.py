"""What a disk does not give: room, of which a file holds some in reserve, and leave to write.

Deleting is the remedy for a full disk, and a database needs room to write down what was deleted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..base import StoreError

SPARE_BYTES = 2 * 1024 * 1024


class Spare:
    """One such file; no error if there is no room for it."""

    def __init__(self, file: Path, *, reserve: bool = True) -> None:
        self._file = file
        if reserve:
            self.reserve()

    def reserve(self) -> None:
        """Take the room, unless it is taken or there is none."""
        with suppress(OSError):
            if self._file.exists() and self._file.stat().st_size == SPARE_BYTES:
                return
            with self._file.open("wb", buffering=0) as file:
                try:
                    _allocate(file.fileno())
                except OSError:
                    file.truncate(0)

    def give_up(self) -> bool:
        """Free the room; return whether there was any."""
        try:
            held = self._file.stat().st_size > 0
            self._file.unlink()
        except OSError:
            return False
        return held


def _allocate(file: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, SPARE_BYTES)
    else:
        os.write(file, bytes(SPARE_BYTES))


def refuse_unmerged(file: Path) -> None:
    """Refuse a database whose last writes stand beside it: that is merged by writing."""
    with suppress(OSError):
        if file.with_name(f"{file.name}-wal").stat().st_size:
            raise StoreError(
                f"{file.parent.name} cannot be written and was not closed: its last writes wait in "
                f"{file.name}-wal; open it once where it can be written"
            )
