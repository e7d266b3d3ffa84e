"""LiveMind: answers that start before the question ends.

    async with LiveMind.from_config("configs/embedded.json") as mind, mind.session() as s:
        s.append("what is ")
        async for event in s.commit("what is a context manager?"):

Names load on first use: importing this package loads no model library, no native code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .public import homes

if TYPE_CHECKING:
    from .public import *  # noqa: F403

    __all__: list[str]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "__all__":
        return sorted(homes())
    if name.startswith("_") or name not in homes():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(homes()[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *homes()})
