"""What a TTFT run is measured against: servers and engines of its own, or a server that runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ...backends.spec import ExpertSpec
from ...orchestrator.client.events import ServedModel
from ...orchestrator.config.settings import Settings
from ...rag.client.client import BridgeClient
from ..bench import BenchmarkFailed
from ..harness.client import Client
from ..harness.doors import BareDoor, ChatDoor, ColdCache, Door, LiveDoor, Talk
from ..harness.experts import (
    EMBEDDED,
    EXPERTS,
    expert_config,
    handbook_config,
    prepare,
    server_config,
    with_fast_expert,
    with_retrieval,
    with_routing,
    write_corpus,
)
from ..harness.library import Library
from ..harness.server_process import free_port, running
from ..harness.targets import Targets
from ..harness.vllm_server import plain_vllm
from ..harness.wire import Ask
from ..workload.arms import DoorName
from ..workload.plan import ExpertCase, Plan


@dataclass(frozen=True, slots=True)
class OwnServers:
    """Starts what a plan needs on this machine.

    Args:
        folder: for configurations, logs and the corpus of this run; emptied by nobody here.
        log: file for what LiveMind's server prints; None = in ``folder``.
        say: gets a line about what is being started.
    """

    plan: Plan
    folder: Path
    log: Path | None
    say: Callable[[str], None]

    @asynccontextmanager
    async def targets(
        self, documents_tokens: int
    ) -> AsyncGenerator[tuple[Targets, Client | None], None]:
        """Start everything for cases with documents of this length; end it with the block.

        Yields:
            The targets, and a client of LiveMind's server if there is one.

        Raises:
            BenchmarkFailed: something did not start.
        """
        plan = self.plan
        doors: dict[DoorName, Door] = {}
        client, library = None, None
        wanted = {arm.door for arm in plan.arms}
        await prepare(self._served())
        async with AsyncExitStack() as stack:
            if wanted & {"chat", "live"}:
                self.say("starting LiveMind")
                url, library = await self._livemind(stack, documents_tokens)
                client = await stack.enter_async_context(Client(url))
                doors |= livemind_doors(client)
            if "openai" in wanted:
                doors["openai"] = await self._plain(stack)
            if "bare" in wanted:
                doors["bare"] = await self._bare(stack)
            yield Targets(doors, library), client

    def _routed(self) -> bool:
        return any(arm.routed for arm in self.plan.arms)

    def _served(self) -> Sequence[ExpertCase]:
        """Return LiveMind's experts; with a single one there would be nothing to route."""
        experts = self.plan.experts
        if not self._routed():
            return experts
        named = {expert.name for expert in experts}
        others = (EMBEDDED,) if any(expert.folder for expert in experts) else EXPERTS.values()
        return (*experts, *(one for one in others if one.name not in named))

    async def _livemind(
        self, stack: AsyncExitStack, documents_tokens: int
    ) -> tuple[str, Library | None]:
        plan, library = self.plan, None
        log = self.log or self.folder / "livemind.log"
        if plan.recordings:
            config = handbook_config(plan.experts[0], f"http://127.0.0.1:{free_port()}")
            return await stack.enter_async_context(running(config, self.folder, log)), library
        config = server_config(self._served())
        if self._routed():
            config = with_routing(config, self._served(), plan.seed)
        if plan.has_consensus:
            config = with_fast_expert(config)
        if plan.retrieves and documents_tokens:
            corpus = self.folder / f"corpus-{documents_tokens}"
            top_k = write_corpus(corpus, plan.experts, plan.seed, documents_tokens)
            bridge_url = f"http://127.0.0.1:{free_port()}"
            config = with_retrieval(config, bridge_url, corpus, top_k)
            rag = Settings.model_validate(config).rag
            bridge = BridgeClient(bridge_url, top_k=top_k, min_score=rag.min_score)
            library = Library(corpus, await stack.enter_async_context(bridge))
        return await stack.enter_async_context(running(config, self.folder, log)), library

    async def _plain(self, stack: AsyncExitStack) -> Door:
        found: dict[str, Door] = {}
        for expert in self.plan.experts:
            self.say(f"starting a plain vLLM server for {expert.expert_id}")
            log = self.folder / f"vllm-{expert.expert_id}.log"
            url = await stack.enter_async_context(plain_vllm(_spec(expert), log))
            client = await stack.enter_async_context(Client(url))
            found[expert.expert_id] = ChatDoor(client, "role")
        return ByModel(found)

    async def _bare(self, stack: AsyncExitStack) -> Door:
        from ...backends.errors import ExpertError
        from ...backends.vllm.expert import VllmExpert

        engines = {}
        for expert in self.plan.experts:
            self.say(f"starting a bare engine for {expert.expert_id}")
            engine = VllmExpert(_spec(expert))
            stack.push_async_callback(engine.stop)
            try:
                await engine.start()
            except ExpertError as exc:
                raise BenchmarkFailed(f"arm A, bare engine: {exc}") from None
            engines[expert.expert_id] = engine
        return BareDoor(engines)


@dataclass(frozen=True, slots=True)
class ByModel:
    """Several doors of one kind, each for its own models."""

    doors: Mapping[str, Door]

    @property
    def cold_cache(self) -> ColdCache:
        """How conversations are kept apart; the same behind every door."""
        return next(iter(self.doors.values())).cold_cache

    def conversation(self, ask: Ask) -> AbstractAsyncContextManager[Talk]:
        """Open a conversation with the model's own server."""
        return self.doors[ask.model].conversation(ask)


def livemind_doors(client: Client) -> dict[DoorName, Door]:
    """Return both doors of a LiveMind server."""
    return {"chat": ChatDoor(client), "live": LiveDoor(client)}


def is_livemind(models: Sequence[ServedModel]) -> bool:
    """Whether ``GET /v1/models`` was answered by LiveMind."""
    return any(model.owned_by == "livemind" for model in models)


def _spec(expert: ExpertCase) -> ExpertSpec:
    settings = Settings.model_validate({"experts": [expert_config(expert)]})
    return settings.experts[0].to_spec()
