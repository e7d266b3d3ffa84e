"""LiveKit Agents with its own plugin for OpenAI."""

from __future__ import annotations

from typing import Any, Literal

from livekit.agents import llm
from livekit.agents.types import APIConnectOptions
from livekit.plugins import openai

PACKAGES = ("livekit-agents", "livekit-plugins-openai", "openai")
LINES = 'livekit.plugins.openai.LLM(model="auto", base_url="http://HOST:8000/v1", api_key="any")'
PATIENT = APIConnectOptions(max_retry=0, timeout=60.0)


@llm.function_tool
async def weather(city: Literal["Oslo", "Rome"]) -> str:
    """Tell the weather of a city."""
    return f"It rains in {city}."


async def _collected(url: str, model: str, context: llm.ChatContext, **asked: Any) -> Any:
    made = openai.LLM(model=model, base_url=url, api_key="any", max_completion_tokens=160)
    async with made.chat(chat_ctx=context, conn_options=PATIENT, **asked) as stream:
        return await stream.collect()


async def stream(url: str, model: str) -> None:
    """A question, and a greeting that ends with the agent's instructions."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="What is the capital of France?")
    assert (await _collected(url, model, context)).text
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="Greet the caller.")
    assert (await _collected(url, model, context)).text


async def tools(url: str, model: str) -> None:
    """A forced call, its result, and what follows from it."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="How is the weather in Oslo?")
    answer = await _collected(
        url, model, context, tools=[weather], tool_choice="required", parallel_tool_calls=False
    )
    (call,) = answer.tool_calls
    assert call.name == "weather"
    said = {"call_id": call.call_id, "name": call.name}
    context.items.append(llm.FunctionCall(**said, arguments=call.arguments))
    context.items.append(llm.FunctionCallOutput(**said, output="It rains.", is_error=False))
    after = await _collected(url, model, context, tools=[weather], tool_choice="none")
    assert after.text is not None
