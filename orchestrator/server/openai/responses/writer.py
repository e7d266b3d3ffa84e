"""A response as it is written: its items, and the events that tell of each step.

Owns the order of the events, their numbers and the payload; knows no sockets and no turns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from random import getrandbits
from typing import Any

from .....backends.base import TokenLogprob, Usage
from ....errors import ErrorInfo
from ....events import Delta, ResponseDone, ResponseReasoningDelta, ResponseTextDelta
from ...sse import Named

Json = dict[str, Any]


class ResponseWriter:
    """Writes one response.

    Args:
        settings: fields of the payload that repeat the request.
        logprobs: whether texts come with log-probabilities.

    Attributes:
        payload: the response as it stands.
    """

    def __init__(self, settings: Mapping[str, Any], *, logprobs: bool) -> None:
        self.payload: Json = {
            "id": f"resp_{getrandbits(128):032x}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": [],
            "usage": None,
            **settings,
        }
        self._logprobs = logprobs
        self._number = 0
        self._open: Json | None = None
        self._call: int | None = None

    @property
    def id(self) -> str:
        """Of the response."""
        return str(self.payload["id"])

    def begin(self, model: str) -> list[Named]:
        """Return the events that open a response, once its expert is known."""
        self.payload["model"] = model
        return [
            self._event("response.created", response=self._shown()),
            self._event("response.in_progress", response=self._shown()),
        ]

    def saw(self, piece: Delta) -> list[Named]:
        """Return the events that a piece of the answer causes."""
        if isinstance(piece, ResponseTextDelta):
            return self._text(piece)
        if isinstance(piece, ResponseReasoningDelta):
            return self._thought(piece.delta)
        events: list[Named] = []
        if self._open is None or self._call != piece.index:
            events += self.close()
            self._call = piece.index
            events += self._add(
                {
                    "type": "function_call",
                    "id": f"fc_{getrandbits(96):024x}",
                    "call_id": piece.call_id or "",
                    "name": piece.name or "",
                    "arguments": "",
                    "status": "in_progress",
                }
            )
        assert self._open is not None
        self._open["arguments"] += piece.delta
        if piece.delta:
            kind = "response.function_call_arguments.delta"
            events.append(self._event(kind, **self._place(), delta=piece.delta))
        return events

    def end(self, done: ResponseDone) -> list[Named]:
        """Return the events that end an answer."""
        events = self.close()
        if not self.payload["output"]:
            events = [*self.saw(ResponseTextDelta("", "")), *self.close()]
        cut = done.finish_reason == "length"
        self.payload["status"] = "incomplete" if cut else "completed"
        self.payload["completed_at"] = None if cut else int(time.time())
        if cut:
            self.payload["incomplete_details"] = {"reason": "max_output_tokens"}
            if self.payload["output"]:
                self.payload["output"][-1]["status"] = "incomplete"
        self.payload["usage"] = usage_json(done.usage)
        kind = "response.incomplete" if cut else "response.completed"
        return [*events, self._event(kind, response=self._shown())]

    def warmed(self, done: ResponseDone) -> list[Named]:
        """Return the events that end a response of which nothing but its prompt was wanted."""
        self.payload |= {"status": "completed", "completed_at": int(time.time())}
        self.payload["usage"] = usage_json(done.usage)
        return [self._event("response.completed", response=self._shown())]

    def fail(self, info: ErrorInfo) -> list[Named]:
        """Return the events that end an answer which failed."""
        events = self.close("incomplete")
        self.payload["status"] = "failed"
        code = "rate_limit_exceeded" if info.status == 429 else "server_error"
        self.payload["error"] = {"code": code, "message": info.message}
        return [*events, self._event("response.failed", response=self._shown())]

    def close(self, status: str = "completed") -> list[Named]:
        """Return the events that end the item being written; none without one."""
        item, self._open = self._open, None
        if item is None:
            return []
        place, events = self._place(item), []
        item["status"] = status
        if item["type"] == "function_call":
            kind = "response.function_call_arguments.done"
            said = {"name": item["name"], "arguments": item["arguments"]}
            events.append(self._event(kind, **place, **said))
        else:
            part, name = item["content"][0], "output_text"
            more: Json = {"logprobs": part.get("logprobs") or []}
            if item["type"] == "reasoning":
                name, more = "reasoning_text", {}
            within = {**place, "content_index": 0}
            events.append(self._event(f"response.{name}.done", **within, text=part["text"], **more))
            events.append(self._event("response.content_part.done", **within, part={**part}))
        index = place["output_index"]
        events.append(self._event("response.output_item.done", output_index=index, item={**item}))
        return events

    # ---- inside

    def _text(self, piece: ResponseTextDelta) -> list[Named]:
        events: list[Named] = []
        if self._open is None or self._open["type"] != "message":
            events += self.close()
            part: Json = {"type": "output_text", "text": "", "annotations": []}
            if self._logprobs:
                part["logprobs"] = []
            item = {"type": "message", "id": f"msg_{getrandbits(96):024x}", "role": "assistant"}
            events += self._add({**item, "status": "in_progress", "content": []}, part)
        assert self._open is not None
        part = self._open["content"][0]
        part["text"] += piece.delta
        told = [logprob_json(entry) for entry in piece.logprobs or ()]
        if self._logprobs:
            part["logprobs"] += told
        within = {**self._place(), "content_index": 0}
        kind = "response.output_text.delta"
        return [*events, self._event(kind, **within, delta=piece.delta, logprobs=told)]

    def _thought(self, text: str) -> list[Named]:
        events: list[Named] = []
        if self._open is None or self._open["type"] != "reasoning":
            events += self.close()
            item = {"type": "reasoning", "id": f"rs_{getrandbits(96):024x}", "summary": []}
            part = {"type": "reasoning_text", "text": ""}
            events += self._add({**item, "status": "in_progress", "content": []}, part)
        assert self._open is not None
        self._open["content"][0]["text"] += text
        within = {**self._place(), "content_index": 0}
        return [*events, self._event("response.reasoning_text.delta", **within, delta=text)]

    def _add(self, item: Json, part: Json | None = None) -> list[Named]:
        self._open = item
        self.payload["output"].append(item)
        index = len(self.payload["output"]) - 1
        shown = {**item, "content": []} if "content" in item else {**item}
        events = [self._event("response.output_item.added", output_index=index, item=shown)]
        if part is not None:
            item["content"].append(part)
            within = {**self._place(), "content_index": 0}
            events.append(self._event("response.content_part.added", **within, part={**part}))
        return events

    def _place(self, item: Json | None = None) -> Json:
        item = self._open if item is None else item
        assert item is not None
        return {"item_id": item["id"], "output_index": len(self.payload["output"]) - 1}

    def _shown(self) -> Json:
        return {**self.payload, "output": [*self.payload["output"]]}

    def _event(self, kind: str, **fields: Any) -> Named:
        number, self._number = self._number, self._number + 1
        return Named(kind, {"type": kind, "sequence_number": number, **fields})


def usage_json(usage: Usage | None) -> Json | None:
    """Return the usage in the words of this API."""
    if usage is None:
        return None
    cached = usage.cached_tokens or 0
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def logprob_json(entry: TokenLogprob) -> Json:
    """Return a token's log-probability in the words of this API."""
    tops = [(entry.token, entry.logprob), *((token, value) for token, _, value in entry.top)]
    first, *others = [
        {"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in tops
    ]
    return {**first, "top_logprobs": others}


def answer_messages(output: Sequence[Json]) -> list[Json]:
    """Return what a response said as messages of chat completions."""
    message: Json = {"role": "assistant", "content": ""}
    for item in output:
        match item["type"]:
            case "message":
                message["content"] += item["content"][0]["text"]
            case "reasoning":
                message["reasoning_content"] = item["content"][0]["text"]
            case _:
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(call)
    return [message] if output else []
