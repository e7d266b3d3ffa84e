"""LiveMind: answers that start before the question ends.

    async with LiveMind.from_config("configs/embedded.json") as mind, mind.session() as s:
        s.append("what is ")
        async for event in s.commit("what is a context manager?"):

Names load on first use: importing this package loads no model library, no native code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .public import HOMES

if TYPE_CHECKING:
    from .public import *  # noqa: F403

__version__ = "0.1.0"
_HOME = {name: module for module, names in HOMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
