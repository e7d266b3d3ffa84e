"""LiveMind as the LLM of a LiveKit Agents session: it hears the transcript while the user speaks.

``LiveMindLLM.follow`` listens to the session's events; the answers come through the framework's own
LLM interface. Versions: ``livekit-agents`` 1.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    APIStatusError,
    APITimeoutError,
    llm,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import is_given
from livekit.agents.voice import (
    AgentSession,
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    UserInputTranscribedEvent,
)

from .answer import CallFailed, Piece
from .call import Call
from .transcript import Transcript


class LiveMindLLM(llm.LLM):
    """One call's language model: one LiveMind session, for one ``AgentSession``.

    A preemptive generation is a question like any other: if the framework drops it and asks the
    same again, it reads the same answer. An interruption ends the running answer, and the next
    turn is prepared behind what was heard of it.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000``.
        model: an expert id, or ``auto`` = routed.
        api_key: the server's, if it wants one.
        sampling: ``max_tokens``, ``temperature``, … of every answer.
        session: further options of the session in the names of ``session.update``:
            ``speculation``, ``retrieval``, …
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        model: str = "auto",
        api_key: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        session: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._model = model
        self._sampling = dict(sampling or {})
        options = {"model": model, **({"sampling": self._sampling} if sampling else {})}
        self.call = Call(url, api_key=api_key, session={**options, **(session or {})})
        self._transcript = Transcript()
        self._followed: AgentSession[Any] | None = None

    @property
    def model(self) -> str:
        """The expert's id, or ``auto``."""
        return self._model

    @property
    def provider(self) -> str:
        """``livemind``."""
        return "livemind"

    def follow(self, session: AgentSession[Any]) -> None:
        """Prepare the answers of this session from its partial transcripts, from now on.

        Raises:
            ValueError: it follows another session.
        """
        if self._followed is not None:
            raise ValueError("this LLM follows a session already; make one for each call")
        self._followed = session
        session.on("user_input_transcribed", self._on_transcribed)
        session.on("conversation_item_added", self._on_item_added)
        session.on("agent_state_changed", self._on_agent_state)

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> LiveMindStream:
        """Return the answer to a conversation as the framework's stream of chunks.

        Args:
            chat_ctx: the conversation; it decides, whatever the session has heard.
            tools: functions that the answer may call.
            conn_options: ``timeout`` is the longest wait for the first text, seconds.
            parallel_tool_calls: whether it may call several.
            tool_choice: whether it has to.
            extra_kwargs: further fields of the request.
        """
        fields: dict[str, Any] = {"model": self._model, **self._sampling}
        if tools:
            fields["tools"] = llm.ToolContext(tools).parse_function_tools("openai")
            if is_given(parallel_tool_calls):
                fields["parallel_tool_calls"] = parallel_tool_calls
            if is_given(tool_choice):
                fields["tool_choice"] = tool_choice
        if is_given(extra_kwargs):
            fields.update(extra_kwargs)
        return LiveMindStream(
            self, fields, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options
        )

    async def aclose(self) -> None:
        """Stop following, close the session."""
        if self._followed is not None:
            self._followed.off("user_input_transcribed", self._on_transcribed)
            self._followed.off("conversation_item_added", self._on_item_added)
            self._followed.off("agent_state_changed", self._on_agent_state)
            self._followed = None
        await self.call.aclose()
        await super().aclose()

    def _on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        if event.transcript.strip():
            heard = self._transcript.heard(event.transcript, final=event.is_final)
            self.call.hear(heard, final=event.is_final)

    def _on_item_added(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if isinstance(item, llm.ChatMessage) and item.role == "user":
            self._transcript.asked(item.raw_text_content or "")

    def _on_agent_state(self, event: AgentStateChangedEvent) -> None:
        if event.new_state == "listening" and self._followed is not None:
            self.call.tell(_messages(self._followed.current_agent.chat_ctx))


class LiveMindStream(llm.LLMStream):
    """One answer, as the framework reads it."""

    def __init__(
        self,
        owner: LiveMindLLM,
        fields: dict[str, Any],
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
    ) -> None:
        self._call = owner.call
        self._fields = fields
        super().__init__(owner, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)

    async def _run(self) -> None:
        begun = False
        try:
            answer = self._call.ask(_messages(self._chat_ctx), **self._fields)
            async with (
                asyncio.timeout(self._conn_options.timeout or None) as limit,
                aclosing(answer.read()) as pieces,
            ):
                async for piece in pieces:
                    limit.reschedule(None)
                    begun = True
                    self._event_ch.send_nowait(_chunk(piece))
        except TimeoutError:
            raise APITimeoutError(retryable=not begun) from None
        except CallFailed as exc:
            retryable = exc.retryable and not begun
            if exc.status is None:
                raise APIConnectionError(str(exc), retryable=retryable) from exc
            raise APIStatusError(
                str(exc), status_code=exc.status, body=exc.code, retryable=retryable
            ) from exc


def _messages(chat_ctx: llm.ChatContext) -> list[dict[str, Any]]:
    """Return a conversation in the names of ``/v1/chat/completions``, without empty messages."""
    messages, _ = chat_ctx.to_provider_format(format="openai")
    return [
        {name: value for name, value in message.items() if name != "extra_content"}
        for message in messages
        if message.get("content") or "tool_calls" in message
    ]


def _chunk(piece: Piece) -> llm.ChatChunk:
    chunk = llm.ChatChunk(id=piece.response_id)
    if piece.text:
        chunk.delta = llm.ChoiceDelta(role="assistant", content=piece.text)
    if piece.calls:
        calls = [
            llm.FunctionToolCall(name=call.name, arguments=call.arguments, call_id=call.call_id)
            for call in piece.calls
        ]
        chunk.delta = llm.ChoiceDelta(role="assistant", tool_calls=calls)
    if piece.usage:
        details = piece.usage.get("prompt_tokens_details") or {}
        chunk.usage = llm.CompletionUsage(
            completion_tokens=piece.usage["completion_tokens"],
            prompt_tokens=piece.usage["prompt_tokens"],
            prompt_cached_tokens=details.get("cached_tokens") or 0,
            total_tokens=piece.usage["total_tokens"],
        )
    return chunk
