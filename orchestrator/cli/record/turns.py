"""Turns as they pass, whichever door they come through: from texts to lines of a recording. Pure.

A recording is what ``livemind bench ttft --cadence FILE`` and ``livemind replay`` read: one line
per state of the input, the last of a turn with what became of it.
"""

from __future__ import annotations

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
class Turn:
    """One input; times in seconds of the caller's clock."""

    began_s: float
    states: list[tuple[float, str]] = field(default_factory=list)
    chars: int = 0
    text: str = ""
    commit_s: float = 0.0
    first_s: float | None = None

    def answered(self, at_s: float) -> None:
        """Note that a piece of the answer's text came."""
        if self.first_s is None:
            self.first_s = at_s


class Turns:
    """What is typed in one session, and the lines of its turns.

    Args:
        name: unique in the file; ids begin with it.
        texts: write texts down; otherwise stand-ins of the same lengths.

    Attributes:
        text: the input as it stands.
    """

    def __init__(self, name: str, *, texts: bool) -> None:
        self.text = ""
        self._name = name
        self._texts = texts
        self._typing: Turn | None = None
        self._number = 0

    def typed(self, text: str, at_s: float) -> None:
        """Take the whole input as it stands now."""
        if self._typing is None:
            self._typing = Turn(at_s)
        self.text = text
        self._typing.chars += len(text) + 1
        if self._typing.chars <= MAX_CHARS:
            self._typing.states.append((at_s, text))

    def cleared(self) -> None:
        """Forget the input; the next one begins anew."""
        self._typing, self.text = None, ""

    def committed(self, text: str | None, at_s: float) -> Turn:
        """Return the turn that is asked now; ``text`` None: what was typed."""
        turn = self._typing or Turn(at_s)
        turn.text = self.text if text is None else text
        turn.commit_s = at_s
        self.cleared()
        return turn

    def lines(self, turn: Turn, told: Mapping[str, Any]) -> list[Json]:
        """Return the lines of a turn that was answered; none of one that cannot be replayed.

        Args:
            turn: of this session.
            told: fields of the live protocol's ``response.done``, as far as they are known.
        """
        if (turn.commit_s - turn.began_s) * 1000 > MAX_MS or not turn.text.strip():
            return []
        self._number += 1
        shown = (lambda text: text) if self._texts else Mask()
        name = f"{self._name}-{self._number}"

        def line(at_s: float, text: str, *, final: bool) -> Json:
            t_ms = round((at_s - turn.began_s) * 1000, 1)
            return {"id": name, "t_ms": t_ms, "text": shown(text), "final": final}

        lines = [line(at_s, text, final=False) for at_s, text in turn.states]
        last = line(turn.commit_s, turn.text, final=True)
        return [*lines, {**last, "turn": _figures(turn, told)}]


def _figures(turn: Turn, told: Mapping[str, Any]) -> Json:
    timings, ledger, usage = (told.get(name) or {} for name in ("timings", "ledger", "usage"))
    waited = None if turn.first_s is None else round((turn.first_s - turn.commit_s) * 1000, 2)
    return {
        "expert": told.get("expert"),
        "ttft_ms": waited,
        "server_ttft_ms": timings.get("ttft_ms"),
        "estimated_ttft_ms_without": timings.get("estimated_ttft_ms_without"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "draft_tokens_adopted": ledger.get("draft_adopted"),
        "tokens_wasted": (
            ledger.get("prefill_wasted", 0) + ledger.get("draft_wasted", 0) if ledger else None
        ),
    }
