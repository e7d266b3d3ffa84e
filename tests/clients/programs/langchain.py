"""LangChain's classes for OpenAI."""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

PACKAGES = ("langchain-openai", "openai")
LINES = (
    'ChatOpenAI(model="auto", base_url="http://HOST:8000/v1", api_key="any", stream_usage=True); '
    "OpenAIEmbeddings(…, check_embedding_ctx_length=False), as its tokens are another model's"
)


class Answer(BaseModel):
    """What the answer has to look like."""

    capital: Literal["Paris", "Rome"]


@tool
def weather(city: Literal["Oslo", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"It rains in {city}."


def _chat(url: str, model: str, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=model, base_url=url, api_key="any", max_tokens=160, max_retries=0, **more
    )


async def plain(url: str, model: str) -> None:
    """Chat, and the class of plain prompts."""
    assert (await _chat(url, model).ainvoke("What is the capital of France?")).content
    prompts = OpenAI(model=model, base_url=url, api_key="any", max_tokens=8, max_retries=0)
    assert await prompts.ainvoke("The capital of France is")


async def stream(url: str, model: str) -> None:
    """Pieces that add up, with their usage."""
    chat = _chat(url, model, stream_usage=True)
    pieces = [piece async for piece in chat.astream("Count to five.")]
    assert "".join(piece.content for piece in pieces)
    assert any(piece.usage_metadata for piece in pieces)


async def tools(url: str, model: str) -> None:
    """A bound tool, its call and its result."""
    chat = _chat(url, model)
    said: list[Any] = [HumanMessage("How is the weather in Oslo?")]
    answer = await chat.bind_tools([weather], tool_choice="weather").ainvoke(said)
    (call, *_) = answer.tool_calls
    said += [answer, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert (await chat.bind_tools([weather], tool_choice="none").ainvoke(said)).content is not None


async def structured(url: str, model: str) -> None:
    """All three methods."""
    for method in ("json_schema", "function_calling", "json_mode"):
        asking = _chat(url, model).with_structured_output(Answer, method=method)
        asked = 'What is the capital of France? Answer as JSON: {"capital": "Paris"}'
        if method == "json_mode":  # any JSON is allowed there, and the model is a small one
            asking = _chat(url, model).bind(response_format={"type": "json_object"})
            assert (await asking.ainvoke(asked)).content.lstrip().startswith("{")
        else:
            assert isinstance(await asking.ainvoke(asked), Answer)


async def responses(url: str, model: str) -> None:
    """The class told to use the Responses API."""
    assert (await _chat(url, model, use_responses_api=True).ainvoke("Hello?")).text


async def embeddings(url: str, model: str) -> None:
    """Vectors of documents."""
    encoder = OpenAIEmbeddings(
        model=model, base_url=url, api_key="any", check_embedding_ctx_length=False, max_retries=0
    )
    vectors = await encoder.aembed_documents(["a ship", "a boat"])
    assert len(vectors) == 2
