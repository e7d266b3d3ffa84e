"""Pipecat with its own service for OpenAI, in a pipeline."""

from __future__ import annotations

import asyncio
from typing import Any

from loguru import logger
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import EndFrame, LLMContextFrame, LLMTextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.workers.runner import WorkerRunner

PACKAGES = ("pipecat-ai", "openai")
LINES = (
    'OpenAILLMService(settings=OpenAILLMService.Settings(model="auto"), '
    'base_url="http://HOST:8000/v1", api_key="any")'
)
logger.remove()


class Heard(FrameProcessor):
    """Collects what the service says."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    async def process_frame(self, frame: Any, direction: FrameDirection) -> None:
        """Keep text, pass all on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMTextFrame):
            self.text += frame.text
        await self.push_frame(frame, direction)


def _service(url: str, model: str) -> OpenAILLMService:
    settings = OpenAILLMService.Settings(model=model)
    return OpenAILLMService(settings=settings, base_url=url, api_key="any")


async def plain(url: str, model: str) -> None:
    """An inference aside, opened by the developer's words."""
    said: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    assert await _service(url, model).run_inference(LLMContext(said), max_tokens=64)


async def _ran(service: OpenAILLMService, context: LLMContext, until: asyncio.Event | None) -> str:
    heard = Heard()
    worker = PipelineWorker(
        Pipeline([service, heard]), cancel_on_idle_timeout=False, enable_rtvi=False
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await worker.queue_frame(LLMContextFrame(context))
    if until is not None:
        async with asyncio.timeout(120):
            await until.wait()
    await worker.queue_frame(EndFrame())
    await running
    return heard.text


async def stream(url: str, model: str) -> None:
    """A turn of a pipeline."""
    said: Any = [{"role": "user", "content": "What is the capital of France?"}]
    assert await _ran(_service(url, model), LLMContext(said), None)


async def tools(url: str, model: str) -> None:
    """A forced call, which the pipeline runs."""
    called, seen = asyncio.Event(), []
    city = {"city": {"type": "string", "enum": ["Oslo", "Rome"]}}
    schema = FunctionSchema("weather", "Tells the weather.", city, ["city"])

    async def weather(params: Any) -> None:
        seen.append(params.arguments)
        called.set()
        await params.result_callback("It rains.")

    service = _service(url, model)
    service.register_function("weather", weather)
    said: Any = [{"role": "user", "content": "How is the weather in Oslo?"}]
    context = LLMContext(said, tools=ToolsSchema([schema]), tool_choice="required")
    await _ran(service, context, called)
    assert seen[0]["city"] in ("Oslo", "Rome")
