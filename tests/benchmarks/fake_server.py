"""A server with the harness's two doors whose latencies, texts and failures are data."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]


@dataclass
class FakeServer:
    """Answers "one two three" after ``chat_s`` (chat), ``typed_s`` or ``paste_s`` (live commit).

    ``fail_live_turns``: live commits (from 0) that end as failed; ``live_answer``: another
    text over the live door; ``tie``: how far its second word is behind in the chat's logprobs.
    """

    chat_s: float = 0.0
    typed_s: float = 0.0
    paste_s: float = 0.0
    token_s: float = 0.0
    token_s_beside_typing: float = 0.0
    fail_live_turns: frozenset[int] = frozenset()
    drop_live: bool = False
    refuse_chat: str | None = None
    live_answer: str = "one two three"
    tie: float = 0.0
    draft_tokens: int = 3
    owner: str = "livemind"
    prompt_tokens_live: int = 100
    chats: list[Json] = field(default_factory=list)
    updates: list[Json] = field(default_factory=list)
    typed: list[str] = field(default_factory=list)
    commits: int = 0
    open_sockets: int = 0
    most_at_a_time: int = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/live", self.live)
        return app

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def models(self, _: web.Request) -> web.Response:
        names = ("random-100m", "technical")
        return web.json_response({"data": [{"id": n, "owned_by": self.owner} for n in names]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.chats.append(body)
        if self.refuse_chat is not None:
            return web.json_response({"error": {"message": self.refuse_chat}}, status=400)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await _send(response, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        await asyncio.sleep(self.chat_s)
        for number, word in enumerate(["one", " two", " three"]):
            if number:
                await asyncio.sleep(
                    self.token_s_beside_typing if self.open_sockets else self.token_s
                )
            choice: Json = {"delta": {"content": word}, "finish_reason": None}
            if body.get("logprobs"):
                choice["logprobs"] = {"content": [self._logprob(word)]}
            await _send(response, {"choices": [choice]})
        await _send(response, {"choices": [{"delta": {}, "finish_reason": "stop"}]})
        usage: Json = {"prompt_tokens": 100, "completion_tokens": 3}
        usage["prompt_tokens_details"] = {"cached_tokens": 0}
        await _send(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    def _logprob(self, word: str) -> Json:
        rival = {"token": " 2", "logprob": -1.0 - self.tie}
        return {"token": word, "logprob": -1.0, "top_logprobs": [rival]}

    async def live(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self.open_sockets += 1
        self.most_at_a_time = max(self.most_at_a_time, self.open_sockets)
        try:
            await self._session(ws)
        finally:
            self.open_sockets -= 1
        return ws

    async def _session(self, ws: web.WebSocketResponse) -> None:
        await ws.send_json({"type": "session.created"})
        text = ""
        async for message in ws:
            event = json.loads(message.data)
            if event["type"] == "session.update":
                self.updates.append(event)
            elif event["type"] in ("input_text.append", "input_text.replace"):
                text = event["text"] if event["type"].endswith("replace") else text + event["text"]
                await ws.send_json({"type": "prefill.updated", "tokens_ready": len(text)})
            else:
                self.typed.append(text)
                await self._answer(ws, pasted=not text)
                text = ""

    async def _answer(self, ws: web.WebSocketResponse, *, pasted: bool) -> None:
        number, self.commits = self.commits, self.commits + 1
        if self.drop_live:
            await ws.close()
            return
        await asyncio.sleep(self.paste_s if pasted else self.typed_s)
        done: Json = {"type": "response.done", "expert": "random-100m"}
        done["usage"] = {"prompt_tokens": self.prompt_tokens_live, "cached_tokens": 96}
        if number in self.fail_live_turns:
            await ws.send_json({**done, "status": "failed", "error": {"message": "engine died"}})
            return
        if not pasted:
            await ws.send_json({"type": "draft.adopted", "tokens": self.draft_tokens})
        await ws.send_json({"type": "response.output_text.delta", "delta": self.live_answer})
        timings = {"ttft_ms": 1.5}
        await ws.send_json({**done, "status": "completed", "timings": timings, "ledger": {}})


async def _send(response: web.StreamResponse, payload: Json) -> None:
    await response.write(b"data: " + json.dumps(payload).encode() + b"\n\n")
