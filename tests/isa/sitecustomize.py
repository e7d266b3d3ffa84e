"""Lets a process and its children take this processor for a lesser one; for tests alone.

With this folder in PYTHONPATH, ``LIVEMIND_TEST_ISA`` says which: ``avx2``, or ``avx512`` (without
BF16). vLLM asks torch which of its extensions fits, LiveMind reads ``/proc/cpuinfo``: both get
the lesser answer. torch, oneDNN and our kernels have variables of their own: ``make test-avx2``.
"""

import importlib.abc
import importlib.machinery
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

ISA = os.environ.get("LIVEMIND_TEST_ISA", "")
_HIDDEN = {"avx2": r"\b(avx512\w*|amx\w*|avx_vnni\w*)\b", "avx512": r"\b(avx512_\w*|amx\w*)\b"}
_TORCH = {
    "avx2": ("avx512", "avx512_bf16", "vnni", "amx_tile", "amx_fp16"),
    "avx512": ("avx512_bf16", "vnni", "amx_tile", "amx_fp16"),
}


def _torch(module: ModuleType) -> None:
    for name in _TORCH[ISA]:
        if hasattr(module, f"_is_{name}_supported"):
            setattr(module, f"_is_{name}_supported", lambda: False)


def _processor(module: ModuleType) -> None:
    told = Path(module.CPUINFO).read_text(encoding="utf-8", errors="replace")
    with tempfile.NamedTemporaryFile("w", prefix="cpuinfo-", delete=False) as file:
        file.write(re.sub(_HIDDEN[ISA], "", told))
    setattr(module, "CPUINFO", Path(file.name))  # noqa: B010


CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "torch.cpu": _torch,
    "livemind.backends.machine.processor": _processor,
}


class _Loader(importlib.abc.Loader):
    """Loads a module as always, then changes it."""

    def __init__(self, loader: importlib.abc.Loader, change: Callable[[ModuleType], None]) -> None:
        self._loader, self._change = loader, change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules to be changed where the others find them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in CHANGES:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, CHANGES[fullname])
                return spec
        return None


if ISA in _HIDDEN:
    sys.meta_path.insert(0, _Finder())
