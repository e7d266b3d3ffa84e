"""Conversations through each door, with the same turns: what differs between arms is only here.

A door opens a conversation and answers its turns one by one. Documents stand before the first
question and stay in the history after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec.structs import replace

from ...backends.base import GenerationParams, Message, Priority
from ...backends.errors import ExpertError
from ...orchestrator.errors import LiveMindError
from ...orchestrator.turn.prompt import render_documents
from ..figures.answer import Answer, ArmFailure, reported
from . import wire
from .client import Client
from .wire import Said

if TYPE_CHECKING:
    from ...backends.base import Expert

ColdCache = Literal["cache_salt", "first_line"]
DocumentsIn = Literal["field", "role", "text"]
"""Where a request has its documents: a field of its own, a message of LiveMind's role, the text."""


class Talk(Protocol):
    """One conversation. After a turn that is not completed no other may follow."""

    async def turn(self, said: Said) -> Answer:
        """Ask; never raises but on cancel."""
        ...


class Door(Protocol):
    """A way in."""

    @property
    def cold_cache(self) -> ColdCache:
        """How a conversation is kept from finding another one's prefix."""
        ...

    def conversation(self, ask: wire.Ask) -> AbstractAsyncContextManager[Talk]:
        """Open a conversation."""
        ...


class History:
    """The messages of a conversation whose server keeps none."""

    def __init__(self, ask: wire.Ask, documents_in: DocumentsIn) -> None:
        self._ask = ask
        self._documents_in = documents_in
        self._turns: list[tuple[str, str]] = []

    def messages(self, text: str, first_line: str = "") -> list[dict[str, str]]:
        """Return the request's messages for the next question."""
        instructions = self._ask.instructions
        found = [_message("system", instructions)] if instructions else []
        place = len(found)
        for question, answer in self._turns:
            found += [_message("user", question), _message("assistant", answer)]
        found.append(_message("user", text))
        opening = first_line
        if self._ask.documents and self._documents_in == "role":
            found.insert(place, _message("documents", render_documents(self._ask.documents)))
        elif self._ask.documents and (self._documents_in == "text" or self._turns):
            opening += f"{render_documents(self._ask.documents)}\n\n"
        found[place]["content"] = opening + found[place]["content"]
        return found

    def documents(self) -> tuple[str, ...]:
        """Return what belongs into the request's own field for documents."""
        return self._ask.documents if self._documents_in == "field" and not self._turns else ()

    def answered(self, question: str, answer: str) -> None:
        """Go on to the next turn."""
        self._turns.append((question, answer))


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@dataclass(frozen=True, slots=True)
class ChatDoor:
    """A chat endpoint, everything sent at the end.

    Attributes:
        documents_in: ``field``: LiveMind's. ``role``: vLLM with an expert of ours: its cache has
            salts, its chat template the documents role, so that the prompt is the other arms' to
            the token. ``text``: any OpenAI-compatible server, by the standard protocol alone:
            documents stand in the question and every conversation begins with a line of its own.
    """

    client: Client
    documents_in: DocumentsIn = "field"

    @property
    def cold_cache(self) -> ColdCache:
        """How a conversation is kept from finding another one's prefix."""
        return "first_line" if self.documents_in == "text" else "cache_salt"

    @asynccontextmanager
    async def conversation(self, ask: wire.Ask) -> AsyncGenerator[Talk, None]:
        """Open a conversation."""
        yield _ChatTalk(self, ask)


class _ChatTalk:
    def __init__(self, door: ChatDoor, ask: wire.Ask) -> None:
        self._door, self._ask = door, ask
        self._history = History(ask, door.documents_in)

    async def turn(self, said: Said) -> Answer:
        await _wait(said)
        line = f"({self._ask.salt})\n" if self._door.cold_cache == "first_line" else ""
        messages = self._history.messages(said.text, line)
        if self._door.documents_in == "field":
            body = wire.chat_body(self._ask, messages, self._history.documents())
        else:
            body = wire.openai_body(self._ask, messages)
        if self._door.documents_in == "role":
            body["cache_salt"] = self._ask.salt
        answer = await self._door.client.chat(body)
        self._history.answered(said.text, answer.text)
        return answer


@dataclass(frozen=True, slots=True)
class LiveDoor:
    """LiveMind's live socket: the text is sent as it comes into being."""

    client: Client
    cold_cache: ColdCache = "cache_salt"

    def conversation(self, ask: wire.Ask) -> AbstractAsyncContextManager[Talk]:
        """Open a session."""
        return self.client.live(ask)


@dataclass(frozen=True, slots=True)
class BareDoor:
    """Engines of this process, without any server: the least that a request at the end can cost.

    Attributes:
        experts: started, by the name under which they are asked.
        timeout_s: longest wait for an answer.
    """

    experts: Mapping[str, Expert]
    timeout_s: float = 60.0
    cold_cache: ColdCache = "cache_salt"

    @asynccontextmanager
    async def conversation(self, ask: wire.Ask) -> AsyncGenerator[Talk, None]:
        """Open a conversation."""
        yield _BareTalk(self.experts[ask.model], ask, self.timeout_s)


class _BareTalk:
    def __init__(self, expert: Expert, ask: wire.Ask, timeout_s: float) -> None:
        self._expert, self._ask, self._timeout_s = expert, ask, timeout_s
        self._params = GenerationParams(
            max_tokens=ask.max_tokens,
            temperature=0.0,
            ignore_eos=ask.ignore_eos,
            logprobs=wire.TOP_LOGPROBS if ask.logprobs else None,
        )
        self._messages: tuple[Message, ...] = ()
        if ask.instructions:
            self._messages = (Message("system", ask.instructions),)
        if ask.documents:
            self._messages += (Message("documents", render_documents(ask.documents)),)
        self._asked = 0

    async def turn(self, said: Said) -> Answer:
        await _wait(said)
        answer = Answer(expert=self._expert.expert_id)
        asked = (*self._messages, Message("user", said.text.rstrip()))
        if said.late_documents:
            first = len(self._ask.documents) + 1
            asked += (Message("documents", render_documents(said.late_documents, first)),)
        self._asked += 1
        async with reported(answer), asyncio.timeout(self._timeout_s):
            try:
                await self._generate(asked, answer)
            except ExpertError as exc:
                raise ArmFailure("failed", str(exc)) from exc
        self._messages = (*asked, Message("assistant", answer.text))
        return answer

    async def _generate(self, messages: Sequence[Message], answer: Answer) -> None:
        answer.committed_s = perf_counter()
        prompt = self._expert.render(messages, open_turn=False)
        prompt = replace(prompt, cache_salt=self._ask.salt)
        stream = self._expert.generate(
            prompt,
            self._params,
            priority=Priority.FOREGROUND,
            request_id=f"bench-{self._ask.salt}-{self._asked}",
        )
        async with aclosing(stream):
            async for chunk in stream:
                at_s = perf_counter()
                answer.take_chunk(at_s, chunk)
                if chunk.usage is not None:
                    answer.prompt_tokens = chunk.usage.prompt_tokens
                    answer.cached_tokens = chunk.usage.cached_tokens
                    answer.completion_tokens = chunk.usage.completion_tokens


async def _wait(said: Said) -> None:
    """Wait while the user types for a server that does not look."""
    if said.paced and said.keys:
        await asyncio.sleep(said.keys[-1].at_s + said.think_s)


UNREACHABLE = (LiveMindError, OSError)
"""What opening a conversation may raise."""
