"""What servers answer in place of an answer: errors of OpenAI's API, in LiveMind's terms."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ..errors import ExpertError, ExpertOverloaded, PromptRejected

LONGEST_RETRY_AFTER_S = 60.0


def telling(seen: Sequence[ExpertError], last: ExpertError) -> ExpertError:
    """Return which of several servers' failures counts.

    A refusal that no other server would take back; else the shortest wait, where one is only busy;
    else the last one.
    """
    if not last.retryable:
        return last
    busy = [error for error in seen if isinstance(error, ExpertOverloaded)]
    return min(busy, key=lambda error: error.retry_after_s, default=last)


def host_of(node: str | None) -> str:
    """Return a server's host and port, without credentials; empty for none."""
    return "" if node is None else urlsplit(node).netloc.rpartition("@")[2]


def rejected(expert_id: str, message: str, param: str | None, code: str | None) -> PromptRejected:
    """Return the PromptRejected for a server's 4xx, naming a prompt that is too long as such."""
    too_long = "context length" in message or "maximum model length" in message
    named = "context_length_exceeded" if too_long else code or "invalid_value"
    shown = (
        "the prompt is longer than the expert's context" if too_long else "the expert refuses it"
    )
    if param is not None:
        shown = f"{param}: {shown}"
    return PromptRejected(expert_id, message, param=param, code=named, shown=shown)


def error_fields(content: bytes | Mapping[str, object]) -> tuple[str, str | None, str | None]:
    """Return message, param and code of an OpenAI error body, empty where it is something else."""
    try:
        body: Any = json.loads(content) if isinstance(content, bytes) else content
        error = body.get("error", body)
        message, param, code = (error.get(name) for name in ("message", "param", "code"))
    except (ValueError, AttributeError, RecursionError):
        return "", None, None
    shown = " ".join(str(message).split())[:500] if message else ""
    shown = shown.encode("utf-8", "replace").decode()
    return (
        shown,
        param if isinstance(param, str) else None,
        code if isinstance(code, str) else None,
    )


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the Retry-After header in seconds, bounded; 1 where it is missing or is none."""
    told = headers.get("Retry-After", "1")
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(told).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 1.0
    return 1.0 if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)
