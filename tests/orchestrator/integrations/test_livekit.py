"""LiveKit Agents with LiveMind as its LLM: a real session, headless, against a real server."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("livekit.agents")

from livekit.agents import APIConnectionError, APIStatusError, llm
from livekit.agents.llm import ChatContext
from livekit.agents.types import APIConnectOptions

from livemind.backends.fake import FakeExpert
from livemind.integrations.livekit import LiveMindLLM

from .livekit_headless import INSTRUCTIONS, room
from .replay import barge_in_after_s, script
from .served import answer, served

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
ONCE = APIConnectOptions(max_retry=0, timeout=5.0)


def conversation(text: str = "What is the port of Kestrel?") -> ChatContext:
    context = ChatContext.empty()
    context.add_message(role="user", content=text)
    return context


async def collected(model: LiveMindLLM, options: APIConnectOptions = ONCE, **given: Any) -> Any:
    stream = model.chat(chat_ctx=conversation(), conn_options=options, **given)
    return await stream.collect()


async def test_livekit_call_with_interruptions_has_no_silent_turn_and_keeps_what_was_heard() -> (
    None
):
    expert = FakeExpert("fake", answer=answer, ttft_s=0.02, token_s=0.002)
    async with served(expert) as server:
        async with room(LiveMindLLM(server.url), speed=5, word_s=0.02) as call:
            for turn, said in enumerate(script(6)):
                after_s = barge_in_after_s(turn)
                await call.turn(said, barge_in_after_s=after_s, preflight=turn % 2 == 0)
            record = call.agent.record
        assert (record.silent, record.interrupted, len(record.ttft_ms)) == (0, 2, 6)
        assert server.refused == []
        assert record.answers == record.heard
        assert len(record.answers[1]) < len(record.answers[0])
        assert record.not_asked_so(INSTRUCTIONS, server.asked) == []
        assert server.count("POST", "/v1/chat/completions") == 6
        assert server.count("POST", "/v1/live/sessions") == 1
        assert server.count("PUT", "/input") > 6


async def test_livekit_answer_comes_with_usage_and_sampling_of_the_model() -> None:
    async with served() as server:
        async with LiveMindLLM(server.url, sampling={"max_tokens": 3}) as model:
            answered = await collected(model)
        assert answered.text == "This is answer"
        assert answered.usage.completion_tokens == 3
        assert answered.usage.total_tokens == answered.usage.prompt_tokens + 3


async def test_livekit_answer_calls_a_tool_and_goes_on_from_its_result() -> None:
    @llm.function_tool
    async def look_up(name: str) -> str:
        """Look something up."""
        return f"{name} is 785"

    call = '<tool_call>{"name": "look_up", "arguments": {"name": "Kestrel"}}</tool_call>'
    expert = FakeExpert(
        "fake", answer=lambda said: said[-1].content if said[-1].role == "tool" else f"wait {call}"
    )
    async with served(expert) as server, LiveMindLLM(server.url) as model:
        context = conversation()
        stream = model.chat(
            chat_ctx=context, tools=[look_up], tool_choice="auto", conn_options=ONCE
        )
        answered = await stream.collect()
        assert answered.text.strip() == "wait"
        (made,) = answered.tool_calls
        assert (made.name, made.arguments) == ("look_up", '{"name": "Kestrel"}')
        context.items.append(
            llm.FunctionCall(call_id=made.call_id, name=made.name, arguments=made.arguments)
        )
        context.items.append(
            llm.FunctionCallOutput(
                call_id=made.call_id, name=made.name, output="it is 785", is_error=False
            )
        )
        after = await model.chat(chat_ctx=context, tools=[look_up], conn_options=ONCE).collect()
        assert after.text == "it is 785"
        assert server.refused == []


async def test_livekit_errors_become_those_of_the_framework() -> None:
    async with served() as server, LiveMindLLM(server.url, model="nobody") as model:
        with pytest.raises(APIStatusError) as refused:
            await collected(model)
        assert (refused.value.status_code, refused.value.retryable) == (404, False)
    async with LiveMindLLM("http://127.0.0.1:9") as model:
        with pytest.raises(APIConnectionError) as lost:
            await collected(model)
        assert lost.value.retryable


async def test_livekit_answer_without_a_first_word_in_time_is_a_timeout() -> None:
    slow = FakeExpert("fake", answer=answer, ttft_s=30)
    async with served(slow) as server, LiveMindLLM(server.url) as model:
        with pytest.raises(APIConnectionError, match="timed out"):
            await collected(model, APIConnectOptions(max_retry=0, timeout=0.2))
