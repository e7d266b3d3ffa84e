"""LiveMind's own API from Python: ``LiveClient`` and the values that it takes and returns.

async with LiveClient() as client, client.session() as session:
    session.append("what is ")
    async for event in session.commit("what is a context manager?"):
"""

from .orchestrator.client.answer import LiveAnswer
from .orchestrator.client.client import LiveClient
from .orchestrator.client.events import (
    CompletionChunk,
    DraftStatus,
    ErrorDetails,
    ErrorReceived,
    LiveEvent,
    ServedModel,
    SessionCreated,
    SessionSettings,
    SessionStatus,
    SessionUpdated,
    UnknownEvent,
)
from .orchestrator.client.session import LiveOptions, RemoteSession

__all__ = [
    "CompletionChunk",
    "DraftStatus",
    "ErrorDetails",
    "ErrorReceived",
    "LiveAnswer",
    "LiveClient",
    "LiveEvent",
    "LiveOptions",
    "RemoteSession",
    "ServedModel",
    "SessionCreated",
    "SessionSettings",
    "SessionStatus",
    "SessionUpdated",
    "UnknownEvent",
]
