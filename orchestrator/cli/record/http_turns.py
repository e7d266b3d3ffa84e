"""Follows live sessions over plain HTTP: partial text that is put, and the answer's request. Pure.

A request whose body is followed is fed as it passes: the whole body, the head of the answer, its
pieces, its end.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from ...server.live.session import SESSION_HEADER, STATUS_HEADER
from ...server.openai.answering import EXPERT_HEADER
from .turns import Json, Turn, Turns

MAX_SESSIONS = 1000
"""Followed at a time; the one that was used longest ago is forgotten."""
SESSIONS = "/v1/live/sessions/"
CHAT = "/v1/chat/completions"
Headers = Mapping[str, str]


class Sessions:
    """The sessions that pass, by whose they are and their id: they may be used through two doors.

    Args:
        made: returns the turns of a new one.
    """

    def __init__(self, made: Callable[[], Turns]) -> None:
        self._made = made
        self._kept: OrderedDict[tuple[str, str], Turns] = OrderedDict()

    def of(self, owner: str, session_id: str) -> Turns:
        """Return a session's turns. ``owner``: the request's ``Authorization``."""
        turns = self._kept.pop((owner, session_id), None) or self._made()
        self.keep(owner, session_id, turns)
        return turns

    def keep(self, owner: str, session_id: str, turns: Turns) -> None:
        """Take the turns of a session that is known already."""
        self._kept[(owner, session_id)] = turns
        while len(self._kept) > MAX_SESSIONS:
            self._kept.popitem(last=False)

    def forget(self, owner: str, session_id: str) -> None:
        """A session is over."""
        self._kept.pop((owner, session_id), None)

    def followed(self, method: str, path: str, headers: Headers) -> Followed | None:
        """Return what follows a request; None: nothing of it belongs to a live session."""
        owner = headers.get("Authorization", "")
        named, _, rest = path.removeprefix(SESSIONS).partition("/")
        if path.startswith(SESSIONS) and (method, rest) == ("PUT", "input"):
            return _Put(self, owner, named)
        if path.startswith(SESSIONS) and (method, rest) == ("DELETE", ""):
            self.forget(owner, named)
        if (method, path) == ("POST", CHAT) and (asked := headers.get(SESSION_HEADER)):
            return _Chat(self.of(owner, asked))
        return None


class Followed(ABC):
    """One request, as it passes; times in seconds of the caller's clock."""

    @abstractmethod
    def asked(self, body: bytes, at_s: float) -> None:
        """Take the whole body."""

    @abstractmethod
    def answered(self, status: int, headers: Headers) -> None:
        """Take the head of the answer."""

    @abstractmethod
    def piece(self, piece: bytes, at_s: float) -> None:
        """Take a piece of the answer."""

    @abstractmethod
    def ended(self, at_s: float) -> list[Json]:
        """Return the lines of the turn that ended with the answer."""


class _Put(Followed):
    """A state of the input, which counts once the server has taken it."""

    def __init__(self, sessions: Sessions, owner: str, session_id: str) -> None:
        self._sessions, self._owner, self._id = sessions, owner, session_id
        self._text: object = None
        self._at_s = 0.0

    def asked(self, body: bytes, at_s: float) -> None:
        self._text, self._at_s = _parsed(body).get("text"), at_s

    def answered(self, status: int, headers: Headers) -> None:
        if status not in (200, 201) or not isinstance(self._text, str):
            return
        turns = self._sessions.of(self._owner, self._id)
        turns.typed(self._text, self._at_s) if self._text else turns.cleared()

    def piece(self, piece: bytes, at_s: float) -> None:
        """Nothing: what is said of the input is not recorded."""

    def ended(self, at_s: float) -> list[Json]:
        return []


class _Chat(Followed):
    """The question of a session and its answer, streamed or whole."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._turn: Turn | None = None
        self._at_s = 0.0
        self._text: str | None = None
        self._streams = False
        self._read = bytearray()
        self._told: dict[str, Any] = {}
        self._finished = False

    def asked(self, body: bytes, at_s: float) -> None:
        self._at_s = at_s
        said = _parsed(body).get("messages")
        last = said[-1] if isinstance(said, list) and said else None
        if isinstance(last, dict) and last.get("role") == "user":
            self._text = _text_of(last.get("content"))

    def answered(self, status: int, headers: Headers) -> None:
        adopted = headers.get(STATUS_HEADER) == "adopted"
        if status != 200 or not adopted or self._text is None or "Content-Encoding" in headers:
            return
        self._turn = self._turns.committed(self._text, self._at_s)
        self._streams = "event-stream" in headers.get("Content-Type", "")
        self._told["expert"] = headers.get(EXPERT_HEADER)
        times = ("TTFT-Ms", "ttft_ms"), ("TTFT-Without-Ms", "estimated_ttft_ms_without")
        given = {name: headers.get(f"X-LiveMind-{header}") for header, name in times}
        self._told["timings"] = {name: float(ms) for name, ms in given.items() if ms is not None}

    def piece(self, piece: bytes, at_s: float) -> None:
        if self._turn is None:
            return
        self._read += piece
        if not self._streams:
            return
        *whole, rest = self._read.split(b"\n")
        self._read = bytearray(rest)
        for line in whole:
            if line.startswith(b"data:"):
                self._saw(_parsed(line[5:]), at_s)

    def ended(self, at_s: float) -> list[Json]:
        if self._turn is None:
            return []
        if not self._streams:
            self._saw(_parsed(self._read), at_s)
        return self._turns.lines(self._turn, self._told) if self._finished else []

    def _saw(self, told: Mapping[str, Any], at_s: float) -> None:
        """Take a chunk, or the whole answer: then this is when its client has the first word."""
        assert self._turn is not None
        match told:
            case {"choices": [{"delta": {"content": str(text)}}, *_]} if text:
                self._turn.answered(at_s)
            case {"choices": [{"message": {"content": str(text)}}, *_]} if text:
                self._turn.answered(at_s)
        match told:
            case {"choices": [{"finish_reason": str()}, *_]}:
                self._finished = True
        own = told.get("livemind")
        self._told |= own if isinstance(own, dict) else {}
        if isinstance(told.get("usage"), dict):
            self._told["usage"] = told["usage"]


def _text_of(content: object) -> str | None:
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "\n".join(str(part.get("text", "")) for part in parts)
    return content if isinstance(content, str) else None


def _parsed(body: bytes | bytearray) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
