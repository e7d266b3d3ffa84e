"""Leave to use AMX tiles; in a process of its own, as leave cannot be given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from livemind.backends.machine.processor import this_processor
from livemind.kernels.vllm_plugin import entry, tiles
from livemind.kernels.vllm_plugin.hooks import Different

_PERMITTED = """
import ctypes
from livemind.kernels.vllm_plugin.tiles import allow_tiles

def permitted():
    found = ctypes.c_uint64()
    ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(found))  # ARCH_GET_XCOMP_PERM
    return bool(found.value >> 18 & 1)

before = permitted()
allow_tiles()
print(before, permitted())
"""


@pytest.mark.skipif(not this_processor().has("amx_tile"), reason="the processor has no AMX")
def test_tiles_are_allowed_once_asked_for() -> None:
    ended = subprocess.run([sys.executable, "-c", _PERMITTED], capture_output=True, text=True)
    assert ended.stdout.split() == ["False", "True"], ended.stderr


def test_tiles_of_other_processors_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("asked"))
    tiles.allow_tiles()


@pytest.mark.parametrize("front_end", [False, True])
def test_plugin_asks_for_tiles_where_it_computes(
    front_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []

    def offers_nothing() -> None:
        raise Different("nothing is offered")

    monkeypatch.setattr(entry, "_registered", False)
    monkeypatch.setattr(entry, "_in_front_end", lambda: front_end)
    monkeypatch.setattr(entry, "allow_tiles", lambda: asked.append(None))
    monkeypatch.setattr("livemind.kernels.vllm_plugin.quantization.install", offers_nothing)
    entry.register()
    assert len(asked) == (not front_end)
