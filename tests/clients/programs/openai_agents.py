"""OpenAI's Agents SDK, over its default, the Responses API."""

from __future__ import annotations

from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

PACKAGES = ("openai-agents", "openai")
LINES = (
    'set_default_openai_client(AsyncOpenAI(base_url="http://HOST:8000/v1", api_key="any"), '
    "use_for_tracing=False); set_tracing_disabled(True)"
)
SHORT = ModelSettings(max_tokens=160)
called: list[str] = []


class Answer(BaseModel):
    """What the answer has to look like."""

    capital: Literal["Paris", "Rome"]


@function_tool
def weather(city: Literal["Oslo", "Rome"]) -> str:
    """Tell the weather of a city."""
    called.append(city)
    return f"It rains in {city}."


def _use(url: str) -> AsyncOpenAI:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=120)
    set_default_openai_client(client, use_for_tracing=False)
    return client


async def plain(url: str, model: str) -> None:
    """The first example of the documentation."""
    _use(url)
    agent = Agent(name="Assistant", instructions="Be brief.", model=model, model_settings=SHORT)
    assert (await Runner.run(agent, "What is the capital of France?")).final_output


async def stream(url: str, model: str) -> None:
    """A run whose events are read."""
    _use(url)
    agent = Agent(name="Assistant", instructions="Be brief.", model=model, model_settings=SHORT)
    result = Runner.run_streamed(agent, "Count to five.")
    kinds = [
        event.data.type
        async for event in result.stream_events()
        if event.type == "raw_response_event"
    ]
    assert "response.output_text.delta" in kinds
    assert result.final_output


async def tools(url: str, model: str) -> None:
    """A function that has to be called; over chat completions too."""
    client = _use(url)
    forced = ModelSettings(max_tokens=160, tool_choice="required", parallel_tool_calls=False)
    for named in (model, OpenAIChatCompletionsModel(model=model, openai_client=client)):
        called.clear()
        agent = Agent(name="Clerk", model=named, tools=[weather], model_settings=forced)
        await Runner.run(agent, "How is the weather in Oslo?", max_turns=8)
        assert called


async def structured(url: str, model: str) -> None:
    """An output type."""
    _use(url)
    agent = Agent(name="Assistant", model=model, output_type=Answer, model_settings=SHORT)
    result = await Runner.run(agent, "What is the capital of France? Answer as JSON.")
    assert isinstance(result.final_output, Answer)
