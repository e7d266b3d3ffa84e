"""Recorded speech for headless calls, and what is known of a call when it is over.

A call goes in threes: an answer is heard to its end, the next is interrupted by the third question.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import livemind

DATA = Path(livemind.__file__).parent / "benchmarks" / "data"
FILES = ("pocketsphinx", "whisper_tiny_en", "synthetic_es")


@dataclass(frozen=True)
class Utterance:
    """What a recogniser sent: (ms since the first sample, whole text so far), and the final one."""

    partials: tuple[tuple[float, str], ...]
    final: str
    final_ms: float


def utterances(name: str) -> list[Utterance]:
    """Return the utterances of one recording, in order."""
    found: list[Utterance] = []
    partials: list[tuple[float, str]] = []
    for line in (DATA / f"speech_partials_{name}.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["final"]:
            found.append(Utterance(tuple(partials), row["text"], row["t_ms"]))
            partials = []
        else:
            partials.append((row["t_ms"], row["text"]))
    return [said for said in found if said.final.strip()]


def script(turns: int) -> list[Utterance]:
    """Return this many utterances, the recognisers in turn."""
    spoken: Iterator[list[Utterance]] = cycle(utterances(name) for name in FILES)
    lists = list(islice(spoken, len(FILES)))
    return [lists[turn % len(lists)][turn // 3 % len(lists[turn % len(lists)])]
            for turn in range(turns)]  # fmt: skip


BARGE_IN_AFTER_S = 0.15


def barge_in_after_s(turn: int) -> float | None:
    """How long after its first word the answer to this turn is interrupted; None = not."""
    return BARGE_IN_AFTER_S if turn % 3 == 1 else None


def words(text: str) -> tuple[str, ...]:
    """Return what was said, whatever its writing."""
    return tuple(re.findall(r"\w+", text.casefold()))


@dataclass
class Record:
    """One call: what was said and heard, in order, and how long the first words took."""

    history: list[tuple[str, str]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    ttft_ms: list[float] = field(default_factory=list)
    silent: int = 0
    interrupted: int = 0

    @property
    def answers(self) -> list[str]:
        """What the framework's history says was heard."""
        return [text for role, text in self.history if role == "assistant"]

    def not_asked_so(
        self, instructions: str, asked: list[tuple[tuple[str, str], ...]]
    ) -> list[str]:
        """Return the questions that the expert did not get behind exactly this history.

        The question itself may have been written otherwise: a draft for the same words counts.
        """
        seen = {(messages[:-1], words(messages[-1][1])) for messages in asked}
        return [
            text
            for place, (role, text) in enumerate(self.history)
            if role == "user"
            and ((("system", instructions), *self.history[:place]), words(text)) not in seen
        ]

    @property
    def p50_ms(self) -> float:
        """The middle wait."""
        return median(self.ttft_ms)


async def paced(said: Utterance, speed: float) -> AsyncIterator[tuple[str, bool]]:
    """Yield (text, is it final) at the recorded times, ``speed`` times as fast."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for at_ms, text in said.partials:
        await asyncio.sleep(began + at_ms / 1000 / speed - loop.time())
        yield text, False
    await asyncio.sleep(began + said.final_ms / 1000 / speed - loop.time())
    yield said.final, True
