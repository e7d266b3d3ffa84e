"""Plays one recorded turn: live, key by key, and the same text at once, each on a cold cache."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from ...orchestrator.client.client import LiveClient
from ...orchestrator.client.options import LiveOptions
from ...orchestrator.errors import LiveMindError
from ...orchestrator.events import ResponseDone, ResponseTextDelta
from ..workload.recordings import Utterance

Arm = Literal["live", "at_once"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What one arm made of one turn; ``ttft_ms``: from the commit leaving this client."""

    ttft_ms: float | None
    text: str
    done: ResponseDone | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Player:
    """How turns are asked.

    Attributes:
        model: expert id or ``auto``.
        max_tokens: of an answer.
        speed: factor on the recorded pace; 2 = twice as fast.
    """

    client: LiveClient
    model: str = "auto"
    max_tokens: int = 64
    speed: float = 1.0

    async def play(self, turn: Utterance, arm: Arm) -> Asked:
        """Ask a turn. What the server refuses or breaks is told, not raised."""
        options = LiveOptions(
            model=self.model,
            cache_salt=secrets.token_hex(8),  # nobody else has prepared anything of it
            sampling={"max_tokens": self.max_tokens, "temperature": 0.0},
        )
        if arm == "at_once":
            options["speculation"] = "off"
        try:
            return await self._ask(turn, arm, options)
        except LiveMindError as exc:
            return Asked(None, "", None, exc.message)

    async def _ask(self, turn: Utterance, arm: Arm, options: LiveOptions) -> Asked:
        first_s, text, done = None, "", None
        async with self.client.session(**options) as session:
            if arm == "live":
                began_s = perf_counter()
                for key in turn.partials:
                    await _until(began_s + key.at_s / self.speed)
                    session.replace(key.text)
                last_s = turn.partials[-1].at_s if turn.partials else 0.0
                await _until(began_s + (last_s + turn.silence_s) / self.speed)
            answer = session.commit(turn.text)
            async for event in answer:
                if isinstance(event, ResponseTextDelta):
                    first_s = first_s or perf_counter()
                    text += event.delta
                elif isinstance(event, ResponseDone):
                    done = event
        if done is None or done.status != "completed" or first_s is None:
            why = done.error.message if done is not None and done.error else "no answer"
            return Asked(None, text, done, why)
        assert answer.committed_s is not None
        return Asked((first_s - answer.committed_s) * 1000, text, done)


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - perf_counter()))
