"""What the server itself says of a live session: frames beside the turn's events, HTTP answers.

Types alone; ``docs/schemas`` is written from them and from the events.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict

from ....backends.base import GenerationParams
from ...errors import ErrorInfo
from ...events import PrefillUpdated, RetrievalUpdated, RouteUpdated
from ...options import Interrupt, Segment
from ...turn.passages.documents import Consistency
from ...turn.values import Mode, OnCold, TranscriptsEqual
from ..consensus_schema import ConsensusInForce


class SamplingInForce(GenerationParams, frozen=True, omit_defaults=True):
    """The sampling parameters that a session has set; the others are the expert's."""


def sampling_in_force(params: GenerationParams) -> SamplingInForce:
    """Return the parameters as a session shows them."""
    return SamplingInForce(**asdict(params))


class InputSettings(Struct, frozen=True):
    """Where the text comes from: ``auto``, ``typed`` or ``transcript``."""

    kind: str
    transcripts_equal: TranscriptsEqual


class SessionSettings(Struct, frozen=True):
    """What a session is set to. ``documents`` is their number, ``tools`` their names.

    What was added since 0.1.0 has a default: a client understands servers that do not send it.

    Attributes:
        turn_id, turn: see ``SessionStatus``.
    """

    id: str
    turn_id: str
    turn: int
    model: str
    instructions: str | None
    consensus: ConsensusInForce
    speculation: Mode
    on_cold: OnCold | None
    retrieval: bool
    documents: int
    consistency: Consistency | None
    input: InputSettings
    interrupt: Interrupt
    segment: Segment | None
    sampling: SamplingInForce
    tools: tuple[str, ...] = ()


class SessionCreated(Struct, frozen=True, tag_field="type", tag="session.created"):
    """The connection is open; ``session.update`` has to come first."""

    session: SessionSettings


class SessionUpdated(Struct, frozen=True, tag_field="type", tag="session.updated"):
    """A ``session.update`` is in force; all settings, not the changed ones alone."""

    session: SessionSettings


class ErrorDetail(Struct, frozen=True):
    """What is wrong. ``event_id`` is that of the frame it answers, or null."""

    type: str
    code: str
    message: str
    param: str | None
    event_id: str | None
    retry_after_s: float | UnsetType = UNSET


class ErrorFrame(Struct, frozen=True, tag_field="type", tag="error"):
    """A frame was refused and changed nothing, or the connection is about to be closed."""

    error: ErrorDetail


def error_frame(info: ErrorInfo, event_id: str | None = None) -> ErrorFrame:
    """Return the ``error`` frame of a failure; ``event_id`` is that of the frame it answers."""
    retry_after_s = UNSET if info.retry_after_s is None else info.retry_after_s
    return ErrorFrame(
        ErrorDetail(info.type, info.code, info.message, info.param, event_id, retry_after_s)
    )


class SessionMoving(Struct, frozen=True, tag_field="type", tag="session.moving"):
    """This server leaves: open the session on another one, with its conversation and input.

    Attributes:
        retry_after_s: when to do that; drawn, so that not all clients come at once.
        closes_in_s: when this server takes nothing any more; what it answers then has a little more
            time.
    """

    retry_after_s: float = 0.0
    closes_in_s: float = 0.0


OwnFrame = SessionCreated | SessionUpdated | SessionMoving | ErrorFrame
"""The server's frames that are no events of a turn."""


class DraftStatus(Struct, frozen=True):
    """The newest draft that was not discarded; ``tokens`` once it is adopted."""

    draft_id: str
    expert: str
    revision: int
    state: Literal["created", "adopted"]
    tokens: int | UnsetType = UNSET


class SessionStatus(Struct, frozen=True, kw_only=True):
    """How far the turn being typed has come: the newest event of each stage, null before it.

    Attributes:
        turn_id, turn: the response id that it will have, and how many were committed before it.
        items: how many the conversation has.
    """

    id: str
    object: Literal["live.session"] = "live.session"
    revision: int
    turn_id: str
    turn: int
    items: int
    response_running: bool
    route: RouteUpdated | None
    retrieval: RetrievalUpdated | None
    prefill: PrefillUpdated | None
    draft: DraftStatus | None


class SessionDeleted(Struct, frozen=True):
    """The session is closed."""

    id: str
    object: Literal["live.session.deleted"] = "live.session.deleted"
    deleted: bool = True
