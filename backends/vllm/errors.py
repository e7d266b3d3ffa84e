"""vLLM's exceptions in LiveMind's terms: the one place where they are translated."""

from __future__ import annotations

from ..errors import ExpertError, ExpertOverloaded, ExpertUnavailable, PromptRejected
from .process import one_line

# vLLM's names of request fields, where OpenAI spells them differently.
_PARAMS = {"prompt_token_ids": "prompt", "max_num_tokens": "max_tokens", "prompt_len": "prompt"}


def translate(expert_id: str, error: BaseException) -> ExpertError:
    """Return the ExpertError for whatever vLLM raised while it served a request."""
    from vllm.exceptions import (
        GracefulHTTPError,
        RetryableRequestError,
        VLLMClientError,
        VLLMServerError,
    )
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    if isinstance(error, EngineGenerateError) and isinstance(error.__cause__, ValueError):
        error = error.__cause__
    match error:
        case ExpertError():
            return error
        case EngineDeadError():
            return ExpertUnavailable(expert_id, "the engine died")
        case VLLMClientError() | ValueError() | TypeError():
            param = getattr(error, "parameter", None)
            return PromptRejected(expert_id, _message(error), param=_PARAMS.get(str(param), param))
        case GracefulHTTPError() if _status(error) in (429, 503):
            return ExpertOverloaded(expert_id, "the engine's queue is full")
        case GracefulHTTPError() if 400 <= _status(error) < 500:
            return PromptRejected(expert_id, _message(error))
        case RetryableRequestError():
            return ExpertOverloaded(expert_id, "the engine could not run the request now")
        case VLLMServerError():
            return ExpertUnavailable(expert_id, f"the engine failed: {_root(error)}")
        case _:
            return ExpertUnavailable(expert_id, f"unexpected {type(error).__name__} in the engine")


def _status(error: object) -> int:
    return int(getattr(error, "http_status", 500))


def _message(error: BaseException) -> str:
    return one_line(str(error.args[0]) if error.args else type(error).__name__)


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
