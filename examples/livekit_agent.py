"""A LiveKit agent whose LLM is LiveMind. A recording of a recogniser speaks, the answer is text.

pip install 'livemind[livekit]'; python examples/livekit_agent.py PARTIALS.jsonl [URL]

In a room take a recogniser and a voice of the framework; the lines with ``model`` stay.
"""

import asyncio
import json
import sys
from pathlib import Path

from livekit.agents import Agent, AgentSession, stt

from livemind.integrations.livekit import LiveMindLLM


class Recogniser(stt.STT):
    """Hears one utterance, at its own pace."""

    def __init__(self, rows):
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self.rows, self.stream = rows, lambda **given: Replay(stt=self, **given)

    async def _recognize_impl(self, buffer, *, language, conn_options):
        raise NotImplementedError  # whole recordings: a recogniser that streams is not asked for it


class Replay(stt.RecognizeStream):
    """What the recogniser sends while somebody speaks."""

    async def _run(self):
        said_ms = 0
        for row in self._stt.rows:
            await asyncio.sleep((row["t_ms"] - said_ms) / 1000)
            said_ms = row["t_ms"]
            kind = "final_transcript" if row["final"] else "interim_transcript"
            said = [stt.SpeechData(language="en", text=row["text"])]
            self._event_ch.send_nowait(stt.SpeechEvent(stt.SpeechEventType(kind), "", said))
        self._event_ch.send_nowait(stt.SpeechEvent(stt.SpeechEventType.END_OF_SPEECH))
        await asyncio.Event().wait()


async def main(lines, url="http://127.0.0.1:8000"):
    """Listen, answer once, print the conversation."""
    recogniser = Recogniser([json.loads(row) for row in lines])
    turns, model, answered = {"turn_detection": "stt"}, LiveMindLLM(url), asyncio.Event()
    session = AgentSession(stt=recogniser, vad=None, llm=model, turn_handling=turns)
    model.follow(session)
    session.on("agent_state_changed", lambda e: e.old_state == "speaking" and answered.set())
    await session.start(Agent(instructions="You answer briefly."))
    await answered.wait()
    for message in session.history.messages():
        print(f"{message.role}: {message.text_content.strip()}")
    await session.aclose()
    await model.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text().splitlines(), *sys.argv[2:]))
