"""A question typed into the product: planner, documents and queue of retrievals, on a clock.

Only the typist and the passages are played: words come three a second, each with the space behind
it, the commit with the last one; a retrieval takes the same time always. What is asked, waits,
freezes, is given up and shown is decided by ``orchestrator/turn/planner.py`` and ``retrievals.py``.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from msgspec.structs import replace

from ...orchestrator.turn import lookahead, planner
from ...orchestrator.turn.passages import documents
from ...orchestrator.turn.passages.documents import Consistency
from ...orchestrator.turn.prompt import Context
from ...orchestrator.turn.retrievals import Retrievals
from ...orchestrator.turn.values import Policy, Retrieve, SetTimer, Step, TurnState
from ...rag.base import Passage, RetrievalResult
from .early import WORDS_PER_S, Results, prefix

POLICY = Policy(mode="prefill", pinned="expert", retrieval=True, input_kind="typed")


@dataclass(frozen=True, slots=True)
class Played:
    """One question.

    Attributes:
        settled: at the end of the input documents stood before the text, and the best passage of
            the whole question was among them.
        frozen: what stood there, or the final result if nothing did.
        shown: what the answer gets.
        came_back: number of words of the texts whose passages came back while typing.
        sent: retrievals that were begun while typing.
        wasted: those of them that did not change which documents stand before the text.
        tail_words: words typed after the documents came to stand as they did, None = never.
    """

    settled: bool
    frozen: tuple[Passage, ...]
    shown: tuple[Passage, ...]
    came_back: tuple[int, ...]
    sent: int
    wasted: int
    tail_words: float | None


def play(
    text: str,
    results: Results,
    latency_s: float,
    ms_per_token: float,
    consistency: Consistency = "final",
) -> Played:
    """Type ``text`` against a retrieval that takes ``latency_s``.

    Args:
        text: the question.
        results: by number of words; the last number is all of them.
        latency_s: of every retrieval; what takes longer than its deadline finds nothing.
        ms_per_token: what computing a document's token costs an expert.
        consistency: whose documents the answer gets.
    """
    words = len(text.split())
    asked = {lookahead.query(prefix(text, number)): number for number in range(words, 0, -1)}
    state = TurnState(replace(POLICY, consistency=consistency), Context(), "played")
    turn = _Turn(asked, results, latency_s, ms_per_token, state)
    for number in range(1, words + 1):
        turn.run_until(number / WORDS_PER_S)
        typed = prefix(text, number) + (" " if number < words else "")
        if number == words:
            frozen, came_back, sent = turn.state.docs.frozen, tuple(turn.came_back), turn.sent
            turn.take(planner.on_commit(turn.state, typed, number, turn.now_s))
        else:
            turn.take(planner.on_text(turn.state, typed, number, turn.now_s))
    end_s = turn.now_s
    turn.run_until(float("inf"))
    before, behind = documents.chosen(turn.state.docs, consistency)
    final = results[words]
    settled = frozen is not None and bool(final) and final[0].id in {p.id for p in frozen}
    changes = [at_s for at_s in turn.changed_s if at_s <= end_s]
    tail = (end_s - changes[-1]) * WORDS_PER_S if settled else None
    wasted = sent - len(changes)
    return Played(settled, frozen or final, (*before, *behind), came_back, sent, wasted, tail)


@dataclass(slots=True)
class _Turn:
    """The turn's state, and what is under way: (when, number, slot, query), slot None = a timer.

    ``asked``: query -> how many words of the text it is.
    """

    asked: Mapping[str, int]
    results: Results
    latency_s: float
    ms_per_token: float
    state: TurnState
    now_s: float = 0.0
    sent: int = 0
    came_back: list[int] = field(default_factory=list)
    changed_s: list[float] = field(default_factory=list)
    retrievals: Retrievals = field(default_factory=Retrievals)
    running: dict[int, int] = field(default_factory=dict)
    due: list[tuple[float, int, int | None, Retrieve | None]] = field(default_factory=list)
    numbers: count[int] = field(default_factory=count)

    def run_until(self, at_s: float) -> None:
        """Let happen what is due up to then."""
        while self.due and self.due[0][0] <= at_s + 1e-9:
            self.now_s, number, slot, query = heapq.heappop(self.due)
            if slot is None or query is None:
                if self.state.timer_s is not None and self.now_s == self.state.timer_s:
                    self.take(planner.on_timer(self.state, self.now_s))
            elif self.running.get(slot) == number:
                self._answered(slot, query)
        self.now_s = max(self.now_s, at_s) if at_s < float("inf") else self.now_s

    def take(self, step: Step) -> None:
        """Perform what the planner decided."""
        before = self.state.docs.frozen
        self.state, actions = step
        if self.state.docs.frozen != before:
            self.changed_s.append(self.now_s)
        for action in actions:
            if isinstance(action, Retrieve):
                verdict = self.retrievals.ask(action, self.now_s)
                for slot in verdict.stop:
                    del self.running[slot]
                if verdict.start is not None:
                    self._start(action, verdict.start)
            elif isinstance(action, SetTimer) and action.at_s is not None:
                heapq.heappush(self.due, (action.at_s, next(self.numbers), None, None))

    def _start(self, query: Retrieve, slot: int) -> None:
        number = self.running[slot] = next(self.numbers)
        self.sent += 1
        took_s = min(self.latency_s, query.deadline_s)
        heapq.heappush(self.due, (self.now_s + took_s, number, slot, query))

    def _answered(self, slot: int, query: Retrieve) -> None:
        del self.running[slot]
        following = self.retrievals.answered(slot, self.now_s)
        if following is not None:
            self._start(following, slot)
        words = self.asked[query.text]
        found = RetrievalResult(query.revision, self.results[words])
        if self.latency_s > query.deadline_s:
            found = RetrievalResult(query.revision, (), "timeout")
        elif query.partial:
            self.came_back.append(words)
        step = planner.on_retrieval(self.state, query.text, found, self.ms_per_token, self.now_s)
        self.take(step)


def in_time(played: Played, sufficient: int) -> bool:
    """Return whether passages of a sufficient text came back before the input ended."""
    return any(words >= sufficient for words in played.came_back)
