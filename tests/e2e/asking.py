"""LiveMind and vLLM's own server over one model folder, asked in every way, and what they say."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from livemind import LiveMind, Settings
from livemind.backends.engine_args import engine_environment, usable_cores
from livemind.benchmarks.harness.server_process import free_port, serving
from livemind.benchmarks.harness.vllm_server import command
from livemind.orchestrator.server.app import create_app, run_server
from livemind.rag.encoder.fake import FakeEmbedder

from .conversations import MOST_TOKENS, Json

DRAFT_S = 2.0


def heard(answer: Json) -> Json:
    """Return what an answer says, without ids."""
    (choice,) = answer["choices"]
    message = choice["message"]
    calls = [
        (call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    ]
    counts = {name: answer["usage"][name] for name in ("prompt_tokens", "completion_tokens")}
    text = message.get("content") or ""
    # vLLM 0.32 calls thoughts `reasoning`.
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    return {
        "text": text,
        "thoughts": thoughts,
        "calls": calls,
        "ended": choice["finish_reason"],
        **counts,
    }


class Asking:
    """Asks one server."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    async def whole(self, asked: Json, session: str | None = None) -> Json:
        headers = {} if session is None else {"X-LiveMind-Session": session}
        url = f"{self._url}/v1/chat/completions"
        async with self._http.post(url, json=asked, headers=headers) as response:
            assert response.status == 200, await response.text()
            answer: Json = await response.json()
            return answer

    async def streamed(self, asked: Json) -> Json:
        """Return a stream's pieces, joined as a whole answer."""
        text, thoughts, calls, ended, usage = "", "", dict[int, Json](), None, Json()
        options = {"stream": True, "stream_options": {"include_usage": True}}
        url = f"{self._url}/v1/chat/completions"
        async with self._http.post(url, json={**asked, **options}) as response:
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    ended = choice["finish_reason"] or ended
                    delta = choice["delta"]
                    text += delta.get("content") or ""
                    thoughts += delta.get("reasoning_content") or delta.get("reasoning") or ""
                    for piece in delta.get("tool_calls") or ():
                        call = calls.setdefault(piece["index"], {"name": "", "arguments": ""})
                        for name in call:
                            call[name] += piece["function"].get(name) or ""
        message: Json = {"content": text, "reasoning_content": thoughts}
        message["tool_calls"] = [{"function": call} for call in calls.values()]
        return {"choices": [{"message": message, "finish_reason": ended}], "usage": usage}

    async def typed(self, asked: Json, *, wait: bool) -> tuple[Json, int]:
        """Type the last message, wait for a draft or not; return the answer and adopted tokens."""
        *history, last = asked["messages"]
        mode = "draft" if wait else "prefill"
        config: Json = {"model": "tiny", "messages": history, "speculation": mode}
        config |= {name: asked[name] for name in ("tools", "tool_choice") if name in asked}
        config["parallel_tool_calls"] = asked.get("parallel_tool_calls")
        config["sampling"] = {"temperature": 0.0, "max_tokens": MOST_TOKENS}
        sessions = f"{self._url}/v1/live/sessions"
        async with self._http.post(sessions, json=config) as response:
            assert response.status < 300, await response.text()
            session = (await response.json())["id"]
        words = last["content"].split(" ")
        for part in (1, 2, 3):
            text = " ".join(words[: len(words) * part // 3])
            async with self._http.put(f"{sessions}/{session}/input", json={"text": text}):
                pass
        if wait:
            await self._drafted(f"{sessions}/{session}")
        answer = await self.whole({**asked, "livemind": True}, session)
        async with self._http.delete(f"{sessions}/{session}"):
            pass
        return answer, answer["livemind"]["ledger"]["draft_adopted"]

    async def _drafted(self, session: str) -> None:
        for _ in range(int(DRAFT_S / 0.05)):
            async with self._http.get(session) as response:
                if (await response.json())["draft"] is not None:
                    await asyncio.sleep(0.2)
                    return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def livemind(folder: Path, **expert: Any) -> AsyncIterator[Asking]:
    """Serve a folder's model with LiveMind."""
    told = {**_expert(folder), **expert}
    settings = Settings.model_validate({"experts": [told], "rag": {"enabled": False}})
    listener = socket.create_server(("127.0.0.1", 0))
    mind = LiveMind(settings, embedder=FakeEmbedder)
    async with (
        mind,
        run_server(create_app(mind), listener),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as http,
    ):
        yield Asking(http, f"http://127.0.0.1:{listener.getsockname()[1]}")


@asynccontextmanager
async def vllm_serve(folder: Path, log: Path, *flags: str) -> AsyncIterator[Asking]:
    """Serve the same with vLLM alone."""
    spec = Settings.model_validate({"experts": [_expert(folder)]}).experts[0].to_spec()
    port = free_port()
    environment = {**engine_environment(spec, usable_cores()), "VLLM_LOGGING_LEVEL": "WARNING"}
    async with (
        serving([*command(spec, port), *flags], port, log, environment) as url,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as http,
    ):
        yield Asking(http, url)


def _expert(folder: Path) -> Json:
    told: Json = {"expert_id": "tiny", "model_path": str(folder), "dtype": "float32"}
    return {**told, "max_model_len": 2048, "kv_cache_gib": 0.2}


async def in_every_way(ours: Asking, asked: Json) -> tuple[dict[str, Json], int]:
    """Return what is heard whole, streamed, typed live and after a draft; and adopted tokens."""
    found = {"whole": heard(await ours.whole(asked)), "streamed": heard(await ours.streamed(asked))}
    adopted = 0
    if asked["messages"][-1]["role"] == "user":
        for way in ("typed", "drafted"):
            answer, tokens = await ours.typed(asked, wait=way == "drafted")
            found[way] = heard(answer)
            adopted += tokens
    return found, adopted


async def with_drafts(ours: Asking, asked: Json, drafts: list[str]) -> dict[str, Json]:
    """Return what is heard when each of these is predicted, which is verified as a draft is."""
    found = {}
    for draft in drafts:
        predicted = {"type": "content", "content": draft}
        found[draft] = heard(await ours.whole({**asked, "prediction": predicted}))
    return found
