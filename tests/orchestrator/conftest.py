"""A session on fake experts, for tests on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from livemind.backends.fake import FakeExpert
from livemind.backends.pool.pool import Pool
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.consensus.team import Team
from livemind.orchestrator.events import Event, ExpertUpdated, ResponseDone, ResponseTextDelta
from livemind.orchestrator.gate import SpeculationGate
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.routing.router import Router
from livemind.orchestrator.routing.selection import NO_CONTEXT, Candidate, RouteContext
from livemind.orchestrator.session import Limits, Session, SessionOptions
from livemind.orchestrator.turn.shared import Shared
from livemind.orchestrator.turn.values import Policy
from livemind.rag.base import Passage, RetrievalResult


class WordRouter(Router):
    """Routes by keyword after a fixed time, so that routing is data."""

    def __init__(self, words: Mapping[str, str], default: str, delay_s: float = 0.01) -> None:
        super().__init__(None, {}, [Candidate(default, "general", 0)], default)
        self.words, self.default, self.delay_s = words, default, delay_s
        self.asked: list[str] = []
        self.estimates: list[RouteEstimate] = []  # of the next texts, whatever their words are

    async def estimate(self, text: str, context: RouteContext = NO_CONTEXT) -> RouteEstimate:
        self.asked.append(text)
        await asyncio.sleep(self.delay_s)
        if self.estimates:
            return self.estimates.pop(0)
        for word, expert in self.words.items():
            if word in text:
                return RouteEstimate(expert, expert, 0.9)
        return RouteEstimate(self.default, "general", 0.4)


class WordRetriever:
    """Finds the passages whose id is a word of the query; slow or broken on demand."""

    def __init__(self, texts: Mapping[str, str], delay_s: float = 0.02) -> None:
        self.texts, self.delay_s = texts, delay_s
        self.asked: list[str] = []
        self.running = 0
        self.broken = False

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        self.asked.append(query)
        self.running += 1
        try:
            await asyncio.sleep(min(self.delay_s, deadline_ms / 1000))
        finally:
            self.running -= 1
        if self.broken or self.delay_s * 1000 > deadline_ms:
            return RetrievalResult(revision, (), "unreachable" if self.broken else "timeout")
        words = [word.strip(".,?!") for word in query.split()]
        hits = [w for w in dict.fromkeys(words) if w in self.texts]
        found = tuple(Passage(w, f"{w}.md", self.texts[w], 1.0) for w in reversed(hits))
        return RetrievalResult(revision, found)

    async def aclose(self) -> None:
        pass


@dataclass
class Stage:
    """Experts, router and retriever of one test, and the sessions opened on them."""

    experts: dict[str, FakeExpert]
    shared: Shared
    router: WordRouter
    retriever: WordRetriever | None
    done: list[ResponseDone] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    def session(
        self, options: SessionOptions | None = None, limits: Limits | None = None, **policy: object
    ) -> Session:
        session = Session(
            f"s{len(self.sessions)}",
            self.shared,
            replace(Policy(fast="fast"), **policy),
            options or SessionOptions(retrieval=self.retriever is not None),
            limits or Limits(),
            on_done=self.done.append,
        )
        self.sessions.append(session)
        return session


@asynccontextmanager
async def open_stage(
    *fakes: FakeExpert,
    words: Mapping[str, str] | None = None,
    retriever: WordRetriever | None = None,
    max_loaded: int | None = None,
    warm: Sequence[str] | None = None,
    between_slices: int = 25,
    max_draft_tokens: int = 256,
) -> AsyncIterator[Stage]:
    """Open a pool over the fakes; the first one is called ``fast``."""
    experts = {fake.expert_id: fake for fake in fakes}
    router = WordRouter(words or {}, fakes[-1].expert_id)
    stage: Stage

    def changed(state: object) -> None:
        for session in stage.sessions:
            session.expert_changed(ExpertUpdated(state.expert_id, state.state))  # type: ignore[attr-defined]

    async with AsyncExitStack() as stack:
        pool = Pool(
            [ExpertSpec(expert_id=name, model_path="fake") for name in experts],
            create=lambda spec: experts[spec.expert_id],
            max_loaded=max_loaded or len(experts),
            warm=list(experts) if warm is None else warm,
            on_change=lambda state: changed(state),
        )
        gate = SpeculationGate(8, 4, between_slices)
        team = Team(dict.fromkeys(experts, "general"), "fast" if "fast" in experts else None)
        shared = Shared(pool, router, gate, retriever, max_draft_tokens, team=team)
        stage = Stage(experts, shared, router, retriever)
        await stack.enter_async_context(pool)
        yield stage


async def type_text(session: Session, text: str, key_s: float = 0.15) -> None:
    """Type letter by letter."""
    for letter in text:
        session.append(letter)
        await asyncio.sleep(key_s)


async def answer(session: Session, text: str | None = None) -> list[Event]:
    """Commit and collect the turn's events."""
    return [event async for event in session.commit(text)]


def text_of(events: Sequence[Event]) -> str:
    """Join the deltas."""
    return "".join(event.delta for event in events if isinstance(event, ResponseTextDelta))


def done_of(events: Sequence[Event]) -> ResponseDone:
    """Return the terminal event; fails when there is not exactly one."""
    done = [event for event in events if isinstance(event, ResponseDone)]
    assert len(done) == 1, done
    return done[0]


@pytest.fixture
def live() -> SimpleNamespace:
    """Return this file's tools by name."""
    return SimpleNamespace(
        open_stage=open_stage,
        type_text=type_text,
        answer=answer,
        text_of=text_of,
        done_of=done_of,
        retriever=WordRetriever,
    )
