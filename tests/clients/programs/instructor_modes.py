"""Instructor, in the modes that it has for OpenAI's API."""

from __future__ import annotations

from typing import Literal

import instructor
from openai import AsyncOpenAI
from pydantic import BaseModel

PACKAGES = ("instructor", "openai")
LINES = (
    'instructor.from_openai(AsyncOpenAI(base_url="http://HOST:8000/v1", api_key="any"), '
    "mode=instructor.Mode.TOOLS or JSON_SCHEMA"
    ")"
)


class Answer(BaseModel):
    """What the answer has to look like."""

    capital: Literal["Paris", "Rome"]


async def _ask(url: str, model: str, mode: instructor.Mode) -> Answer:
    client = AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=120)
    asking = instructor.from_openai(client, mode=mode)
    messages = [{"role": "user", "content": "What is the capital of France? Answer as JSON."}]
    answer = await asking.chat.completions.create(
        model=model, messages=messages, response_model=Answer, max_tokens=160, max_retries=0
    )
    assert isinstance(answer, Answer)
    return answer


async def tools(url: str, model: str) -> None:
    """The default mode."""
    await _ask(url, model, instructor.Mode.TOOLS)


async def structured(url: str, model: str) -> None:
    """A schema."""
    await _ask(url, model, instructor.Mode.JSON_SCHEMA)
