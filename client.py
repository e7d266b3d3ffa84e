"""LiveMind's own API from Python: ``LiveClient`` and the values that it takes and returns.

async with LiveClient() as client, client.session() as session:
    session.append("what is ")
    async for event in session.commit("what is a context manager?"):
"""

from .orchestrator.client.answer import LiveAnswer
from .orchestrator.client.client import LiveClient
from .orchestrator.client.events import CompletionChunk, LiveEvent, ServedModel, UnknownEvent
from .orchestrator.client.options import LiveOptions
from .orchestrator.client.session import RemoteSession
from .orchestrator.server.consensus_schema import ConsensusInForce
from .orchestrator.server.live.answers import (
    DraftStatus,
    ErrorDetail,
    ErrorFrame,
    InputSettings,
    SamplingInForce,
    SessionCreated,
    SessionMoving,
    SessionSettings,
    SessionStatus,
    SessionUpdated,
)

__all__ = [
    "CompletionChunk",
    "ConsensusInForce",
    "DraftStatus",
    "ErrorDetail",
    "ErrorFrame",
    "InputSettings",
    "LiveAnswer",
    "LiveClient",
    "LiveEvent",
    "LiveOptions",
    "RemoteSession",
    "SamplingInForce",
    "ServedModel",
    "SessionCreated",
    "SessionMoving",
    "SessionSettings",
    "SessionStatus",
    "SessionUpdated",
    "UnknownEvent",
]
