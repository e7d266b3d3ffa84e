"""A replica of a remote expert on loopback, as vLLM's server has it, and what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Json = dict[str, Any]


class Replica:
    """Answers every chat with ``answer``, a word at a time; prompts are as many tokens as words.

    Attributes:
        asked: body and headers of each request that is no probe, in order.
        details: tell how many tokens of a prompt were cached.
        tokens: headers of every answer.
        word_s: pause before each word of an answer.
        cached: prompts that were asked, as words.
    """

    def __init__(self, name: str = "replica", *, details: bool = True) -> None:
        self.name = name
        self.url = ""
        self.answer = "four words to read"
        self.details = details
        self.tokens: dict[str, str] = {}
        self.word_s = 0.0
        self.asked: list[tuple[Json, dict[str, str]]] = []
        self.cached: list[list[str]] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Replica]:
        """Serve on a port of the system's choice."""
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def told(self, header: str = "X-Session-Id") -> list[str | None]:
        """Return what each request said in a header."""
        return [headers.get(header.lower()) for _, headers in self.asked]

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "max_model_len": 8192}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        usage = self._usage(body)
        if body["messages"] != [{"role": "user", "content": "Hello there"}]:  # the probe
            headers = {name.lower(): told for name, told in request.headers.items()}
            self.asked.append((body, headers))
        words = self.answer.split()[: body.get("max_tokens", 512)]
        if not body.get("stream"):
            message = {"role": "assistant", "content": " ".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({"choices": [choice], "usage": usage}, headers=self.tokens)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **self.tokens})
        await response.prepare(request)
        for place, word in enumerate(words):
            if self.word_s:
                await asyncio.sleep(self.word_s)
            delta = {"content": (" " if place else "") + word}
            await _write(response, {"choices": [{"index": 0, "delta": delta}]})
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await _write(response, {"choices": [end], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    def _usage(self, body: Json) -> Json:
        """Count words; what is left open lacks the three tokens that would end the turn."""
        words = [w for m in body["messages"] for w in (m["role"], *str(m["content"]).split())]
        prompt = words if body.get("continue_final_message") else [*words, "end", "of", "turn"]
        cached = max((_common(known, prompt[:-1]) for known in self.cached), default=0)
        self.cached.append(prompt)
        told: Json = {"prompt_tokens": len(prompt), "completion_tokens": 1}
        if self.details:
            told["prompt_tokens_details"] = {"cached_tokens": cached}
        return told


async def _write(response: web.StreamResponse, event: Json) -> None:
    await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")


def _common(a: list[str], b: list[str]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((n for n, (x, y) in pairs if x != y), min(len(a), len(b)))
