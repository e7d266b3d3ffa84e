"""What an expert can fail with: foreign exceptions are translated into these once, at the border.

ExpertError                    anything an expert did wrong; ``retryable`` is decided here
├── ExpertUnavailable          not started, crashed, unreachable          (retryable)
├── ExpertOverloaded           its queue is full or it answered 429/503   (retryable)
├── ExpertTimeout              no answer within the deadline              (retryable)
└── PromptRejected             the request can never work here: too long, unsupported parameter
"""

from __future__ import annotations


class ExpertError(Exception):
    """An expert failed. Its messages hold no path of this machine, no prompt text, no stack trace.

    Attributes:
        expert_id: which expert.
        message: for the operator: it may name a server's host and quote what that said.
        shown: what a client may be told.
        retryable: whether the same request may succeed later or elsewhere.
        retry_after_s: seconds after which trying again is sensible, None = not known.
    """

    retryable = False
    retry_after_s: float | None = None

    def __init__(self, expert_id: str, message: str, *, shown: str | None = None) -> None:
        super().__init__(message)
        self.expert_id = expert_id
        self.message = message
        self.shown = message if shown is None else shown


class ExpertUnavailable(ExpertError):
    """The engine is not running: not started, crashed, or its server cannot be reached."""

    retryable = True

    def __init__(
        self,
        expert_id: str,
        message: str,
        retry_after_s: float | None = None,
        *,
        shown: str | None = None,
    ) -> None:
        super().__init__(expert_id, message, shown=shown)
        self.retry_after_s = retry_after_s


class ExpertOverloaded(ExpertError):
    """The expert refuses more work for now, until ``retry_after_s`` seconds have passed."""

    retryable = True

    def __init__(
        self,
        expert_id: str,
        message: str,
        retry_after_s: float = 1.0,
        *,
        shown: str | None = None,
    ) -> None:
        super().__init__(expert_id, message, shown=shown)
        self.retry_after_s: float = retry_after_s


class ExpertTimeout(ExpertError):
    """The expert did not answer within the deadline."""

    retryable = True


class PromptRejected(ExpertError):
    """The request can never succeed on this expert.

    Attributes:
        param: the request field at fault, in OpenAI's spelling, or None.
        code: machine-readable reason, for example ``context_length_exceeded``.
    """

    def __init__(
        self,
        expert_id: str,
        message: str,
        *,
        param: str | None = None,
        code: str = "invalid_value",
        shown: str | None = None,
    ) -> None:
        super().__init__(expert_id, message, shown=shown)
        self.param = param
        self.code = code


def takes_no_images(expert_id: str) -> PromptRejected:
    """Return the refusal of images by an expert that is not configured for them."""
    text = f"expert {expert_id!r} takes no images"
    return PromptRejected(expert_id, text, param="messages", code="unsupported_content")
