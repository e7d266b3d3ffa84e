"""The error tree of LiveMind and its one mapping to the wire.

Exception
├── LiveMindError               shown to users as {error: {message, type, param, code}}
│   ├── InvalidRequest   400    a field is wrong; ``param`` names it
│   │   ├── ConfigError         a configuration file is wrong (never on the wire)
│   │   └── Conflict     409    not now; Retry-After
│   │       └── RevisionConflict  an older revision than the session has seen
│   ├── Unauthorized     401
│   ├── Forbidden        403    the API key may not do this
│   ├── NotFound         404    model, session or path
│   ├── BodyTooSlow      408
│   ├── PayloadTooLarge  413
│   ├── Overloaded       429    a limit of the configuration is reached; Retry-After
│   ├── TurnCancelled    499    the turn was cancelled; raised by the client alone
│   └── Unavailable      503    no expert can answer, or the server is shutting down
└── backends.ExpertError        see backends/errors.py; mapped by ``from_exception``
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct, to_builtins

from ..backends.errors import ExpertError, ExpertOverloaded, PromptRejected


class LiveMindError(Exception):
    """Base of everything LiveMind reports to a user; the message is fit to be shown.

    Attributes:
        message: names the field, what was got and what is needed; never text that a user wrote.
        param: the field at fault, None = none.
        code: machine-readable reason; the class has the usual one.
        retry_after_s: seconds after which the same request may work; None = it will not, or it is
            not known.
        status, type: of the HTTP answer and its envelope, fixed for each class.
    """

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else type(self).code
        self.retry_after_s = retry_after_s


class InvalidRequest(LiveMindError):
    """A field of the request is missing, unknown, of the wrong type or over a limit."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class ConfigError(InvalidRequest):
    """A configuration file is wrong; the message names file, key, value and what is needed."""

    code = "invalid_config"


class Conflict(InvalidRequest):
    """It cannot be now, because of something that ends; try again after ``retry_after_s``."""

    status = 409
    code = "conflict"


class RevisionConflict(Conflict):
    """An input revision that is not newer than the one the session has; the input is unchanged."""

    code = "revision_conflict"


class Unauthorized(LiveMindError):
    """The API key is missing or unknown."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(LiveMindError):
    """The API key is known and has not the scope that this needs; the message names it."""

    status = 403
    type = "permission_error"
    code = "missing_scope"


class NotFound(LiveMindError):
    """No such model, session or path."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class BodyTooSlow(LiveMindError):
    """A request's body did not come in time."""

    status = 408
    type = "invalid_request_error"
    code = "body_too_slow"


class PayloadTooLarge(LiveMindError):
    """A body, frame or text above the configured size."""

    status = 413
    type = "invalid_request_error"
    code = "payload_too_large"


class Overloaded(LiveMindError):
    """A configured limit is reached, which the message names; try again after ``retry_after_s``."""

    status = 429
    type = "rate_limit_error"
    code = "overloaded"


class TurnCancelled(LiveMindError):
    """The turn was cancelled before it was complete; raised by the client."""

    status = 499
    type = "cancelled"
    code = "cancelled"


class Unavailable(LiveMindError):
    """No expert can answer now, or the server is shutting down."""

    status = 503
    type = "server_error"
    code = "unavailable"


KINDS = (
    LiveMindError,
    InvalidRequest,
    Conflict,
    RevisionConflict,
    Unauthorized,
    Forbidden,
    NotFound,
    BodyTooSlow,
    PayloadTooLarge,
    Overloaded,
    TurnCancelled,
    Unavailable,
)
"""What goes over the wire; each has a status and a code of its own."""


class ErrorBody(Struct, frozen=True):
    """What is wrong; ``param`` names the field at fault, null = none."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorEnvelope(Struct, frozen=True):
    """An error as every HTTP answer from 400 on holds it."""

    error: ErrorBody


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as it goes over the wire.

    Attributes:
        status: of the HTTP answer, 400 to 599.
        message, type, param, code: of the envelope.
        retry_after_s: Retry-After in seconds, None without.
        cause: for the operator's log alone: it may name hosts; empty where the message says it.
    """

    status: int
    message: str
    type: str
    param: str | None
    code: str
    retry_after_s: float | None = None
    cause: str = field(default="", compare=False, repr=False)

    def envelope(self) -> dict[str, object]:
        """Return ``{"error": {message, type, param, code}}``."""
        body = ErrorBody(self.message, self.type, self.param, self.code)
        envelope: dict[str, object] = to_builtins(ErrorEnvelope(body))
        return envelope


def from_exception(exc: BaseException) -> ErrorInfo:
    """Translate any exception into what a client may see; unknown ones become a bare 500."""
    match exc:
        case LiveMindError():
            return ErrorInfo(
                exc.status, exc.message, exc.type, exc.param, exc.code, exc.retry_after_s
            )
        case PromptRejected():
            return ErrorInfo(400, exc.shown, "invalid_request_error", exc.param, exc.code)
        case ExpertOverloaded():
            return ErrorInfo(
                429,
                exc.shown,
                "rate_limit_error",
                None,
                "overloaded",
                exc.retry_after_s,
                exc.message,
            )
        case ExpertError():
            code = "expert_unavailable" if exc.retryable else "expert_failed"
            after_s = 1.0 if exc.retry_after_s is None else exc.retry_after_s
            return ErrorInfo(503, exc.shown, "server_error", None, code, after_s, exc.message)
        case _:
            cause = type(exc).__name__
            if isinstance(exc, OSError) and exc.strerror:
                cause += f": {exc.strerror}"
            return ErrorInfo(
                500, "internal error", "server_error", None, "internal_error", cause=cause
            )


def to_exception(info: ErrorInfo) -> LiveMindError:
    """Return the exception that a server's error stands for, with the server's own words.

    The class is that of its status and code, else the first of its status. A status without a class
    is an InvalidRequest below 500, else a bare LiveMindError.
    """
    of_status = [kind for kind in KINDS if kind.status == info.status]
    other = InvalidRequest if info.status < 500 else LiveMindError
    first = next(iter(of_status), other)
    kind = next((kind for kind in of_status if kind.code == info.code), first)
    exc = kind(info.message, param=info.param, code=info.code, retry_after_s=info.retry_after_s)
    exc.status, exc.type = info.status, info.type
    return exc
