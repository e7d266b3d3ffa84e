"""LiteLLM's functions."""

from __future__ import annotations

from typing import Any, Literal

import litellm
from pydantic import BaseModel

PACKAGES = ("litellm", "openai")
LINES = 'completion(model="openai/auto", api_base="http://HOST:8000/v1", api_key="any")'
litellm.telemetry = False
litellm.num_retries = 0


class Answer(BaseModel):
    """What the answer has to look like."""

    capital: Literal["Paris", "Rome"]


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
        },
    },
}


def _asked(url: str, model: str, text: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    where = {"api_base": url, "api_key": "any", "max_tokens": 160}
    return {"model": f"openai/{model}", "messages": messages, **where}


async def plain(url: str, model: str) -> None:
    """One answer."""
    answer = await litellm.acompletion(**_asked(url, model, "What is the capital of France?"))
    assert answer.choices[0].message.content


async def stream(url: str, model: str) -> None:
    """Pieces."""
    pieces = await litellm.acompletion(**_asked(url, model, "Count to five."), stream=True)
    assert "".join([piece.choices[0].delta.content or "" async for piece in pieces])


async def tools(url: str, model: str) -> None:
    """A forced call."""
    asked = _asked(url, model, "How is the weather in Oslo?")
    answer = await litellm.acompletion(**asked, tools=[TOOL], tool_choice="required")
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"


async def structured(url: str, model: str) -> None:
    """A pydantic model as response format."""
    asked = _asked(url, model, "What is the capital of France? Answer as JSON.")
    answer = await litellm.acompletion(**asked, response_format=Answer)
    Answer.model_validate_json(answer.choices[0].message.content)


async def responses(url: str, model: str) -> None:
    """The Responses API."""
    answer = await litellm.aresponses(
        model=f"openai/{model}", input="Hello?", api_base=url, api_key="any", max_output_tokens=16
    )
    assert answer.output


async def embeddings(url: str, model: str) -> None:
    """Vectors."""
    answer = await litellm.aembedding(
        model=f"openai/{model}", input=["a ship", "a boat"], api_base=url, api_key="any"
    )
    assert len(answer.data) == 2
