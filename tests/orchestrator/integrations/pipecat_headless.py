"""A Pipecat pipeline without a transport: replayed transcripts in, words that take time out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterimTranscriptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    TranscriptionFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.utils.text.base_text_aggregator import TextType
from pipecat.workers.runner import WorkerRunner

from livemind.integrations.pipecat import LiveMindLLMService, LiveMindPartials

from .replay import Record, Utterance, paced

INSTRUCTIONS = "You answer briefly and say what you do not know."


class Voice(FrameProcessor):
    """Speaks word by word; an interruption cancels the word that is being said."""

    def __init__(self, word_s: float) -> None:
        super().__init__()
        self.word_s = word_s
        self.heard = asyncio.Event()
        self.quiet = asyncio.Event()
        self.first_s: float | None = None
        self.played: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMFullResponseStartFrame):
            self.played.append("")
        if not isinstance(frame, LLMTextFrame):
            await self.push_frame(frame, direction)
            if isinstance(frame, LLMFullResponseEndFrame):
                self.quiet.set()
            return
        if self.first_s is None:
            self.first_s = time.perf_counter()
        for word in frame.text.replace(" ", "\0 ").split("\0"):
            if word:
                said = TTSTextFrame(word, text_type=TextType.WORD)
                said.includes_inter_frame_spaces = True
                await self.push_frame(said)
                self.played[-1] += word
                self.heard.set()
                await asyncio.sleep(self.word_s)


class Phone:
    """A running call: ``turn`` says something and waits for the answer, or interrupts it."""

    def __init__(self, worker: PipelineWorker, voice: Voice, speed: float) -> None:
        self.worker = worker
        self.voice = voice
        self.speed = speed
        self.record = Record()

    async def turn(self, said: Utterance, *, barge_in_after_s: float | None) -> None:
        """Speak; then listen to the end, or stop listening some time after the first word."""
        voice, queue = self.voice, self.worker.queue_frame
        await queue(ProposedUserStartedSpeakingFrame())
        final_s = 0.0
        async for text, final in paced(said, self.speed):
            if not final:
                await queue(InterimTranscriptionFrame(text, "caller", ""))
                continue
            for event in (voice.heard, voice.quiet):
                event.clear()
            voice.first_s, final_s = None, time.perf_counter()
            await queue(TranscriptionFrame(text, "caller", "", finalized=True))
            await queue(ProposedUserStoppedSpeakingFrame())
        try:
            async with asyncio.timeout(10):
                await voice.heard.wait()
        except TimeoutError:
            self.record.silent += 1
            return
        assert voice.first_s is not None
        self.record.ttft_ms.append((voice.first_s - final_s) * 1000)
        if barge_in_after_s is not None:
            await asyncio.sleep(barge_in_after_s)
            self.record.interrupted += 1
        else:
            async with asyncio.timeout(30):
                await voice.quiet.wait()


@asynccontextmanager
async def phone(
    service: LLMService, *, speed: float, word_s: float, tools: Sequence[FunctionSchema] = ()
) -> AsyncIterator[Phone]:
    """Run a pipeline with this service; at the end its context is in the record."""
    context = LLMContext(tools=ToolsSchema([*tools])) if tools else LLMContext()
    strategies = ExternalUserTurnStrategies()
    pair = LLMContextAggregatorPair(
        context, user_params=LLMUserAggregatorParams(user_turn_strategies=strategies)
    )
    ears = [LiveMindPartials(service)] if isinstance(service, LiveMindLLMService) else []
    voice = Voice(word_s)
    worker = PipelineWorker(
        Pipeline([*ears, pair.user(), service, voice, pair.assistant()]),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_started(worker: PipelineWorker, frame: Frame) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await started.wait()
    call = Phone(worker, voice, speed)
    try:
        yield call
    finally:
        await worker.queue_frame(EndFrame())
        await running
        if (client := getattr(service, "_client", None)) is not None:
            await client.close()  # the framework leaves its connections open
        call.record.heard = [text for text in voice.played if text]
        call.record.history = [(m["role"], m.get("content")) for m in context.messages]
