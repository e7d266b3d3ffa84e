"""Pipecat with LiveMind as its LLM service: a real pipeline, headless, against a real server."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pipecat")

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.settings import LLMSettings
from pipecat.utils.errors import ErrorCategory

from livemind.backends.fake import FakeExpert
from livemind.integrations.answer import CallFailed
from livemind.integrations.pipecat import LiveMindLLMService

from .pipecat_headless import INSTRUCTIONS, phone
from .replay import barge_in_after_s, script
from .served import answer, served

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


async def test_pipecat_call_with_interruptions_has_no_silent_turn_and_keeps_what_was_heard() -> (
    None
):
    expert = FakeExpert("fake", answer=answer, ttft_s=0.02, token_s=0.002)
    settings = LLMSettings(system_instruction=INSTRUCTIONS)
    async with served(expert) as server:
        service = LiveMindLLMService(server.url, settings=settings)
        async with phone(service, speed=5, word_s=0.02) as call:
            for turn, said in enumerate(script(6)):
                await call.turn(said, barge_in_after_s=barge_in_after_s(turn))
        record = call.record
        assert (record.silent, record.interrupted, len(record.ttft_ms)) == (0, 2, 6)
        assert server.refused == []
        assert record.answers == record.heard
        assert len(record.answers[1]) < len(record.answers[0])
        assert record.not_asked_so(INSTRUCTIONS, server.asked) == []
        assert server.count("POST", "/v1/chat/completions") == 6
        assert server.count("POST", "/v1/live/sessions") == 1
        assert server.count("PUT", "/input") > 6


async def test_pipecat_runs_the_functions_that_an_answer_calls_and_asks_again() -> None:
    call = '<tool_call>{"name": "look_up", "arguments": {"name": "Kestrel"}}</tool_call>'
    expert = FakeExpert(
        "fake", answer=lambda said: said[-1].content if said[-1].role == "tool" else call
    )
    schema = FunctionSchema("look_up", "Looks up.", {"name": {"type": "string"}}, ["name"])
    seen: list[Any] = []

    async def look_up(params: FunctionCallParams) -> None:
        seen.append(params.arguments)
        await params.result_callback("it is 785")

    async with served(expert) as server:
        service = LiveMindLLMService(
            server.url, settings=LLMSettings(system_instruction=INSTRUCTIONS)
        )
        service.register_function("look_up", look_up)
        async with phone(service, speed=5, word_s=0.02, tools=[schema]) as line:
            await line.turn(script(1)[0], barge_in_after_s=None)
        assert seen == [{"name": "Kestrel"}]
        assert "it is 785" in "".join(line.record.heard)
        assert server.refused == []


async def test_pipecat_inference_aside_has_its_own_instructions() -> None:
    async with served() as server:
        service = LiveMindLLMService(server.url, settings=LLMSettings(temperature=0.0))
        context = LLMContext([{"role": "user", "content": "Sum it up"}])
        text = await service.run_inference(context, max_tokens=3, system_instruction="Briefly.")
        await service.cleanup()
        assert text == "This is answer"
        assert server.asked[-1] == (("system", "Briefly."), ("user", "Sum it up"))


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (None, ErrorCategory.CONNECTIVITY),
        (400, ErrorCategory.APPLICATION),
        (401, ErrorCategory.AUTHENTICATION),
        (429, ErrorCategory.RATE_LIMIT),
        (503, ErrorCategory.SERVER),
    ],
)
async def test_pipecat_error_only_of_the_key_leaves_the_service_unusable(
    status: int | None, category: ErrorCategory
) -> None:
    service = LiveMindLLMService("http://127.0.0.1:9")
    found = service._classify_error(CallFailed("no", status=status))
    assert found is category
    assert category.is_permanent is (status == 401)
    await service.cleanup()
