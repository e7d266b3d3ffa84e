"""Random conversations, written by the client libraries' own types and serialisers.

``python random_conversations.py URL MODEL COUNT``: prints, as one line of JSON, how many each
library sent and what was refused.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from openai import APIStatusError, AsyncOpenAI
from openai.types.chat import ChatCompletionMessage
from openai.types.chat.chat_completion_message_function_tool_call import (
    ChatCompletionMessageFunctionToolCall,
    Function,
)
from pydantic_ai import ModelSettings
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
WORDS = "is it late in Oslo ? rain — ß 你好 🙂 and\nthen\t.".split(" ")  # noqa: SIM905


class Talk:
    """One random conversation; the same for the same seed."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self._calls = 0

    def text(self) -> str:
        return " ".join(self.rng.choice(WORDS) for _ in range(self.rng.randint(1, 12)))

    def flip(self, share: float = 0.5) -> bool:
        return self.rng.random() < share

    def call_ids(self) -> list[str]:
        first, self._calls = self._calls, self._calls + self.rng.randint(1, 3)
        return [f"call_{number}" for number in range(first, self._calls)]

    def arguments(self) -> dict[str, Any]:
        return self.rng.choice([{}, {"city": self.text()}, {"city": None, "n": [1, 2.5]}])

    def turns(self) -> int:
        return self.rng.randint(1, 4)


def with_openai(talk: Talk) -> list[Any]:
    """Messages of the openai package: dictionaries, and objects as it returns them."""
    said: list[Any] = []
    for _ in range(talk.rng.randint(0, 2)):
        said.append({"role": talk.rng.choice(["system", "developer"]), "content": talk.text()})
    for _ in range(talk.turns()):
        content: Any = talk.text()
        if talk.flip():
            content = [{"type": "text", "text": talk.text()} for _ in range(talk.rng.randint(1, 3))]
        user = {"role": "user", "content": content}
        said.append({**user, "name": "ann"} if talk.flip(0.2) else user)
        if talk.flip(0.3):
            ids = talk.call_ids()
            calls = [
                ChatCompletionMessageFunctionToolCall(
                    id=one,
                    type="function",
                    function=Function(name="weather", arguments=json.dumps(talk.arguments())),
                )
                for one in ids
            ]
            content = talk.rng.choice([None, "", talk.text()])
            said.append(ChatCompletionMessage(role="assistant", content=content, tool_calls=calls))
            for one in ids:
                parts = [{"type": "text", "text": talk.text()}]
                result: Any = talk.rng.choice([talk.text(), "", parts])
                said.append({"role": "tool", "tool_call_id": one, "content": result})
        if talk.flip(0.7):
            more = {"refusal": None, "annotations": [], "reasoning_content": talk.text()}
            kept = {name: value for name, value in more.items() if talk.flip()}
            said.append(
                ChatCompletionMessage.model_validate(
                    {"role": "assistant", "content": talk.text(), **kept}
                )
            )
    return said


def with_langchain(talk: Talk) -> list[Any]:
    """LangChain's messages."""
    said: list[Any] = [SystemMessage(talk.text())] if talk.flip() else []
    for _ in range(talk.turns()):
        parts: Any = [{"type": "text", "text": talk.text()}]
        said.append(HumanMessage(talk.rng.choice([talk.text(), parts])))
        if talk.flip(0.3):
            ids = talk.call_ids()
            calls = [{"id": i, "name": "weather", "args": talk.arguments()} for i in ids]
            said.append(AIMessage(talk.rng.choice(["", talk.text()]), tool_calls=calls))
            said += [ToolMessage(talk.text(), tool_call_id=one) for one in ids]
        said.append(AIMessage(talk.rng.choice([talk.text(), parts])))
    return [*said, HumanMessage(talk.text())] if talk.flip(0.8) else said


def with_pydantic(talk: Talk) -> list[Any]:
    """Pydantic AI's messages."""
    said: list[Any] = []
    system = [SystemPromptPart(talk.text())] if talk.flip() else []
    for _ in range(talk.turns()):
        prompt: Any = talk.rng.choice([talk.text(), [talk.text(), talk.text()]])
        said.append(ModelRequest(parts=[*system, UserPromptPart(prompt)]))
        system = []
        if talk.flip(0.4):
            ids = talk.call_ids()
            calls: list[Any] = [ToolCallPart("weather", talk.arguments(), one) for one in ids]
            said.append(ModelResponse(parts=calls))
            results: list[Any] = [ToolReturnPart("weather", talk.text(), one) for one in ids]
            if talk.flip(0.2):
                results[-1] = RetryPromptPart(
                    talk.text(), tool_name="weather", tool_call_id=ids[-1]
                )
            said.append(ModelRequest(parts=results))
        parts: list[Any] = [ThinkingPart(talk.text())] if talk.flip(0.2) else []
        said.append(ModelResponse(parts=[*parts, TextPart(talk.text())]))
    return [*said, ModelRequest(parts=[UserPromptPart(talk.text())])]


def senders(url: str, model: str) -> dict[str, Callable[[Talk], Awaitable[Any]]]:
    """Return what sends one conversation, by library and API."""
    client = AsyncOpenAI(base_url=url, api_key="any", max_retries=0)
    chat = ChatOpenAI(model=model, base_url=url, api_key="any", max_retries=0, max_tokens=4)
    over_responses = chat.model_copy(update={"use_responses_api": True})
    provider = OpenAIProvider(openai_client=client)
    weather = ToolDefinition(name="weather", parameters_json_schema=SCHEMA)
    with_tools = ModelRequestParameters(function_tools=[weather])

    async def openai(talk: Talk) -> None:
        said = with_openai(talk)
        answer = await client.chat.completions.create(
            model=model, messages=said, tools=[TOOL], max_tokens=4
        )
        said += [answer.choices[0].message, {"role": "user", "content": talk.text()}]
        await client.chat.completions.create(model=model, messages=said, max_tokens=4)

    async def langchain(talk: Talk) -> None:
        asking = talk.rng.choice([chat, over_responses]).bind_tools([TOOL])
        said = with_langchain(talk)
        answer = await asking.ainvoke(said)
        await asking.ainvoke([*said, answer, HumanMessage(talk.text())])

    async def pydantic(talk: Talk) -> None:
        kind = talk.rng.choice([OpenAIChatModel, OpenAIResponsesModel])
        named, settings = kind(model, provider=provider), ModelSettings(max_tokens=16)
        said, asked = with_pydantic(talk), with_tools
        answer = await model_request(
            named, said, model_settings=settings, model_request_parameters=asked
        )
        said += [answer, ModelRequest.user_text_prompt(talk.text())]
        await model_request(named, said, model_settings=settings, model_request_parameters=asked)

    return {"openai": openai, "langchain": langchain, "pydantic-ai": pydantic}


async def main(url: str, model: str, count: str) -> int:
    """Send them; return how many were refused."""
    sent, refused = Counter[str](), list[str]()
    every = senders(url, model)
    for number in range(int(count)):
        name = [*every][number % len(every)]
        try:
            await every[name](Talk(f"{name} {number}"))
            sent[name] += 1
        except (APIStatusError, ModelHTTPError) as error:
            refused.append(f"{name} {number}: {error}"[:300])
    print(json.dumps({"sent": sent, "refused": refused}))
    return len(refused)


if __name__ == "__main__":
    sys.exit(min(asyncio.run(main(*sys.argv[1:])), 100))
