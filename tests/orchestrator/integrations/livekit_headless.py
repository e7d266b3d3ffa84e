"""A LiveKit ``AgentSession`` without a room: replayed transcripts in, words that take time out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, llm, stt
from livekit.agents.language import LanguageCode
from livekit.agents.voice import ConversationItemAddedEvent, io

from .replay import Record, Utterance, paced

RATE = 16_000
INSTRUCTIONS = "You answer briefly and say what you do not know."
SpeechType = stt.SpeechEventType


class Silence(io.AudioInput):
    """A microphone that hears nothing, in frames of 50 ms."""

    def __init__(self) -> None:
        super().__init__(label="silence")

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.05)
        return rtc.AudioFrame(bytes(RATE // 10), RATE, 1, RATE // 20)


class Recogniser(stt.STT):
    """Stands for a recogniser; ``Called.stt_node`` is where its events come from."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))

    async def _recognize_impl(self, *args: Any, **given: Any) -> stt.SpeechEvent:
        raise AssertionError("a recogniser that streams is not asked for whole recordings")


class Speaker(io.AudioOutput):
    """Plays one word for each frame and knows which words were heard."""

    def __init__(self, word_s: float) -> None:
        super().__init__(
            label="speaker",
            capabilities=io.AudioOutputCapabilities(pause=False),
            sample_rate=RATE,
        )
        self.word_s = word_s
        self.heard = asyncio.Event()
        self.played: list[str] = []
        self._words: list[str] = []
        self._began_s = 0.0
        self._end: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._words:
            self._began_s = asyncio.get_running_loop().time()
            self.on_playback_started(created_at=time.time())
            self.heard.set()
        self._words.append(frame.userdata["word"])

    def flush(self) -> None:
        super().flush()
        if self._words:
            loop = asyncio.get_running_loop()
            ends_s = self._began_s + len(self._words) * self.word_s
            self._end = loop.call_at(ends_s, self._finish, False)

    def clear_buffer(self) -> None:
        if self._words:
            self._finish(True)

    def _finish(self, interrupted: bool) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        played_s = asyncio.get_running_loop().time() - self._began_s
        played = len(self._words)
        if interrupted:
            played = min(played, max(1, int(played_s / self.word_s)))
        words, self._words = self._words[:played], []
        self.played.append("".join(words).strip())
        self.on_playback_finished(
            playback_position=played * self.word_s,
            interrupted=interrupted,
            synchronized_transcript=self.played[-1],
        )


class Called(Agent):
    """The agent of one call; measures from the final transcript to the first text of the LLM."""

    def __init__(self, word_s: float) -> None:
        super().__init__(instructions=INSTRUCTIONS)
        self.events: asyncio.Queue[stt.SpeechEvent] = asyncio.Queue()
        self.speaker = Speaker(word_s)
        self.record = Record()
        self.final_s = 0.0
        self.first_s: float | None = None

    async def stt_node(self, audio: Any, model_settings: Any) -> AsyncIterator[stt.SpeechEvent]:
        while True:
            yield await self.events.get()

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: Any, model_settings: Any
    ) -> AsyncIterator[Any]:
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            if self.first_s is None and chunk.delta and chunk.delta.content:
                self.first_s = time.perf_counter()
            yield chunk

    async def tts_node(self, text: Any, model_settings: Any) -> AsyncIterator[rtc.AudioFrame]:
        samples = int(RATE * self.speaker.word_s)
        async for piece in text:
            for word in piece.replace(" ", "\0 ").split("\0"):
                if word:
                    frame = rtc.AudioFrame(bytes(samples * 2), RATE, 1, samples)
                    frame.userdata["word"] = word
                    yield frame

    def say(self, kind: stt.SpeechEventType, text: str = "") -> None:
        data = [stt.SpeechData(language=LanguageCode("en"), text=text)] if text else []
        self.events.put_nowait(stt.SpeechEvent(type=kind, alternatives=data))


class Room:
    """A running call: ``turn`` says something and waits for the answer, or interrupts it."""

    def __init__(self, agent: Called, session: AgentSession[Any], speed: float) -> None:
        self.agent = agent
        self.session = session
        self.speed = speed
        self.said = asyncio.Event()
        self.record = agent.record
        session.on("conversation_item_added", self._on_item)

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if getattr(event.item, "role", None) == "assistant":
            self.said.set()

    async def turn(
        self, said: Utterance, *, barge_in_after_s: float | None, preflight: bool = False
    ) -> None:
        """Speak; then listen to the end, or stop listening some time after the first word."""
        agent, record = self.agent, self.agent.record
        agent.say(SpeechType.START_OF_SPEECH)
        async for text, final in paced(said, self.speed):
            if not final:
                agent.say(SpeechType.INTERIM_TRANSCRIPT, text)
                continue
            agent.speaker.heard.clear()
            self.said.clear()
            agent.first_s, agent.final_s = None, time.perf_counter()
            if preflight:
                agent.say(SpeechType.PREFLIGHT_TRANSCRIPT, text)
                await asyncio.sleep(0.02)
            agent.say(SpeechType.END_OF_SPEECH)
            agent.say(SpeechType.FINAL_TRANSCRIPT, text)
        try:
            async with asyncio.timeout(10):
                await agent.speaker.heard.wait()
        except TimeoutError:
            record.silent += 1
            return
        assert agent.first_s is not None
        record.ttft_ms.append((agent.first_s - agent.final_s) * 1000)
        if barge_in_after_s is not None:
            await asyncio.sleep(barge_in_after_s)
            record.interrupted += 1
        else:
            async with asyncio.timeout(30):
                await self.said.wait()


@asynccontextmanager
async def room(model: llm.LLM, *, speed: float, word_s: float) -> AsyncIterator[Room]:
    """Start a session with this model; at the end its history is in the record."""
    agent = Called(word_s)
    session: AgentSession[Any] = AgentSession(
        stt=Recogniser(),
        vad=None,
        llm=model,
        turn_handling={
            "turn_detection": "stt",
            "endpointing": {"min_delay": 0.05, "max_delay": 0.1},
            "interruption": {"mode": "vad", "min_duration": 0.0},
        },
        aec_warmup_duration=None,
        user_away_timeout=None,
    )
    session.input.audio = Silence()
    session.output.audio = agent.speaker
    if hasattr(model, "follow"):
        model.follow(session)
    await session.start(agent)
    try:
        yield Room(agent, session, speed)
    finally:
        agent.record.heard = agent.speaker.played
        agent.record.history = [
            (item.role, item.text_content or "")
            for item in session.history.items
            if item.type == "message"
        ]
        await session.aclose()
        await model.aclose()
