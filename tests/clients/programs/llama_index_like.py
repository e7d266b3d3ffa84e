"""LlamaIndex, its class for servers like OpenAI's."""

from __future__ import annotations

from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

PACKAGES = ("llama-index-llms-openai-like", "openai")
LINES = (
    'OpenAILike(model="auto", api_base="http://HOST:8000/v1", api_key="any", '
    "is_chat_model=True, is_function_calling_model=True)"
)


class Answer(BaseModel):
    """What the answer has to look like."""

    capital: Literal["Paris", "Rome"]


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It rains in {city}."


def _llm(url: str, model: str) -> OpenAILike:
    return OpenAILike(
        model=model,
        api_base=url,
        api_key="any",
        is_chat_model=True,
        is_function_calling_model=True,
        max_tokens=160,
        max_retries=0,
    )


async def plain(url: str, model: str) -> None:
    """A chat, and a completion through it."""
    llm = _llm(url, model)
    assert (await llm.achat([ChatMessage(role="user", content="Hello?")])).message.content
    assert (await llm.acomplete("What is the capital of France?")).text


async def stream(url: str, model: str) -> None:
    """Pieces."""
    pieces = await _llm(url, model).astream_chat([ChatMessage(role="user", content="Count.")])
    assert "".join([piece.delta or "" async for piece in pieces])


async def tools(url: str, model: str) -> None:
    """A forced call."""
    llm, tool = _llm(url, model), FunctionTool.from_defaults(weather)
    answer = await llm.achat_with_tools(
        [tool], user_msg="How is the weather in Oslo?", tool_required=True
    )
    assert llm.get_tool_calls_from_response(answer)[0].tool_name == "weather"


async def structured(url: str, model: str) -> None:
    """A pydantic model."""
    llm = _llm(url, model).as_structured_llm(Answer)
    asked = "What is the capital of France? Answer as JSON."
    assert isinstance((await llm.achat([ChatMessage(role="user", content=asked)])).raw, Answer)
