"""The official Python client."""

from __future__ import annotations

from typing import Literal

from openai import AsyncOpenAI
from pydantic import BaseModel

PACKAGES = ("openai",)
LINES = 'AsyncOpenAI(base_url="http://HOST:8000/v1", api_key="any")'
ASKED = "What is the capital of France? Answer as JSON."


class Answer(BaseModel):
    """What the answer has to look like."""

    capital: Literal["Paris", "Rome"]


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def _client(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=120)


async def plain(url: str, model: str) -> None:
    """Two turns, the second with the message object that the first one gave."""
    async with _client(url) as client:
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        first = await client.chat.completions.create(model=model, messages=messages, max_tokens=16)
        assert first.choices[0].message.content
        assert first.usage.completion_tokens > 0
        messages += [first.choices[0].message, {"role": "user", "content": "And of Norway?"}]
        second = await client.chat.completions.create(model=model, messages=messages, max_tokens=16)
        assert second.choices[0].message.content
        assert (await client.models.list()).data[0].id == "auto"


async def stream(url: str, model: str) -> None:
    """The helper that builds the whole answer of the pieces."""
    async with _client(url) as client:
        messages = [{"role": "user", "content": "Count to five."}]
        options = {"include_usage": True}
        async with client.chat.completions.stream(
            model=model, messages=messages, stop=["."], stream_options=options
        ) as pieces:
            text = "".join([piece.delta async for piece in pieces if piece.type == "content.delta"])
            whole = await pieces.get_final_completion()
        assert text == whole.choices[0].message.content != ""
        assert whole.usage.completion_tokens > 0


async def tools(url: str, model: str) -> None:
    """A forced call, streamed and whole, its result and the answer to it."""
    async with _client(url) as client:
        messages = [{"role": "user", "content": "How is the weather in Oslo?"}]
        asked = {"model": model, "messages": messages, "tools": [TOOL], "max_tokens": 160}
        asked["parallel_tool_calls"] = False
        whole = await client.chat.completions.create(**asked, tool_choice="required")
        (call, *_) = whole.choices[0].message.tool_calls
        assert call.function.name == "weather"
        assert '"city"' in call.function.arguments
        assert whole.choices[0].finish_reason == "tool_calls"
        async with client.chat.completions.stream(
            **asked, tool_choice={"type": "function", "function": {"name": "weather"}}
        ) as pieces:
            streamed = await pieces.get_final_completion()
        assert streamed.choices[0].message.tool_calls[0].function.parsed_arguments["city"]
        messages += [whole.choices[0].message]
        for made in whole.choices[0].message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": made.id, "content": "It rains."})
        after = await client.chat.completions.create(**{**asked, "messages": messages})
        assert after.choices[0].message.content is not None


async def structured(url: str, model: str) -> None:
    """``parse`` with a pydantic model."""
    async with _client(url) as client:
        messages = [{"role": "user", "content": ASKED}]
        answer = await client.chat.completions.parse(
            model=model, messages=messages, response_format=Answer, max_tokens=160
        )
        assert isinstance(answer.choices[0].message.parsed, Answer)


async def responses(url: str, model: str) -> None:
    """The Responses API, whole, streamed, and going on."""
    async with _client(url) as client:
        first = await client.responses.create(model=model, input="Hello?", max_output_tokens=16)
        assert first.output_text
        async with client.responses.stream(
            model=model, input=ASKED, text_format=Answer, previous_response_id=first.id
        ) as events:
            kinds = [event.type async for event in events]
            final = await events.get_final_response()
        assert isinstance(final.output_parsed, Answer)
        assert kinds[-1] == "response.completed"


async def embeddings(url: str, model: str) -> None:
    """Vectors of several texts."""
    async with _client(url) as client:
        answer = await client.embeddings.create(model=model, input=["a ship", "a boat"])
        assert len(answer.data) == 2
        assert answer.usage.prompt_tokens > 0
