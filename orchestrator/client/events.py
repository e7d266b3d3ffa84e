"""What a server tells, typed: a session's events, those of a connection, what HTTP returns.

A field that is missing or of another type is an error that names it; fields and kinds of event that
a newer server adds are let through.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar, get_args

import msgspec
from msgspec import Struct

from ...backends.base import FinishReason, Usage
from ..errors import (
    KINDS,
    ErrorInfo,
    InvalidRequest,
    LiveMindError,
    NotFound,
    Overloaded,
    TurnCancelled,
    Unauthorized,
    Unavailable,
    to_exception,
)
from ..events import Event, PrefillUpdated, RetrievalUpdated, RouteUpdated

T = TypeVar("T")


class SessionSettings(Struct, frozen=True):
    """The options in force, as the server says them; ``documents`` counts those attached."""

    id: str
    model: str
    speculation: str
    instructions: str | None = None
    retrieval: bool = False
    on_cold: str | None = None
    documents: int = 0
    consensus: dict[str, Any] = {}
    sampling: dict[str, Any] = {}


class SessionCreated(Struct, frozen=True):
    """The connection has a session; the first event of every connection."""

    type: ClassVar[str] = "session.created"
    session: SessionSettings


class SessionUpdated(Struct, frozen=True):
    """Options were put in force."""

    type: ClassVar[str] = "session.updated"
    session: SessionSettings


class ErrorDetails(Struct, frozen=True):
    """The error of an error event; ``event_id`` is that of the frame it answers."""

    message: str
    type: str
    code: str | None = None
    param: str | None = None
    event_id: str | None = None
    retry_after_s: float | None = None

    def exception(self, status: int | None = None) -> LiveMindError:
        """Return it as the exception that the server meant; ``status``: of HTTP, if known."""
        code = self.code or "unknown"
        if status is None:
            status = _STATUS_OF_CODE.get(code) or _STATUS_OF_TYPE.get(self.type, 500)
        retry_after_s = self.retry_after_s
        return to_exception(
            ErrorInfo(status, self.message, self.type, self.param, code, retry_after_s)
        )


class ErrorReceived(Struct, frozen=True):
    """A frame was refused, or the server says why it closes the connection."""

    type: ClassVar[str] = "error"
    error: ErrorDetails


class UnknownEvent(Struct, frozen=True):
    """An event of a kind that this client does not know; ``content`` is the whole of it."""

    type: str
    content: dict[str, Any]


class DraftStatus(Struct, frozen=True):
    """A hidden draft as it stands: ``state`` is ``created`` or ``adopted``."""

    draft_id: str
    expert: str
    revision: int
    state: str
    tokens: int | None = None


class SessionStatus(Struct, frozen=True):
    """What a live session over plain HTTP has prepared so far; None = nothing yet."""

    id: str
    revision: int
    response_running: bool
    route: RouteUpdated | None = None
    retrieval: RetrievalUpdated | None = None
    prefill: PrefillUpdated | None = None
    draft: DraftStatus | None = None


class ServedModel(Struct, frozen=True):
    """A name that requests may give as ``model``."""

    id: str
    owned_by: str | None = None


class CompletionChunk(Struct, frozen=True):
    """A piece of an answer over HTTP; None = not told by this piece.

    Attributes:
        model: the expert that answers.
        usage: in the last piece.
    """

    text: str
    model: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


LiveEvent = Event | SessionCreated | SessionUpdated | ErrorReceived | UnknownEvent


class _Kind(Struct):
    type: str


_KIND = msgspec.json.Decoder(_Kind)
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    kind.type: msgspec.json.Decoder(kind)
    for kind in (*get_args(Event), SessionCreated, SessionUpdated, ErrorReceived)
}
# An error event has no status: its code tells the class, else its type does.
_STATUS_OF_CODE = {kind.code: kind.status for kind in KINDS} | dict.fromkeys(
    ("session_expired", "session_not_found", "model_not_found"), NotFound.status
)
_STATUS_OF_TYPE = {
    kind.type: kind.status
    for kind in (InvalidRequest, Unauthorized, Overloaded, TurnCancelled, Unavailable)
}


def decode_event(raw: str | bytes) -> LiveEvent:
    """Return an event of a live connection.

    Raises:
        Unavailable: it is malformed; the message names event and field.
    """
    kind = decode(raw, "an event", _KIND).type
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return UnknownEvent(kind, msgspec.json.decode(raw))
    event: LiveEvent = decode(raw, kind, decoder)
    return event


def decode(raw: str | bytes, what: str, decoder: msgspec.json.Decoder[T]) -> T:
    """Return what a server sent; ``what`` names it where it is malformed.

    Raises:
        Unavailable: it is malformed.
    """
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as exc:
        raise Unavailable(f"{what}: malformed: {exc}", code="protocol_error") from None
