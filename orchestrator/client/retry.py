"""When the client asks again, and how long it waits before.

Only what the server has not taken is sent again: the server cannot be reached, is full (429) or
ends (503). The wait is the server's Retry-After plus a time drawn between 0 and a limit that
doubles from ``FIRST_WAIT_S`` to ``LONGEST_WAIT_S``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import tenacity

from ..errors import LiveMindError, Overloaded, Unavailable

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
UNREACHABLE, PROTOCOL = "unreachable", "protocol_error"
T = TypeVar("T")
_JITTER = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)


def may_be_repeated(exc: BaseException) -> bool:
    """Whether the same request may be answered later; for what changes nothing on the server."""
    if not isinstance(exc, Overloaded | Unavailable) or exc.code == PROTOCOL:
        return False
    return (exc.retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S


def was_not_taken(exc: BaseException) -> bool:
    """Whether a question cannot have been asked: no connection, or refused for want of room."""
    refused = isinstance(exc, Overloaded)
    return may_be_repeated(exc) and (refused or getattr(exc, "code", None) == UNREACHABLE)


async def repeated(
    call: Callable[[], Awaitable[T]],
    attempts: int,
    repeatable: Callable[[BaseException], bool] = may_be_repeated,
    failure: LiveMindError | None = None,
) -> T:
    """Return what ``call`` returns, called up to ``attempts`` times.

    Args:
        call: one attempt.
        attempts: >= 1.
        repeatable: which failures are followed by another attempt.
        failure: an attempt that was made already; what is waited for first.

    Raises:
        LiveMindError: the last attempt's.
    """
    made = [] if failure is None else [failure]

    async def attempt() -> T:
        if made:
            raise made.pop()
        return await call()

    return await tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(repeatable),
        wait=_wait_s,
        stop=tenacity.stop_after_attempt(attempts),
        reraise=True,
    )(attempt)


def _wait_s(state: tenacity.RetryCallState) -> float:
    exc = state.outcome.exception() if state.outcome is not None else None
    return (getattr(exc, "retry_after_s", None) or 0.0) + _JITTER(state)
