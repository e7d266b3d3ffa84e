"""OpenAI's JSON, both ways: request bodies out, chunks and usage in."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, DecodeError, Struct, ValidationError, json

from .base import (
    Chunk,
    FinishReason,
    GenerationParams,
    Image,
    Message,
    TokenLogprob,
    TokenPrompt,
    Usage,
)

# Fields that the API and GenerationParams call by the same name; the last three are vLLM's own and
# a server that does not know them refuses them by name.
_SAME_NAMES = (
    "max_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "top_k",
    "min_p",
    "repetition_penalty",
)
UNKNOWN_TOKEN = -1
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "content_filter": "stop",
    "repetition": "stop",
    "length": "length",
}


def request_body(model: str, prompt: TokenPrompt, params: GenerationParams) -> dict[str, object]:
    """Return the body of ``/v1/completions`` (a plain prompt) or ``/v1/chat/completions``."""
    body: dict[str, object] = {"model": model}
    if prompt.text is not None:
        body["prompt"] = prompt.text
    else:
        body["messages"] = [{"role": m.role, "content": _content(m)} for m in prompt.messages]
    for name in _SAME_NAMES:
        value = getattr(params, name)
        if value is not None:
            body[name] = value
    if params.stop:
        body["stop"] = list(params.stop)
    if params.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in params.logit_bias}
    if params.ignore_eos:
        body["ignore_eos"] = True
    if params.logprobs is not None:
        if prompt.text is not None:
            body["logprobs"] = params.logprobs
        else:
            body |= {"logprobs": True, "top_logprobs": params.logprobs}
    return body


def _content(message: Message) -> str | list[dict[str, object]]:
    """Return a message's text, or its parts if it has images."""
    if not message.images:
        return message.content
    images: list[dict[str, object]] = [
        {"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images
    ]
    return [*images, {"type": "text", "text": message.content}]


def _data_url(image: Image) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"


class Delta(Struct):
    """What a chat stream adds to the message."""

    content: str | None = None


class Choice(Struct):
    """One choice of an event: ``delta`` of chat, ``text`` of a plain completion."""

    delta: Delta | None = None
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class StreamEvent(Struct):
    """One event of a stream, of what a server may send the fields that are read."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = UNSET


_EVENT = json.Decoder(StreamEvent)


class BadEvent(ValueError):
    """An event is not JSON, or not of the form that OpenAI's API gives it."""


def event_of(data: str) -> StreamEvent:
    """Return a parsed event.

    Raises:
        BadEvent: it is none.
    """
    try:
        return _EVENT.decode(data)
    except ValidationError:
        raise BadEvent("an event does not have the expected form") from None
    except (DecodeError, RecursionError):
        raise BadEvent("an event is not JSON") from None


def chunk_of(event: StreamEvent, last: Chunk | None) -> Chunk | None:
    """Return the chunk an event carries, None if it carries nothing.

    The usage comes in an event of its own after the finish reason: it is added to ``last``, the
    chunk with the finish reason, which is why that one is held back until the stream ends.

    Raises:
        BadEvent: its log-probabilities do not have the expected form.
    """
    usage = None if event.usage is None else _usage(event.usage)
    if not event.choices:
        if last is None or usage is None:
            return None
        return Chunk(last.text, last.token_ids, last.logprobs, last.finish_reason, usage)
    choice = event.choices[0]
    text = (choice.text if choice.delta is None else choice.delta.content) or ""
    token_ids = choice.token_ids or ()
    reason = choice.finish_reason
    finish = _FINISH.get(reason, "stop") if reason is not None else None
    if not text and not token_ids and finish is None:
        return None
    try:
        logprobs = _logprobs(choice.logprobs, token_ids) if choice.logprobs else None
    except (LookupError, TypeError, ValueError, AttributeError):
        raise BadEvent("an event does not have the expected form") from None
    return Chunk(text, token_ids, logprobs, finish, usage)


def usage_of(answer: object) -> Usage | None:
    """Return the usage of an answer, None if it has none."""
    return _usage(answer.get("usage")) if isinstance(answer, Mapping) else None


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, Mapping) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    completion_tokens = usage.get("completion_tokens") or 0
    if not isinstance(completion_tokens, int):
        return None
    return Usage(
        usage["prompt_tokens"],
        completion_tokens,
        cached if isinstance(cached, int) else None,
    )


def _logprobs(logprobs: Mapping[str, Any], token_ids: tuple[int, ...]) -> tuple[TokenLogprob, ...]:
    """Read chat's ``content`` or completions' parallel lists; unknown ids are UNKNOWN_TOKEN."""
    rows: list[tuple[str, float, list[tuple[str, float]]]]
    if logprobs.get("content") is not None:
        rows = [
            (e["token"], e["logprob"], [(t["token"], t["logprob"]) for t in e["top_logprobs"]])
            for e in logprobs["content"]
        ]
    else:
        tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
        pairs = zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
        rows = [(token, logprob, list((top or {}).items())) for token, logprob, top in pairs]
    ids = token_ids if len(token_ids) == len(rows) else (UNKNOWN_TOKEN,) * len(rows)
    return tuple(
        TokenLogprob(token, token_id, logprob, _top(top))
        for (token, logprob, top), token_id in zip(rows, ids, strict=True)
    )


def _top(entries: list[tuple[str, float]]) -> tuple[tuple[str, int, float], ...]:
    best = sorted(entries, key=lambda entry: -entry[1])
    return tuple((token, UNKNOWN_TOKEN, logprob) for token, logprob in best)
