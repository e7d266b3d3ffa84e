"""What a server tells, typed: a session's events, those of a connection, what HTTP returns.

A field that is missing or of another type is an error that names it; fields and kinds of event that
a newer server adds are let through. The types are those that the server itself writes.
"""

from __future__ import annotations

from typing import Any, TypeVar, get_args

import msgspec
from msgspec import UNSET, Struct

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
from ..events import Event
from ..server.live.answers import ErrorDetail, ErrorFrame, OwnFrame

T = TypeVar("T")


class UnknownEvent(Struct, frozen=True):
    """An event of a kind that this client does not know; ``content`` is the whole of it."""

    type: str
    content: dict[str, Any]


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


LiveEvent = Event | OwnFrame | UnknownEvent
"""What may arrive on a live connection."""


class _Kind(Struct):
    type: str


_KIND = msgspec.json.Decoder(_Kind)
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    **{kind.type: msgspec.json.Decoder(kind) for kind in get_args(Event)},
    **{str(kind.__struct_config__.tag): msgspec.json.Decoder(kind) for kind in get_args(OwnFrame)},
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


def exception_of(frame: ErrorFrame) -> LiveMindError:
    """Return what an error event means."""
    error: ErrorDetail = frame.error
    retry_after_s = None if error.retry_after_s is UNSET else error.retry_after_s
    return exception(error.message, error.type, error.param, error.code, retry_after_s)


def exception(
    message: str,
    kind: str,
    param: str | None,
    code: str,
    retry_after_s: float | None = None,
    status: int | None = None,
) -> LiveMindError:
    """Return an error as the exception that the server meant; ``status``: of HTTP, if known."""
    status = status or _STATUS_OF_CODE.get(code) or _STATUS_OF_TYPE.get(kind, 500)
    return to_exception(ErrorInfo(status, message, kind, param, code, retry_after_s))
