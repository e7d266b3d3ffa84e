"""LiveMind as one object: what `from livemind import LiveMind` gives.

Owns the parts that all sessions share and their order of birth and death. The server is one user of
this class, an embedding program another.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from ..backends.base import Capabilities, Chunk, Expert, GenerationParams, Message, TokenPrompt
from ..backends.pool.pool import ExpertState
from ..backends.registry import create_expert, release
from ..backends.spec import ExpertSpec
from ..rag.base import Retriever
from ..rag.encoder.worker import EmbedWorker
from . import assembly
from .alone import Prompt, answer_alone
from .config.consensus import check
from .config.settings import Settings, load_settings
from .consensus.authors import policy_of
from .consensus.options import Consensus, PolicyName
from .errors import InvalidRequest, NotFound, Overloaded, Unavailable
from .events import ExpertUpdated, ResponseDone
from .options import Interrupt, Segment, SessionOptions, new_session_id
from .rates import ExpertRates
from .session import Session
from .stats import (
    ExpertInfo,
    TurnCounters,
    cache_stats,
    expert_infos,
    expert_stats,
    processor_stats,
)
from .turn.partials import InputKind
from .turn.passages.documents import Consistency
from .turn.shared import Shared
from .turn.values import Mode, OnCold, TranscriptsEqual

if TYPE_CHECKING:
    from ..rag.base import Embedder

log = logging.getLogger(__name__)

AUTO = (None, "auto")


class LiveMind:
    """The engine with everything it needs; an async context manager.

    For one event loop. ``on_expert`` is called at every change of an expert's state.

    Attributes:
        consensus: how answers are settled where nobody says otherwise.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        create: Callable[[ExpertSpec], Expert] = create_expert,
        embedder: Callable[[], Embedder] | None = None,
        retriever: Retriever | None = None,
        on_expert: Callable[[ExpertState], None] = lambda state: None,
    ) -> None:
        self.settings = settings
        self.embed_worker: EmbedWorker | None = None
        self.consensus = settings.consensus.options()
        self._policy = assembly.make_policy(settings)
        self._limits = assembly.make_limits(settings)
        self._create = create
        self._embedder = embedder
        self._given_retriever = retriever
        self._on_expert = on_expert
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._turns = TurnCounters(settings.server)
        self._completions = 0
        self._closing = False
        self._stack = AsyncExitStack()
        self._shared: Shared | None = None
        self._specs: dict[str, ExpertSpec] = {}

    @classmethod
    def from_config(cls, source: str | Path | Settings) -> LiveMind:
        """Return a LiveMind from a configuration file or settings; nothing is started yet.

        Raises:
            ConfigError: the file is wrong; each problem with its key.
        """
        return cls(source if isinstance(source, Settings) else load_settings(source))

    async def __aenter__(self) -> Self:
        """Load the encoder and the warm experts.

        Raises:
            ExpertError: not one of the warm experts could be started.
        """
        try:
            self._shared = await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop the experts; sessions must have been closed before."""
        self._closing = True
        await self._stack.aclose()

    async def _start(self) -> Shared:
        settings = self.settings
        self._stack.callback(release)
        if assembly.embeds(settings):
            self.embed_worker = await asyncio.to_thread(
                assembly.make_embed_worker, settings, self._embedder
            )
        if self.embed_worker is not None:
            self._stack.push_async_callback(self.embed_worker.aclose)
        specs = [expert.to_spec() for expert in settings.experts]
        if self._create is create_expert:
            specs = await asyncio.to_thread(assembly.fitted_specs, settings)
        self._specs = {spec.expert_id: spec for spec in specs}
        pool = assembly.make_pool(settings, specs, self._create, self._expert_changed)
        router = assembly.make_router(settings, self.embed_worker, pool)
        if len(settings.experts) > 1:
            await router.start()
        retriever = self._given_retriever
        if retriever is None and (client := assembly.make_bridge_client(settings)) is not None:
            self._stack.push_async_callback(client.aclose)
            retriever = client
        await self._stack.enter_async_context(pool)
        return assembly.make_shared(settings, pool, router, retriever)

    def _expert_changed(self, state: ExpertState) -> None:
        self._on_expert(state)
        event = ExpertUpdated(
            state.expert_id, state.state, state.shown, state.progress, state.remaining_s
        )
        for session in list(self._sessions):
            session.expert_changed(event)

    def session(
        self,
        *,
        model: str | None = None,
        instructions: str | None = None,
        history: Sequence[Message] = (),
        documents: Sequence[str] = (),
        speculation: Mode | None = None,
        retrieval: bool | None = None,
        params: GenerationParams | None = None,
        cache_salt: str | None = None,
        consensus: Consensus | PolicyName | None = None,
        on_cold: OnCold | None = None,
        input_kind: InputKind | None = None,
        transcripts_equal: TranscriptsEqual = "exact",
        consistency: Consistency | None = None,
        affinity: str | None = None,
        session_id: str | None = None,
        interrupt: Interrupt | None = None,
        segment: Segment | None = None,
        one_turn: bool = False,
        template: str | None = None,
    ) -> Session:
        """Return a new conversation, to be entered with ``async with``.

        Args:
            model: expert id; None or ``auto`` = routed on the text.
            instructions: system message.
            history: earlier turns, oldest first.
            documents: passages that stand before the user's text in every turn.
            speculation: None = the configuration's mode.
            retrieval: None = the configuration's ``rag.enabled``.
            params: sampling; ``max_tokens`` None = the expert's default.
            cache_salt: sessions with different salts share no prefix cache.
            consensus: how answers are settled, or the name of a policy; None = as configured.
            on_cold: what happens at an expert that is not loaded; None = as configured.
            input_kind: ``typed`` or ``transcript``; None = found from the first changes.
            transcripts_equal: whether a draft fits a text that is only written otherwise.
            consistency: whose documents the answer gets; None = the configuration's
                ``rag.consistency``.
            affinity: sessions of one key stay on one server of a remote expert; None = the id.
            session_id: None = a new one that cannot be guessed.
            interrupt: what stops a running answer; see ``SessionOptions``.
            segment: whether answers leave in sentences too; see ``SessionOptions``.
            one_turn: for a single question: nothing leaves a full context or is prepared for later.
            template: for the chat template, as JSON; see ``SessionOptions``.

        Raises:
            NotFound: no such model.
            InvalidRequest: retrieval or this consensus is not possible here, or the history is
                longer than ``conversation`` allows.
            Overloaded: ``server.max_sessions`` are open.
            Unavailable: shutting down.
        """
        shared = self._running()
        limit = self.settings.server.max_sessions
        if len(self._sessions) >= limit:
            raise Overloaded(
                f"{limit} sessions are open (server.max_sessions)",
                code="too_many_sessions",
                retry_after_s=5.0,
            )
        pinned = self.pinned(model)
        options = SessionOptions(
            pinned=pinned,
            instructions=instructions,
            documents=tuple(documents),
            speculation=speculation or self.settings.speculation.mode,
            retrieval=self._may_retrieve(retrieval),
            params=params or GenerationParams(),
            cache_salt=cache_salt,
            consensus=self._settled_by(consensus, pinned),
            on_cold=on_cold,
            input_kind=input_kind,
            transcripts_equal=transcripts_equal,
            consistency=consistency,
            interrupt=interrupt,
            segment=segment,
            between_turns=self.settings.speculation.between_turns and not one_turn,
            template=template,
        )
        limits = self._limits
        if one_turn:
            rules = replace(limits.conversation, overflow="refuse")
            limits = replace(limits, conversation=rules)
        session = Session(
            session_id or new_session_id(),
            shared,
            self._policy,
            options,
            limits,
            history=history,
            affinity=affinity,
            admit=self._turns.admit,
            on_done=self.count_turn,
            on_close=self._sessions.discard,
        )
        self._sessions.add(session)
        return session

    def options(
        self,
        options: SessionOptions,
        *,
        model: str | None = None,
        retrieval: bool | None = None,
        consensus: Consensus | PolicyName | None = None,
    ) -> SessionOptions:
        """Return options with these three checked against this configuration; None = as it says."""
        pinned = self.pinned(model)
        return replace(
            options,
            pinned=pinned,
            retrieval=self._may_retrieve(retrieval),
            consensus=self._settled_by(consensus, pinned),
        )

    def expert_alone(
        self,
        *,
        model: str | None = None,
        retrieval: bool | None = None,
        consensus: Consensus | PolicyName | None = None,
    ) -> str | None:
        """Return who answers such a request alone and at once; None if it needs a session.

        That is an expert named by ``model``, loaded, without retrieval, drafts and votes. The
        arguments and errors are those of ``session``.
        """
        pinned = self.pinned(model)
        retrieves, settled_by = self._may_retrieve(retrieval), self._settled_by(consensus, pinned)
        if pinned is None or retrieves:
            return None
        capabilities = self._capabilities(pinned)
        alone = capabilities is not None and policy_of(settled_by, capabilities) == "first"
        return pinned if alone else None

    def complete(
        self,
        prompt: Prompt,
        params: GenerationParams,
        *,
        model: str | None = None,
        cache_salt: str | None = None,
        on_prompt: Callable[[TokenPrompt], None] = lambda prompt: None,
    ) -> AsyncGenerator[Chunk, None]:
        """Continue text or tokens, or answer a conversation; without a model it is routed.

        One expert answers, and nothing is prepared, retrieved or settled: for that is ``session``.
        Closing the iterator aborts the request. ``on_prompt`` is called with the rendered prompt.

        Raises:
            NotFound: no such model.
            Overloaded: too many answers are in progress.
            ExpertError: the expert failed.
        """
        self._completions += 1
        return answer_alone(
            self._running(),
            prompt,
            params,
            expert_id=self.pinned(model),
            cache_salt=cache_salt,
            request_id=f"cmpl-{self._completions}",
            admit=self._turns.admit,
            on_prompt=on_prompt,
        )

    async def loaded(self, model: str | None = None) -> Expert:
        """Return an expert, by default the default one, loaded; raises NotFound, ExpertError."""
        expert_id = self.pinned(model) or self.settings.default_expert
        async with self._running().pool.acquire(expert_id) as expert:
            return expert

    def experts(self) -> tuple[ExpertInfo, ...]:
        """Return every configured expert with its state."""
        return expert_infos(self.settings, self._running().pool, self._specs)

    def expert_states(self) -> tuple[ExpertState, ...]:
        """Return what the pool knows of every expert; nothing when not running."""
        return () if self._shared is None else self._shared.pool.states()

    def cache_stats(self) -> dict[str, object]:
        """Return the counters of the route and vector caches; empty when not running."""
        return {} if self._shared is None else cache_stats(self._shared, self.embed_worker)

    def rates(self, expert_id: str) -> ExpertRates:
        """Return the measured speed of an expert."""
        return self._running().rates[expert_id]

    def stats(self) -> dict[str, object]:
        """Return counters and states, JSON-ready."""
        shared = self._running()
        return {
            "sessions": len(self._sessions),
            "answering": self._turns.answering,
            "waiting": self.waiting(),
            "turns": dict(self._turns.ended),
            "processor": processor_stats(),
            "experts": expert_stats(shared, self._specs),
            **cache_stats(shared, self.embed_worker),
        }

    def waiting(self) -> int:
        """Return how many answers wait to begin."""
        return 0 if self._shared is None else self._shared.places.waiting

    def count_turn(self, done: ResponseDone) -> None:
        """Count a turn in ``stats``: those of sessions are, others are their owner's to report."""
        self._turns.count(done)

    def _running(self) -> Shared:
        if self._shared is None or self._closing:
            raise Unavailable("the server is not running")
        return self._shared

    def pinned(self, model: str | None) -> str | None:
        """Return the expert that a model name stands for; None = routed.

        Raises:
            NotFound: no expert has this id.
        """
        if model in AUTO:
            only = self.settings.experts
            return only[0].expert_id if len(only) == 1 else None
        if self.settings.expert(str(model)) is None:
            known = ", ".join([expert.expert_id for expert in self.settings.experts])
            message = f"model: no such model, {str(model)[:64]!a}; there are {known}, auto"
            raise NotFound(message, param="model", code="model_not_found")
        return model

    def _may_retrieve(self, wanted: bool | None) -> bool:
        available = self._running().retriever is not None
        if wanted and not available:
            raise InvalidRequest(
                "retrieval: not configured (rag.enabled)", param="retrieval", code="no_retrieval"
            )
        return available if wanted is None else wanted

    def _settled_by(self, wanted: Consensus | PolicyName | None, pinned: str | None) -> Consensus:
        if wanted is None:
            return self.consensus
        options = replace(self.consensus, policy=wanted) if isinstance(wanted, str) else wanted
        return check(options, self.settings, pinned, self._capabilities)

    def _capabilities(self, expert_id: str) -> Capabilities | None:
        expert = self._running().pool.ready(expert_id)
        return expert.capabilities if expert is not None else None
