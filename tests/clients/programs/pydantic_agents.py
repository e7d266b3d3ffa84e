"""Pydantic AI, over chat completions and over the Responses API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic_ai import Agent, ModelSettings, NativeOutput
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest, ToolCallPart, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

PACKAGES = ("pydantic-ai-slim", "openai")
LINES = (
    'OpenAIResponsesModel("auto", provider=OpenAIProvider('
    'base_url="http://HOST:8000/v1", api_key="any")), or OpenAIChatModel'
)
SHORT = ModelSettings(max_tokens=160)
ONE_CALL = ModelSettings(max_tokens=160, parallel_tool_calls=False)
WEATHER = ToolDefinition(
    name="weather",
    description="Tell the weather of a city.",
    parameters_json_schema={
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
        "required": ["city"],
    },
)


class Answer(BaseModel):
    """What the answer has to look like."""

    capital: Literal["Paris", "Rome"]


def _models(url: str, model: str) -> list[Any]:
    provider = OpenAIProvider(base_url=url, api_key="any")
    return [
        OpenAIChatModel(model, provider=provider),
        OpenAIResponsesModel(model, provider=provider),
    ]


async def plain(url: str, model: str) -> None:
    """Two turns with the history of the first."""
    for named in _models(url, model):
        agent = Agent(named, instructions="Be brief.", model_settings=SHORT)
        first = await agent.run("What is the capital of France?")
        again = await agent.run("And of Norway?", message_history=first.all_messages())
        assert first.output
        assert again.output


async def stream(url: str, model: str) -> None:
    """Texts as they come."""
    for named in _models(url, model):
        agent = Agent(named, model_settings=SHORT)
        async with agent.run_stream("Count to five.") as result:
            texts = [text async for text in result.stream_text(delta=True)]
        assert "".join(texts)


async def tools(url: str, model: str) -> None:
    """The final answer is a call of a tool, Pydantic AI's own way to an output type; a function."""
    asked = "How is the weather in Oslo?"
    for named in _models(url, model):
        agent = Agent(named, output_type=Answer, model_settings=ONE_CALL, retries=3)
        result = await agent.run("What is the capital of France?")
        assert isinstance(result.output, Answer)
        said: list[Any] = [ModelRequest.user_text_prompt(asked)]
        forced = ModelRequestParameters(function_tools=[WEATHER], allow_text_output=False)
        answer = await model_request(
            named, said, model_settings=ONE_CALL, model_request_parameters=forced
        )
        (call,) = [part for part in answer.parts if isinstance(part, ToolCallPart)]
        assert call.args_as_dict()["city"] in ("Oslo", "Rome")
        told = ToolReturnPart(call.tool_name, "It rains.", tool_call_id=call.tool_call_id)
        said += [answer, ModelRequest(parts=[told])]
        free = ModelRequestParameters(function_tools=[WEATHER])
        after = await model_request(
            named, said, model_settings=SHORT, model_request_parameters=free
        )
        assert after.parts


async def structured(url: str, model: str) -> None:
    """The form of the answer is given to the server."""
    for named in _models(url, model):
        agent = Agent(named, output_type=NativeOutput(Answer), model_settings=SHORT)
        result = await agent.run("What is the capital of France? Answer as JSON.")
        assert isinstance(result.output, Answer)
