"""The memory guard reads the container's limit where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from livemind.backends.memory import used_memory_share

MEMINFO = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    750 kB\n"


def files(folder: Path, limit: str | None) -> tuple[Path, Path]:
    (folder / "meminfo").write_text(MEMINFO)
    if limit is not None:
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text("900\n")
        (folder / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    return folder, folder / "meminfo"


@pytest.mark.parametrize(("limit", "share"), [("1000\n", 0.8), ("max\n", 0.25), (None, 0.25)])
def test_used_memory_share_is_of_the_tightest_limit(
    tmp_path: Path, limit: str | None, share: float
) -> None:
    assert used_memory_share(*files(tmp_path, limit)) == pytest.approx(share)


def test_used_memory_share_unreadable_is_zero(tmp_path: Path) -> None:
    assert used_memory_share(tmp_path / "no", tmp_path / "none") == 0.0
