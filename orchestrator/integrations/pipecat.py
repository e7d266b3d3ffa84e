"""LiveMind in a Pipecat pipeline: an LLM service, and a processor that hears the transcripts.

    Pipeline([transport.input(), stt, LiveMindPartials(llm), context.user(), llm, tts, …])

Versions: ``pipecat-ai`` 1.14.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from pipecat.frames.frames import (
    Frame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMContextAssistantTurnFrame,
    LLMContextFrame,
    LLMContextUserTurnFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    StartFrame,
    TranscriptionFrame,
)
from pipecat.metrics.metrics import LLMTokenUsage
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallFromLLM, LLMService
from pipecat.services.settings import LLMSettings, is_given
from pipecat.utils.errors import ErrorCategory

from .answer import Called, CallFailed
from .call import Call
from .transcript import Transcript

_SAMPLING = (
    "temperature",
    "max_tokens",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
)


class LiveMindLLMService(LLMService):
    """One call's language model: one LiveMind session, for one pipeline.

    An interruption ends the running answer, and the next turn is prepared behind what the
    context says was heard of it. An eager end of turn that is withdrawn and comes back with the
    same words reads the same answer.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000``.
        model: an expert id, or ``auto`` = routed.
        api_key: the server's, if it wants one.
        settings: instructions and sampling; they may be changed while the pipeline runs.
        session: further options of the session in the names of ``session.update``:
            ``speculation``, ``retrieval``, …
        given: what the framework's ``LLMService`` takes.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        model: str = "auto",
        api_key: str | None = None,
        settings: LLMSettings | None = None,
        session: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> None:
        everything = LLMSettings(
            model=model,
            system_instruction=None,
            filter_incomplete_user_turns=False,
            user_turn_completion_config=None,
            **dict.fromkeys(_SAMPLING),
        )
        if settings is not None:
            everything.apply_update(settings)
        super().__init__(settings=everything, **given)
        sampling = self._sampling()
        options = {"model": model, **({"sampling": sampling} if sampling else {})}
        self.call = Call(url, api_key=api_key, session={**options, **(session or {})})
        self._context: LLMContext | None = None

    def can_generate_metrics(self) -> bool:
        """Return True: time to first byte and token counts."""
        return True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer contexts; tell the session how the conversation stands when a turn is over."""
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            if not frame.speculation:
                self._context = frame.context
            await self._respond(frame.context)
            return
        if isinstance(frame, InterruptionFrame | LLMContextAssistantTurnFrame):
            await self._tell()
        await self.push_frame(frame, direction)

    async def run_inference(
        self,
        context: LLMContext,
        max_tokens: int | None = None,
        system_instruction: str | None = None,
        response_schema: dict[str, Any] | None = None,
    ) -> str | None:
        """Return the answer to a context that is not the call's, such as a summary.

        Raises:
            CallFailed: the server refused it or does not answer.
        """
        self._check_response_schema(response_schema)
        messages, _ = await self._asked(context, system_instruction)
        fields = {**self._fields(), **({"max_tokens": max_tokens} if max_tokens else {})}
        return await self.call.ask_aside(messages, **fields)

    async def start(self, frame: StartFrame) -> None:
        """Tell the session its instructions before anybody speaks."""
        await super().start(frame)
        if instructions := self._settings.system_instruction:
            self.call.tell([{"role": "system", "content": instructions}])

    async def cleanup(self) -> None:
        """Close the session."""
        await super().cleanup()
        await self.call.aclose()

    async def _respond(self, context: LLMContext) -> None:
        await self.push_frame(LLMFullResponseStartFrame())
        calls: tuple[Called, ...] = ()
        try:
            await self.start_processing_metrics()
            await self.start_ttfb_metrics()
            messages, tools = await self._asked(context)
            answer = self.call.ask(messages, **self._fields(), **tools)
            async with aclosing(answer.read()) as pieces:
                async for piece in pieces:
                    if piece.text:
                        await self.stop_ttfb_metrics()
                        await self._push_llm_text(piece.text)
                    if piece.usage:
                        await self.start_llm_usage_metrics(_usage(piece.usage))
                    calls = piece.calls or calls
            if calls:
                await self.run_function_calls([_called(call, context) for call in calls])
        except CallFailed as exc:
            await self.push_error(f"LiveMind: {exc}", exc)
        finally:
            await self.stop_processing_metrics()
            await self.push_frame(LLMFullResponseEndFrame())

    async def _tell(self) -> None:
        if self._context is not None:
            messages, _ = await self._asked(self._context)
            self.call.tell(messages)

    async def _asked(
        self, context: LLMContext, system_instruction: str | None = None
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the messages of a context, and the fields about its tools."""
        if system_instruction is None:
            system_instruction = self._settings.system_instruction
        asked = await self.get_llm_adapter().get_llm_invocation_params(
            context, system_instruction=system_instruction, convert_developer_to_user=False
        )
        tools = {name: asked.get(name) for name in ("tools", "tool_choice")}
        given = {
            name: value for name, value in tools.items() if isinstance(value, list | str | dict)
        }
        return list(asked["messages"]), given if given.get("tools") else {}

    def _fields(self) -> dict[str, Any]:
        return {"model": self._settings.model, **self._sampling()}

    def _sampling(self) -> dict[str, Any]:
        values = {name: getattr(self._settings, name) for name in _SAMPLING}
        return {
            name: value for name, value in values.items() if is_given(value) and value is not None
        }

    def _classify_error(self, exception: Exception) -> ErrorCategory | None:
        if not isinstance(exception, CallFailed):
            return None
        if exception.status is None:
            return ErrorCategory.CONNECTIVITY
        known = {
            401: ErrorCategory.AUTHENTICATION,
            403: ErrorCategory.AUTHORIZATION,
            429: ErrorCategory.RATE_LIMIT,
        }
        # A refused conversation says nothing about the next one: the service stays usable.
        other = ErrorCategory.SERVER if exception.status >= 500 else ErrorCategory.APPLICATION
        return known.get(exception.status, other)


class LiveMindPartials(FrameProcessor):
    """Tells the service's session what is heard; stands between recogniser and user aggregator.

    All frames pass unchanged.

    Args:
        service: whose answers are prepared.
        given: what the framework's ``FrameProcessor`` takes.
    """

    def __init__(self, service: LiveMindLLMService, **given: Any) -> None:
        super().__init__(**given)
        self._service = service
        self._transcript = Transcript()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Hear transcriptions, partial and final."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterimTranscriptionFrame | TranscriptionFrame):
            if frame.text.strip():
                final = isinstance(frame, TranscriptionFrame)
                heard = self._transcript.heard(frame.text, final=final)
                self._service.call.hear(heard, final=final)
        elif isinstance(frame, LLMContextUserTurnFrame):
            self._transcript.asked(frame.text)
        await self.push_frame(frame, direction)


def _called(call: Called, context: LLMContext) -> FunctionCallFromLLM:
    """Return a call as the framework runs it; arguments that are no object are none."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = {}
    return FunctionCallFromLLM(
        function_name=call.name,
        tool_call_id=call.call_id,
        arguments=arguments if isinstance(arguments, dict) else {},
        context=context,
    )


def _usage(usage: Mapping[str, Any]) -> LLMTokenUsage:
    details = usage.get("prompt_tokens_details") or {}
    return LLMTokenUsage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        total_tokens=usage["total_tokens"],
        cache_read_input_tokens=details.get("cached_tokens"),
    )
