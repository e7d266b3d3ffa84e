"""A Pipecat pipeline whose LLM is LiveMind. A recording of a recogniser speaks, the answer is text.

pip install 'livemind[pipecat]'; python examples/pipecat_pipeline.py PARTIALS.jsonl [URL]

With a transport: input and recogniser before ``LiveMindPartials``, voice and output behind ``llm``.
"""

import asyncio
import json
import sys
from pathlib import Path

from pipecat.frames import frames
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators import llm_response_universal as aggregators
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.settings import LLMSettings
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from livemind.integrations.pipecat import LiveMindLLMService, LiveMindPartials


async def speak(worker, rows):
    """Push what a recogniser would push for the first utterance, at its pace."""
    await worker.queue_frame(frames.ProposedUserStartedSpeakingFrame())
    said_ms = 0
    for row in rows:
        await asyncio.sleep((row["t_ms"] - said_ms) / 1000)
        said_ms = row["t_ms"]
        kind = frames.TranscriptionFrame if row["final"] else frames.InterimTranscriptionFrame
        await worker.queue_frame(kind(row["text"], "caller", ""))
    await worker.queue_frame(frames.ProposedUserStoppedSpeakingFrame())


async def main(lines, url="http://127.0.0.1:8000"):
    """Listen, answer once, print the answer."""
    rows = [json.loads(row) for row in lines]
    llm = LiveMindLLMService(url, settings=LLMSettings(system_instruction="Be brief."))
    params = aggregators.LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies())
    context = aggregators.LLMContextAggregatorPair(LLMContext(), user_params=params)
    pipeline = Pipeline([LiveMindPartials(llm), context.user(), llm, context.assistant()])
    worker = PipelineWorker(pipeline, enable_rtvi=False)

    @context.assistant().event_handler("on_assistant_turn_stopped")
    async def answered(aggregator, message):
        print(message.content)
        await worker.queue_frame(frames.EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), speak(worker, rows))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text().splitlines(), *sys.argv[2:]))
