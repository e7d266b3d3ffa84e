"""The JSON of OpenAI's API, built from LiveMind's events. Pure functions and values."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isnan
from random import getrandbits
from secrets import randbelow, token_hex

from ....backends.base import FinishReason, TokenLogprob, Usage
from ...events import (
    Delta,
    ResponseDone,
    ResponseReasoningDelta,
    ResponseTextDelta,
    ResponseToolCallDelta,
    to_wire,
)

Json = dict[str, object]
PADDING = 16
EXPLAINED = ("expert", "timings", "ledger", "degraded", "documents", "consensus")


def usage_json(usage: Usage | None, *, predicted: bool = False) -> Json | None:
    """Return OpenAI's ``usage``; the cached tokens only when the expert tells them.

    With ``predicted`` it says how many tokens of the request's prediction the answer took over and
    how many not; both are 0 when the expert could not verify it.
    """
    if usage is None:
        return None
    payload: Json = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.cached_tokens is not None:
        payload["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if predicted:
        payload["completion_tokens_details"] = {
            "accepted_prediction_tokens": usage.accepted_draft_tokens or 0,
            "rejected_prediction_tokens": usage.rejected_draft_tokens or 0,
        }
    return payload


def total_usage(dones: Sequence[ResponseDone], answers_per_prompt: int = 1) -> Usage | None:
    """Return the usage of several answers; a prompt counts once, however many answers it has.

    None where an expert told nothing of one of them.
    """
    told = [done.usage for done in dones if done.usage is not None]
    if len(told) < len(dones) or not told:
        return None
    if len(told) == 1:
        return told[0]
    prompts = told[::answers_per_prompt]
    return Usage(
        sum(usage.prompt_tokens for usage in prompts),
        sum(usage.completion_tokens for usage in told),
        _sum(usage.cached_tokens for usage in prompts),
        _sum(usage.accepted_draft_tokens for usage in told),
        _sum(usage.rejected_draft_tokens for usage in told),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum of what is known, None where nothing is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def counted(frame: Json, prompt_tokens: int, completion_tokens: int) -> Json:
    """Return a chunk with the usage so far."""
    return {**frame, "usage": usage_json(Usage(prompt_tokens, completion_tokens))}


def obfuscated(frame: Json) -> Json:
    """Return a chunk whose size does not tell how long its text is."""
    return {**frame, "obfuscation": token_hex(PADDING)[: randbelow(2 * PADDING) + 1]}


def timing_headers(done: ResponseDone) -> dict[str, str]:
    """Return the server-side times of a turn as headers; unknown ones are left out."""
    times = done.timings
    values = {
        "X-LiveMind-TTFT-Ms": times.ttft_ms,
        "X-LiveMind-Total-Ms": times.total_ms,
        "X-LiveMind-TTFT-Without-Ms": times.estimated_ttft_ms_without,
    }
    headers = {name: f"{value:.3f}" for name, value in values.items() if value is not None}
    headers["X-LiveMind-Adopted-Tokens"] = str(
        done.ledger.prefill_adopted + done.ledger.draft_adopted
    )
    if done.degraded:
        headers["X-LiveMind-Degraded"] = " ".join(", ".join(done.degraded).split())
    return headers


@dataclass(slots=True)
class Joined:
    """A whole answer: its texts and thoughts joined, its log-probabilities if it has any."""

    text: str
    reasoning: str = ""
    logprobs: list[TokenLogprob] | None = None


def delta_json(piece: Delta) -> Json:
    """Return ``delta`` of a chunk."""
    match piece:
        case ResponseTextDelta():
            return {"content": piece.delta}
        case ResponseReasoningDelta():
            return {"reasoning_content": piece.delta}
        case ResponseToolCallDelta():
            call: Json = {"index": piece.index}
            function: Json = {"arguments": piece.delta}
            if piece.call_id is not None:
                call |= {"id": piece.call_id, "type": "function"}
            if piece.name is not None:
                function = {"name": piece.name, **function}
            return {"tool_calls": [{**call, "function": function}]}


def message_json(answer: Joined, done: ResponseDone) -> Json:
    """Return the message of a whole answer."""
    content = answer.text or (None if done.tool_calls else "")
    message: Json = {"role": "assistant", "content": content, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if done.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in done.tool_calls
        ]
    return message


@dataclass(slots=True)
class ChatFormat:
    """Payloads of one chat completion.

    Attributes:
        predicted: the request brought a prediction.
        explained: the request wants the ``livemind`` object.
    """

    include_usage: bool = False
    predicted: bool = False
    explained: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{getrandbits(128):032x}")
    created: int = field(default_factory=lambda: int(time.time()))

    def chunk(
        self,
        model: str,
        delta: Json,
        *,
        index: int = 0,
        finish_reason: FinishReason | None = None,
        logprobs: Sequence[TokenLogprob] | None = None,
    ) -> Json:
        """Return one ``chat.completion.chunk`` with one choice."""
        choice: Json = {"index": index, "delta": delta, "finish_reason": finish_reason}
        if logprobs is not None:
            choice["logprobs"] = chat_logprobs(logprobs)
        return self._frame(model, [choice])

    def last_chunk(self, model: str, done: ResponseDone, index: int = 0) -> Json:
        """Return the chunk with the finish reason."""
        chunk = self.chunk(model, {}, index=index, finish_reason=done.finish_reason)
        return {**chunk, **self._explanation(done)}

    def usage_chunk(self, model: str, usage: Usage | None) -> Json:
        """Return the chunk without choices that ends a stream with ``include_usage``."""
        return {**self._frame(model, []), "usage": usage_json(usage, predicted=self.predicted)}

    def whole(self, model: str, answers: Sequence[tuple[Joined, ResponseDone]]) -> Json:
        """Return a ``chat.completion`` of these answers to one conversation, at least one.

        Of several answers each choice is explained, a sole one beside its choice.
        """
        dones = [done for _, done in answers]
        several = len(dones) > 1
        choices = [
            {
                "index": index,
                "message": message_json(answer, done),
                "logprobs": None if answer.logprobs is None else chat_logprobs(answer.logprobs),
                "finish_reason": done.finish_reason,
                **(self._explanation(done) if several else {}),
            }
            for index, (answer, done) in enumerate(answers)
        ]
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": model,
            "choices": choices,
            "usage": usage_json(total_usage(dones, len(dones)), predicted=self.predicted),
            **({} if several else self._explanation(dones[0])),
        }

    def _explanation(self, done: ResponseDone) -> Json:
        if not self.explained:
            return {}
        wire = to_wire(done)
        return {"livemind": {name: wire[name] for name in EXPLAINED}}

    def _frame(self, model: str, choices: list[Json]) -> Json:
        frame: Json = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": model,
            "choices": choices,
        }
        if self.include_usage:
            frame["usage"] = None
        return frame


@dataclass(slots=True)
class CompletionFormat:
    """Payloads of one text completion; ``offsets`` counts each answer's characters."""

    model: str
    include_usage: bool = False
    offsets: Counter[int] = field(default_factory=Counter)
    id: str = field(default_factory=lambda: f"cmpl-{getrandbits(128):032x}")
    created: int = field(default_factory=lambda: int(time.time()))

    def choice(
        self,
        text: str,
        logprobs: Sequence[TokenLogprob] | None,
        finish_reason: FinishReason | None,
        index: int = 0,
    ) -> Json:
        """Return one choice."""
        return {
            "index": index,
            "text": text,
            "logprobs": None if logprobs is None else self._logprobs(logprobs, index),
            "finish_reason": finish_reason,
        }

    def payload(self, *choices: Json) -> Json:
        """Return a ``text_completion``: a chunk, or the whole."""
        return self._frame([*choices])

    def usage_chunk(self, usage: Usage | None) -> Json:
        """Return the chunk without choices that ends a stream with ``include_usage``."""
        return {**self._frame([]), "usage": usage_json(usage)}

    def _logprobs(self, logprobs: Sequence[TokenLogprob], index: int) -> Json:
        offsets = []
        for entry in logprobs:
            offsets.append(self.offsets[index])
            self.offsets[index] += len(entry.token)
        known = [not isnan(entry.logprob) for entry in logprobs]
        tops = [{token: value for token, _, value in entry.top} for entry in logprobs]
        told = zip(logprobs, tops, known, strict=True)
        rows = [(e.logprob, top) if k else (None, None) for e, top, k in told]
        return {
            "tokens": [entry.token for entry in logprobs],
            "token_logprobs": [value for value, _ in rows],
            "top_logprobs": [top for _, top in rows],
            "text_offset": offsets,
        }

    def _frame(self, choices: list[Json]) -> Json:
        frame: Json = {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if self.include_usage:
            frame["usage"] = None
        return frame


def chat_logprobs(logprobs: Sequence[TokenLogprob]) -> Json:
    """Return ``logprobs`` of a chat choice."""
    content = [
        {
            **_token(entry.token, entry.logprob),
            "top_logprobs": [_token(token, value) for token, _, value in entry.top],
        }
        for entry in logprobs
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> Json:
    """A token that is part of a character has no bytes of its own here: null."""
    encoded = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": encoded}
