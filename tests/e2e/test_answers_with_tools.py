"""Answers with tools and forms on a real engine: whole, streamed, typed live, after a draft."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from livemind import LiveMind, Settings
from livemind.orchestrator.server.app import create_app, run_server
from livemind.rag.encoder.fake import FakeEmbedder

from .tool_styles import write_style

pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Json = dict[str, Any]
SHARE = 5
MOST_TOKENS = 96
DRAFT_S = 2.0
LEXICON = (
    "who",
    "owns",
    "the",
    "red",
    "port",
    "near",
    "a",
    "second",
    "machine",
    "and",
    "which",
    "is",
)
CITY = {"type": "string", "enum": ["Oslo", "Rome", "Bern"]}
PARAMETERS: dict[str, Json] = {
    "weather": {"type": "object", "properties": {"city": CITY}, "required": ["city"]},
    "convert": {
        "type": "object",
        "properties": {"unit": {"enum": ["m", "km"]}, "exact": {"type": "boolean"}},
        "required": ["unit", "exact"],
    },
    "clock": {"type": "object", "properties": {}},
}
CALLS = {
    "hermes": '<tool_call>\\n{"name": "weather", "arguments": {"city": "(Oslo|Rome)"}}\\n'
    "</tool_call>",
    "qwen": "<tool_call>\\n<function=weather>\\n<parameter=city>\\n(Oslo|Rome)\\n</parameter>\\n"
    "</function>\\n</tool_call>",
    "llama": '{"name": "weather", "parameters": {"city": "(Oslo|Rome)"}}',
    "mistral": '\\[TOOL_CALLS\\]\\[{"name": "weather", "arguments": {"city": "(Oslo|Rome)"}}\\]',
}
"""What a model of each style writes that calls a function; a regular expression."""


def body(style: str, number: int) -> Json:
    """Return the request of a seeded conversation; every fourth one ends with a tool's result."""
    rng = random.Random(f"{style}{number}")
    names = rng.sample(sorted(PARAMETERS), rng.randint(1, 3))
    if number % 5 == 0 and "weather" not in names:
        names[0] = "weather"
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": said(rng, 4),
                "parameters": PARAMETERS[name],
                "strict": rng.random() < 0.8,
            },
        }
        for name in names
    ]
    messages: list[Json] = []
    if number % 4 == 1:
        arguments = json.dumps({"city": rng.choice(CITY["enum"])})
        call: Json = {"id": "call00001", "type": "function"}
        call |= {"function": {"name": names[0], "arguments": arguments}}
        messages += [
            {"role": "user", "content": said(rng, 6)},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call00001", "content": said(rng, 3)},
        ]
    if number % 8 == 5:
        messages.append({"role": "assistant", "content": said(rng, 4)})
    if number % 8 != 1:
        messages.append({"role": "user", "content": said(rng, rng.randint(8, 30))})
    asked: Json = {"messages": messages, "tools": tools, "temperature": 0.0}
    asked |= {"max_tokens": MOST_TOKENS, "model": "tiny"}
    if number % 5 == 0:
        regex = CALLS[style].replace("{", "\\{").replace("}", "\\}")
        return {**asked, "tool_choice": "auto", "structured_outputs": {"regex": regex}}
    named = {"type": "function", "function": {"name": names[-1]}}
    asked["tool_choice"] = rng.choice(["auto", "none", "required", "required", named])
    return {**asked, "parallel_tool_calls": rng.random() < 0.3}


def said(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(LEXICON) for _ in range(words))


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
    return {"text": text, "calls": calls, "ended": choice["finish_reason"], **counts}


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
        text, calls, ended, usage = "", dict[int, Json](), None, Json()
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
                    text += choice["delta"].get("content") or ""
                    for piece in choice["delta"].get("tool_calls") or ():
                        call = calls.setdefault(piece["index"], {"name": "", "arguments": ""})
                        for name in call:
                            call[name] += piece["function"].get(name) or ""
        message = {"content": text, "tool_calls": [{"function": call} for call in calls.values()]}
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
    told: Json = {"expert_id": "tiny", "model_path": str(folder), "dtype": "float32"}
    told |= {"max_model_len": 2048, "kv_cache_gib": 0.2, **expert}
    settings = Settings.model_validate({"experts": [told], "rag": {"enabled": False}})
    listener = socket.create_server(("127.0.0.1", 0))
    mind = LiveMind(settings, embedder=FakeEmbedder)
    async with (
        mind,
        run_server(create_app(mind), listener),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as http,
    ):
        yield Asking(http, f"http://127.0.0.1:{listener.getsockname()[1]}")


async def test_answers_with_tools_are_the_same_streamed_typed_and_drafted(tmp_path: Path) -> None:
    write_style(tmp_path / "model", "hermes")
    asked = [body("hermes", number) for number in range(SHARE)]
    async with livemind(tmp_path / "model", json_whitespace=1) as ours:
        expected = [heard(await ours.whole(one)) for one in asked]
        assert await _compare(ours, asked, expected) > 0
        await _check_structured(ours, SHARE)


async def _compare(ours: Asking, asked: list[Json], expected: list[Json]) -> int:
    """Check every way of asking; return how many answers call something."""
    adopted = 0
    for one, wanted in zip(asked, expected, strict=True):
        assert heard(await ours.whole(one)) == wanted, one
        assert heard(await ours.streamed(one)) == wanted, one
        if one["messages"][-1]["role"] == "user":
            for wait in (False, True):
                answer, tokens = await ours.typed(one, wait=wait)
                assert heard(answer) == wanted, (one, wait)
                adopted += tokens
    assert adopted > 0
    return sum(bool(one["calls"]) for one in expected)


# ---- structured output, with drafts


def schema(rng: random.Random) -> Json:
    """Return a schema that any model can satisfy within few tokens."""
    kinds: list[Json] = [
        {"enum": rng.sample(LEXICON, 3)},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        {"type": "string", "pattern": "^[ab]{1,4}$"},
    ]
    fields = {f"f{n}": rng.choice(kinds) for n in range(rng.randint(1, 4))}
    return {
        "type": "object",
        "properties": fields,
        "required": [*fields],
        "additionalProperties": False,
    }


def wrong(text: str, rng: random.Random) -> str:
    """Return a draft of the text that is right, half right, or breaks the grammar."""
    place = rng.randrange(1, len(text))
    endings = (text[place:], text[place:][::-1], " and more of it", "}}}}")
    return text[:place] + rng.choice(endings)


async def _check_structured(ours: Asking, count: int) -> None:
    """Check that answers in a form are valid, and the same whatever is drafted."""
    jsonschema = pytest.importorskip("jsonschema")
    for number in range(count):
        rng = random.Random(number)
        wanted = schema(rng)
        form = {"type": "json_schema", "json_schema": {"name": "f", "schema": wanted}}
        asked: Json = {"model": "tiny", "temperature": 0.0, "max_tokens": 200}
        asked["messages"] = [{"role": "user", "content": said(rng, 12)}]
        plain = heard(await ours.whole({**asked, "response_format": form}))
        jsonschema.validate(json.loads(plain["text"]), wanted)
        for draft in (plain["text"], wrong(plain["text"], rng)):
            predicted = {"type": "content", "content": draft}
            drafted = {**asked, "response_format": form, "prediction": predicted}
            assert heard(await ours.whole(drafted)) == plain, (asked, draft)
