"""What a server of OpenAI's API says: the events of its streams and its token counts.

Servers differ: what is missing, null or unknown is passed over; what is read must have its type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ..base import Chunk, FinishReason, TokenLogprob, ToolCallDelta, Usage

UNKNOWN_TOKEN = -1
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "repetition": "stop",
    "length": "length",
}
Count = Annotated[int, Meta(ge=0, le=2**53)]


class BadEvent(ValueError):
    """An event is not JSON, or not of the form that OpenAI's API gives it."""


class CalledFunction(Struct):
    """What a piece of a tool call adds."""

    name: str | None = None
    arguments: str | None = None


class Call(Struct):
    """A piece of a tool call; some servers send whole calls and no index."""

    index: int | None = None
    id: str | None = None
    function: CalledFunction | None = None


class Delta(Struct):
    """What a chat stream adds to the message; thoughts have two names."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Call] | None = None


class Alternative(Struct):
    """A token that could have stood in a place, and its log-probability."""

    token: str
    logprob: float


class TokenEntry(Struct):
    """A token of a chat answer with the best alternatives."""

    token: str
    logprob: float
    top_logprobs: list[Alternative] | None = None


class Logprobs(Struct):
    """``content`` of chat; the parallel lists of plain completions."""

    content: list[TokenEntry] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Choice(Struct):
    """One choice of an event: ``delta`` of chat, ``text`` of a plain completion.

    ``message``: of a chat answer that comes whole instead of as a stream.
    """

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


_NOTHING = Choice()


class StreamEvent(Struct):
    """One event of a stream; ``error`` and ``usage`` as they came."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class _Usage(Struct):
    prompt_tokens: Count
    completion_tokens: Count | None = None
    prompt_tokens_details: Any = None


_EVENT = msgspec.json.Decoder(StreamEvent)


def event_of(data: str) -> StreamEvent:
    """Return a parsed event.

    Some servers write NaN or cut an emoji in two, which JSON does not allow: they are understood.

    Raises:
        BadEvent: it is none.
    """
    try:
        return _EVENT.decode(data)
    except msgspec.ValidationError:
        raise BadEvent("an event does not have the expected form") from None
    except (msgspec.DecodeError, RecursionError):
        return _lenient(data)


def _lenient(data: str) -> StreamEvent:
    try:
        return msgspec.convert(json.loads(data), StreamEvent)
    except msgspec.ValidationError:
        raise BadEvent("an event does not have the expected form") from None
    except (ValueError, RecursionError):
        raise BadEvent("an event is not JSON") from None


def chunk_of(event: StreamEvent) -> Chunk | None:
    """Return what an event adds to the answer, None if it adds nothing.

    Raises:
        BadEvent: its log-probabilities do not belong together.
    """
    usage = None if event.usage is None else _usage(event.usage)
    choice = _first(event.choices)
    delta = choice.delta or choice.message
    text, thoughts = choice.text or "", ""
    calls: tuple[ToolCallDelta, ...] = ()
    if delta is not None:
        text = delta.content or ""
        thoughts = delta.reasoning_content or delta.reasoning or ""
        calls = _calls(delta.tool_calls) if delta.tool_calls else ()
    token_ids, reason = choice.token_ids or (), choice.finish_reason
    if not (text or thoughts or calls or token_ids) and reason is None and usage is None:
        return None
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    finish = None if reason is None else _FINISH.get(reason, "stop")
    logprobs = None if choice.logprobs is None else _logprobs(choice.logprobs, token_ids)
    return Chunk(text, token_ids, logprobs, finish, usage, calls, thoughts)


def _first(choices: Sequence[Choice] | None) -> Choice:
    """Return the choice that counts: there is one event a token, and nearly always one choice."""
    for choice in choices or ():
        if not choice.index:
            return choice
    return _NOTHING


def _calls(told: Sequence[Call]) -> tuple[ToolCallDelta, ...]:
    calls = []
    for place, call in enumerate(told):
        function = call.function or CalledFunction()
        index = place if call.index is None else call.index
        calls.append(ToolCallDelta(index, call.id, function.name, function.arguments or ""))
    return tuple(calls)


def usage_of(answer: object) -> Usage | None:
    """Return the usage of an answer, None if it has none."""
    return _usage(answer.get("usage")) if isinstance(answer, Mapping) else None


def _usage(told: object) -> Usage | None:
    try:
        usage = msgspec.convert(told, _Usage)
    except msgspec.ValidationError:
        return None
    details = usage.prompt_tokens_details
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    if not isinstance(cached, int) or not 0 <= cached <= usage.prompt_tokens:
        cached = None
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, cached)


def _logprobs(told: Logprobs, token_ids: tuple[int, ...]) -> tuple[TokenLogprob, ...] | None:
    """Return both forms as one; unknown ids are UNKNOWN_TOKEN."""
    rows: list[tuple[str, float, list[tuple[str, float]]]]
    if told.content is not None:
        rows = [
            (entry.token, entry.logprob, [(t.token, t.logprob) for t in entry.top_logprobs or ()])
            for entry in told.content
        ]
    elif told.tokens is not None and told.token_logprobs is not None:
        tops = told.top_logprobs or [None] * len(told.tokens)
        if not len(told.tokens) == len(told.token_logprobs) == len(tops):
            raise BadEvent("the log-probabilities of an event do not belong to its tokens")
        pairs = zip(told.tokens, told.token_logprobs, tops, strict=True)
        rows = [
            (token, float("nan") if logprob is None else logprob, list((top or {}).items()))
            for token, logprob, top in pairs
        ]
    else:
        return None
    ids = token_ids if len(token_ids) == len(rows) else (UNKNOWN_TOKEN,) * len(rows)
    return tuple(
        TokenLogprob(token, token_id, logprob, _top(top))
        for (token, logprob, top), token_id in zip(rows, ids, strict=True)
    )


def _top(entries: list[tuple[str, float]]) -> tuple[tuple[str, int, float], ...]:
    best = sorted(entries, key=lambda entry: -entry[1])
    return tuple((token, UNKNOWN_TOKEN, logprob) for token, logprob in best)
