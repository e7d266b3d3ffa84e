"""LiveMind: answers that start before the question ends.

    async with LiveMind.from_config("configs/embedded.json") as mind, mind.session() as s:
        s.append("what is ")
        async for event in s.commit("what is a context manager?"):

Names load on first use: importing this package loads no model library, no native code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backends.base import GenerationParams as GenerationParams
    from .backends.base import Message as Message
    from .orchestrator.config.settings import Settings as Settings
    from .orchestrator.config.settings import load_settings as load_settings
    from .orchestrator.errors import LiveMindError as LiveMindError
    from .orchestrator.live_mind import LiveMind as LiveMind
    from .orchestrator.session import Session as Session

__version__ = "0.1.0"
_HOME = {
    "GenerationParams": ".backends.base",
    "LiveMind": ".orchestrator.live_mind",
    "LiveMindError": ".orchestrator.errors",
    "Message": ".backends.base",
    "Session": ".orchestrator.session",
    "Settings": ".orchestrator.config.settings",
    "load_settings": ".orchestrator.config.settings",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
