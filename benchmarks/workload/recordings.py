"""Recorded partial transcripts: what a recogniser sent while somebody spoke, and when.

One JSON object a line: ``id`` of the utterance, ``t_ms`` since its first sample, ``text`` (the
whole hypothesis so far), ``final``. The lines of an utterance stand together in the order of time,
and the last one is its final transcript, which may add ``audio_ms``, ``said`` and ``voice``, or the
figures of its ``turn`` as ``livemind record`` writes them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ..bench import UsageError
from .conversations import Conversation
from .json_lines import read_lines
from .typing_model import Key

MAX_CHARS = 100_000
MAX_MS = 3_600_000
_DATA = Path(__file__).parents[1] / "data"
BUNDLED = {
    "whisper": _DATA / "speech_partials_whisper_tiny_en.jsonl",
    "pocketsphinx": _DATA / "speech_partials_pocketsphinx.jsonl",
    "es": _DATA / "speech_partials_synthetic_es.jsonl",
}
"""Name -> recording that comes along; benchmarks/data/README.md says what each is."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One thing that was said.

    Attributes:
        partials: each the whole hypothesis so far, as it was sent: nothing added to its end.
        text: the final transcript.
        silence_s: from the last partial to the final transcript.
    """

    id: str
    partials: tuple[Key, ...]
    text: str
    silence_s: float


@dataclass(frozen=True, slots=True)
class Recording:
    """The utterances of one file, in its order. ``name`` is what cases and summaries call it."""

    name: str
    utterances: tuple[Utterance, ...]

    def taken(self, count: int, seed: int) -> Recording:
        """Return ``count`` utterances: drawn by the seed, in order; round and round for more."""
        rounds, rest = divmod(count, len(self.utterances))
        rng = random.Random(f"{self.name}|{seed}")
        drawn = sorted(rng.sample(range(len(self.utterances)), rest))
        some = tuple(self.utterances[place] for place in drawn)
        return replace(self, utterances=self.utterances * rounds + some)

    def utterance(self, number: int) -> Utterance:
        """Return an utterance; after the last one comes the first again."""
        return self.utterances[number % len(self.utterances)]

    def conversation(self, index: int, turns: int) -> Conversation:
        """Return conversation ``index``: the next ``turns`` utterances as they were understood."""
        numbers = range(index * turns, (index + 1) * turns)
        return Conversation(tuple(self.utterance(number).text for number in numbers))


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: str = Field(min_length=1, max_length=200)
    t_ms: float = Field(ge=0, le=MAX_MS, allow_inf_nan=False)
    text: str = Field(max_length=MAX_CHARS)
    final: bool
    audio_ms: float | None = Field(None, ge=0, le=MAX_MS, allow_inf_nan=False)
    said: str | None = Field(None, max_length=MAX_CHARS)
    voice: str | None = Field(None, max_length=200)
    turn: dict[str, str | float | None] | None = Field(None, max_length=32)


def is_recording(cadence: str) -> bool:
    """Whether a cadence names a recording: one that comes along, or a file."""
    return cadence in BUNDLED or cadence.endswith(".jsonl")


def read_recording(cadence: str) -> Recording:
    """Return the recording that a cadence names.

    Raises:
        UsageError: naming file, line and field; or there is no utterance.
    """
    file = BUNDLED.get(cadence, Path(cadence))
    name = cadence if cadence in BUNDLED else re.sub(r"[^a-z0-9]+", "_", file.stem.lower())
    read = read_lines("--cadence", file, _Line, "utterance")
    return Recording(name, tuple(_utterances(read)))


def _utterances(read: Sequence[tuple[str, _Line]]) -> Iterable[Utterance]:
    seen: set[str] = set()
    for name, group in groupby(read, key=lambda one: one[1].id):
        lines = list(group)
        where, last = lines[-1]
        if name in seen:
            raise UsageError(f"{lines[0][0]}: id: {name!r} stands in two places, need one")
        seen.add(name)
        if not last.final:
            raise UsageError(f"{where}: final: the last line of {name!r} must be true")
        if not last.text.strip():
            raise UsageError(f"{where}: text: the final transcript of {name!r} is blank")
        before = 0.0
        for place, line in lines:
            if line.final and line is not last:
                raise UsageError(f"{place}: final: true before the last line of {name!r}")
            if line.t_ms < before:
                raise UsageError(f"{place}: t_ms: got {line.t_ms:g} after {before:g}")
            before = line.t_ms
        partials = tuple(
            Key(line.t_ms / 1000.0, line.text, replaces=True) for _, line in lines[:-1]
        )
        spoken_s = partials[-1].at_s if partials else 0.0
        yield Utterance(name, partials, last.text, last.t_ms / 1000.0 - spoken_s)
