"""Turns as they pass: from frames and events of one live session to lines of a recording. Pure.

A recording is what ``livemind bench ttft --cadence FILE`` and ``livemind replay`` read: one line
per state of the input, the last of a turn with what became of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

MAX_MS = 3_600_000
MAX_CHARS = 2_000_000
"""Of all states of one turn together; what is typed behind them is in the final text alone."""
STAND_IN = "thequickbrownfoxjumpsoverthelazydogwhilerainfallsonquietroofs"

Json = dict[str, Any]


class Mask:
    """Hides a text as it grows: other letters, the same lengths and blanks.

    What two states of the input share stays shared, what an edit changed is another text.
    """

    def __init__(self) -> None:
        self._letters = cycle(STAND_IN)
        self._text = self._hidden = ""

    def __call__(self, text: str) -> str:
        """Return what stands for the text, given what stood for the one before."""
        same = _shared(self._text, text)
        rest = "".join(c if c.isspace() else next(self._letters) for c in text[same:])
        self._text, self._hidden = text, self._hidden[:same] + rest
        return self._hidden


def _shared(a: str, b: str) -> int:
    """Return how many characters two texts begin with alike."""
    if b.startswith(a):
        return len(a)
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(b))


@dataclass(slots=True)
class _Turn:
    """One input; times in seconds of the caller's clock."""

    began_s: float
    states: list[tuple[float, str]] = field(default_factory=list)
    chars: int = 0
    text: str = ""
    revision: int = 0
    commit_s: float = 0.0
    first_s: float | None = None
    response_id: str | None = None


class SessionTurns:
    """Follows one live session.

    Args:
        name: unique in the file; ids begin with it.
        texts: write texts down; otherwise stand-ins of the same lengths.
    """

    def __init__(self, name: str, *, texts: bool) -> None:
        self._name = name
        self._texts = texts
        self._typing: _Turn | None = None
        self._text = ""
        self._revision = 0
        self._number = 0
        self._waiting: deque[_Turn] = deque()

    def sent(self, frame: Mapping[str, Any], at_s: float) -> None:
        """Take a frame of the client."""
        match frame:
            case {"type": "input_text.append", "text": str(text)}:
                self._typed(self._text + text, frame, at_s)
            case {"type": "input_text.replace", "text": str(text)}:
                self._typed(text, frame, at_s)
            case {"type": "input_text.clear"}:
                self._revision += 1
                self._typing, self._text = None, ""
            case {"type": "input_text.commit"}:
                self._committed(frame, at_s)

    def received(self, event: Mapping[str, Any], at_s: float) -> list[Json]:
        """Take an event of the server; return the lines of a turn that ended with it."""
        match event:
            case {"type": "response.created", "response_id": response_id, "revision": revision}:
                for turn in self._waiting:
                    if turn.revision == revision:
                        turn.response_id = response_id
            case {"type": "response.output_text.delta", "response_id": response_id}:
                for turn in self._waiting:
                    if turn.response_id == response_id and turn.first_s is None:
                        turn.first_s = at_s
            case {"type": "response.done", "revision": revision}:
                return self._ended(event, revision)
        return []

    def _typed(self, text: str, frame: Mapping[str, Any], at_s: float) -> None:
        self._count(frame)
        if self._typing is None:
            self._typing = _Turn(at_s)
        self._text = text
        self._typing.chars += len(text) + 1
        if self._typing.chars <= MAX_CHARS:
            self._typing.states.append((at_s, text))

    def _committed(self, frame: Mapping[str, Any], at_s: float) -> None:
        self._count(frame)
        turn = self._typing or _Turn(at_s)
        given = frame.get("text")
        turn.text = given if isinstance(given, str) else self._text
        turn.revision, turn.commit_s = self._revision, at_s
        self._typing, self._text = None, ""
        self._waiting.append(turn)

    def _count(self, frame: Mapping[str, Any]) -> None:
        given = frame.get("revision")
        self._revision = given if isinstance(given, int) else self._revision + 1

    def _ended(self, event: Mapping[str, Any], revision: int) -> list[Json]:
        while self._waiting and self._waiting[0].revision < revision:
            self._waiting.popleft()  # the server refused that commit
        if not self._waiting or self._waiting[0].revision != revision:
            return []
        turn = self._waiting.popleft()
        too_long = (turn.commit_s - turn.began_s) * 1000 > MAX_MS
        if too_long or event.get("status") != "completed" or not turn.text.strip():
            return []
        self._number += 1
        return self._lines(turn, event)

    def _lines(self, turn: _Turn, event: Mapping[str, Any]) -> list[Json]:
        shown = (lambda text: text) if self._texts else Mask()
        name = f"{self._name}-{self._number}"

        def line(at_s: float, text: str, *, final: bool) -> Json:
            t_ms = round((at_s - turn.began_s) * 1000, 1)
            return {"id": name, "t_ms": t_ms, "text": shown(text), "final": final}

        lines = [line(at_s, text, final=False) for at_s, text in turn.states]
        last = line(turn.commit_s, turn.text, final=True)
        return [*lines, {**last, "turn": _figures(turn, event)}]


def _figures(turn: _Turn, event: Mapping[str, Any]) -> Json:
    timings, ledger, usage = (event.get(name) or {} for name in ("timings", "ledger", "usage"))
    waited = None if turn.first_s is None else round((turn.first_s - turn.commit_s) * 1000, 2)
    return {
        "expert": event.get("expert"),
        "ttft_ms": waited,
        "server_ttft_ms": timings.get("ttft_ms"),
        "estimated_ttft_ms_without": timings.get("estimated_ttft_ms_without"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "draft_tokens_adopted": ledger.get("draft_adopted"),
        "tokens_wasted": ledger.get("prefill_wasted", 0) + ledger.get("draft_wasted", 0),
    }
