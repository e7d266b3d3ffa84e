"""Inspect AI's models."""

from __future__ import annotations

from typing import Any, Literal

from inspect_ai.model import GenerateConfig, ResponseSchema, get_model
from inspect_ai.tool import tool
from inspect_ai.util import json_schema
from pydantic import BaseModel

PACKAGES = ("inspect-ai", "openai")
LINES = 'get_model("openai-api/livemind/auto", base_url="http://HOST:8000/v1", api_key="any")'


class Answer(BaseModel):
    """What the answer has to look like."""

    capital: Literal["Paris", "Rome"]


@tool
def weather() -> Any:
    """Make the tool."""

    async def execute(city: str) -> str:
        """Tell the weather of a city.

        Args:
            city: its name.
        """
        return f"It rains in {city}."

    return execute


def _model(url: str, model: str, **config: Any) -> Any:
    options = GenerateConfig(max_tokens=160, max_retries=0, **config)
    return get_model(
        f"openai-api/livemind/{model}", base_url=url, api_key="any", config=options, memoize=False
    )


async def plain(url: str, model: str) -> None:
    """One answer."""
    assert (await _model(url, model).generate("What is the capital of France?")).completion


async def tools(url: str, model: str) -> None:
    """A forced call."""
    output = await _model(url, model).generate(
        "How is the weather in Oslo?", tools=[weather()], tool_choice="any"
    )
    assert output.message.tool_calls[0].function == "weather"


async def structured(url: str, model: str) -> None:
    """A schema."""
    schema = ResponseSchema(name="answer", json_schema=json_schema(Answer), strict=True)
    asked = "What is the capital of France? Answer as JSON."
    output = await _model(url, model, response_schema=schema).generate(asked)
    Answer.model_validate_json(output.completion)
