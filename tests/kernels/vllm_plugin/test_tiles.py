"""Leave to use AMX tiles; a process of its own, as leave cannot be given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from livemind.backends.machine.processor import this_processor
from livemind.kernels.vllm_plugin import tiles

_PERMITTED = """
import ctypes, sys
from livemind.kernels.vllm_plugin import entry, tiles

def permitted():
    found = ctypes.c_uint64()
    ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(found))  # ARCH_GET_XCOMP_PERM
    return bool(found.value >> 18 & 1)

before = permitted()
getattr(entry, "register")() if sys.argv[1] == "register" else tiles.allow_tiles()
print(before, permitted())
"""


@pytest.mark.skipif(not this_processor().has("amx_tile"), reason="the processor has no AMX")
@pytest.mark.parametrize("how", ["allow_tiles", "register"])
def test_tiles_are_allowed_once_asked_for(how: str) -> None:
    pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "LIVEMIND_KERNELS": "off"}
    ended = subprocess.run(
        [sys.executable, "-c", _PERMITTED, how], capture_output=True, text=True, env=environment
    )
    assert ended.stdout.split() == ["False", "True"], ended.stderr


def test_tiles_of_other_processors_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("asked"))
    tiles.allow_tiles()
