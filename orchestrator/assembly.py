"""Builds the shared parts of LiveMind from its settings.

Owns the translation from configuration keys to constructor arguments. Starts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from ..backends.base import Expert
from ..backends.doctor.number_formats import Formats, Room, fit_formats, tell_formats, this_host
from ..backends.machine.memory import machine_memory
from ..backends.pool.footprint import memory_need
from ..backends.pool.pool import ExpertState, Pool
from ..backends.remote.carried import carried_headers
from ..backends.spec import ExpertSpec
from ..backends.zoo import catalog
from ..rag.access.origins import is_loopback
from ..rag.access.token import TokenError, shared_token
from ..rag.base import Embedder, Retriever
from ..rag.client.client import BridgeClient
from ..rag.encoder.kinds import MINILM
from ..rag.encoder.worker import EmbedWorker
from .config.consensus import no_gain
from .config.experts import ZOO_PREFIX
from .config.settings import Settings
from .consensus.team import Team
from .conversation import ConversationRules
from .errors import ConfigError
from .fairness.places import Places
from .gate import SpeculationGate
from .options import Limits
from .routing.domains import domain_name, unreachable
from .routing.encoders import encoder
from .routing.model import MODEL_FILES, RouteModel, load_model
from .routing.router import Router, TextEmbedding
from .routing.selection import Candidate
from .turn.shared import Shared
from .turn.values import Policy

log = logging.getLogger(__name__)

BUSY_SLICE_SHARE = 8
SMALLEST_SLICE_TOKENS = 16


def fit_experts(settings: Settings) -> dict[str, Formats]:
    """Return the number formats of every expert, chosen for this machine and all of them together.

    Blocks: milliseconds for the headers of their files, seconds where the processor's speeds have
    not been measured yet and are needed.
    """
    specs = [expert.to_spec() for expert in settings.experts]
    auto = any(s.kind == "vllm" and "auto" in (s.dtype, s.quantization) for s in specs)
    host = this_host(probe=auto)
    lazy = settings.lazy_loading
    found = fit_formats(
        specs,
        host,
        Room(machine_memory() or 0, lazy.memory_threshold, most_loaded(settings), warm(settings)),
    )
    for formats in found.values():
        tell_formats(formats)
    return found


def fitted_specs(settings: Settings) -> list[ExpertSpec]:
    """Return the experts' settings with the number formats of ``fit_experts``. Blocks."""
    return [formats.spec for formats in fit_experts(settings).values()]


def most_loaded(settings: Settings) -> int:
    """Return how many local experts may be in memory at a time."""
    lazy = settings.lazy_loading
    return lazy.max_loaded_experts if lazy.enabled else len(settings.experts)


def warm(settings: Settings) -> list[str]:
    """Return the experts that are loaded at the start: the fast one, then by priority."""
    lazy, fast = settings.lazy_loading, settings.router.fast_expert
    ranked = sorted(settings.experts, key=lambda e: (e.expert_id != fast, -e.priority))
    wanted = lazy.warmup_pool_size if lazy.enabled else len(ranked)
    return [expert.expert_id for expert in ranked[:wanted]]


def make_pool(
    settings: Settings,
    specs: Sequence[ExpertSpec],
    create: Callable[[ExpertSpec], Expert],
    on_change: Callable[[ExpertState], None],
) -> Pool:
    """Return the pool of these experts; see ``warm`` for those that are loaded at once.

    Reads the headers of the experts' files for their size, which blocks for milliseconds.
    """
    lazy = settings.lazy_loading
    needs = {spec.expert_id: memory_need(spec) for spec in specs}
    return Pool(
        specs,
        create=create,
        max_loaded=most_loaded(settings),
        warm=warm(settings),
        on_change=on_change,
        needs={expert_id: need for expert_id, need in needs.items() if need is not None},
        capacity=machine_memory(),
        memory_threshold=lazy.memory_threshold,
        auto_unload_after_s=lazy.auto_unload_after_s,
        max_queued=lazy.max_queued_requests,
        queue_timeout_s=lazy.queue_timeout_s,
    )


def make_router(
    settings: Settings, embedding: TextEmbedding | None, pool: Pool | None = None
) -> Router:
    """Return the router over ``settings.routed_experts``.

    With a ``pool`` the load of the experts breaks ties.
    """
    candidates = [
        Candidate(e.expert_id, e.domain, e.priority, e.cost, e.max_model_len, e.images, e.languages)
        for e in settings.routed_experts
    ]
    described = settings.described_domains
    for name in unreachable([candidate.domain for candidate in candidates], described):
        log.warning("no text is routed to domain %r: give questions in `domains`", name)
    slots = {expert.expert_id: expert.max_num_seqs for expert in settings.experts}

    def load(expert_id: str) -> float:
        users = (s.users for s in pool.states() if s.expert_id == expert_id) if pool else ()
        return sum(users) / slots[expert_id]

    return Router(
        embedding,
        {name: domain.examples for name, domain in described.items()},
        candidates,
        settings.default_expert,
        model=_trained_model(getattr(embedding, "name", None)),
        own=frozenset(name for name, domain in described.items() if not domain.builtin),
        languages=settings.router.languages,
        default_below=settings.router.default_below,
        switch_price_per_s=settings.router.switch_price_per_s,
        load=load,
        cache_size=settings.router.cache_size,
    )


def _trained_model(name: str | None) -> RouteModel | None:
    """Return the shipped classifier that reads this encoder's vectors, if there is one."""
    if name not in MODEL_FILES:
        return None
    try:
        return load_model(name)
    except (OSError, ValueError, KeyError) as exc:
        log.warning("routing by examples alone: the trained classifier: %s", type(exc).__name__)
        return None


def embeds(settings: Settings) -> bool:
    """Return whether there is anything to be embedded: for routing or for retrieval."""
    return len(settings.experts) > 1 or settings.rag.enabled


def make_embed_worker(
    settings: Settings, embedder: Callable[[], Embedder] | None
) -> EmbedWorker | None:
    """Return what embeds texts for routing and retrieval.

    Where the configured one is missing it is MiniLM, without any encoder that can run here None; a
    warning says so. Blocks while the encoder is loaded.
    """
    from ..rag.encoder.embedder import EmbedderUnavailable

    wanted = encoder(settings.router.embedder)
    for load in [embedder] if embedder else dict.fromkeys((wanted.questions, MINILM.questions)):
        try:
            return EmbedWorker(load(), cache_size=settings.router.cache_size)
        except EmbedderUnavailable as exc:
            log.warning("%s", exc)
    return None


def make_shared(
    settings: Settings, pool: Pool, router: Router, retriever: Retriever | None
) -> Shared:
    """Return what all sessions share."""
    speculation = settings.speculation
    return Shared(
        pool,
        router,
        make_gate(settings),
        retriever,
        speculation.max_draft_tokens,
        speculation.slice_ms,
        make_team(settings),
        places=make_places(settings),
    )


def make_bridge_client(settings: Settings) -> BridgeClient | None:
    """Return the client of the retrieval bridge, None when retrieval is off."""
    rag = settings.rag
    if not rag.enabled:
        return None
    urls = (rag.bridge_url, *(() if rag.second_bridge_url is None else (rag.second_bridge_url,)))
    token = None
    if not all(is_loopback(urlsplit(url).hostname or "") for url in urls):
        try:
            token = shared_token(rag.bridge_token_file, make=False)
        except TokenError as exc:
            raise ConfigError(f"rag.bridge_token_file: {exc}") from None
    return BridgeClient(
        rag.bridge_url,
        token=token,
        headers=lambda: carried_headers.get()(),
        second_url=rag.second_bridge_url,
        collection=rag.collection,
        mode=rag.mode,
        top_k=rag.top_k,
        min_score=rag.min_score,
    )


def make_places(settings: Settings) -> Places:
    """Return the queues in front of the experts; a remote one's is as long as it is said to be."""
    server = settings.server
    slots = {
        expert.expert_id: expert.max_num_seqs * max(1, len(expert.base_urls))
        for expert in settings.experts
        if expert.kind == "vllm" or "max_num_seqs" in expert.model_fields_set
    }
    return Places(slots, most=server.max_concurrent_turns, wait_s=server.turn_wait_s)


def make_gate(settings: Settings) -> SpeculationGate:
    """Return the gate; beside a running answer slices are an eighth as long."""
    speculation = settings.speculation
    busy = max(SMALLEST_SLICE_TOKENS, speculation.slice_tokens // BUSY_SLICE_SHARE)
    return SpeculationGate(speculation.slice_tokens, busy, speculation.foreground_share)


def make_team(settings: Settings) -> Team:
    """Return what is known of the experts; the configuration wins over the embedded figures.

    Says so in the log where the configured policy is one that nobody gained from so far.
    """
    if (why := no_gain(settings)) is not None:
        log.warning("consensus.policy %s: %s (docs/consensus.md)", settings.consensus.policy, why)
    measured = {
        expert.expert_id: catalog.measured_accuracy(path.removeprefix(ZOO_PREFIX))
        for expert in settings.experts
        if (path := expert.model_path or "").startswith(ZOO_PREFIX)
    }
    given = {
        name: {domain_name(domain): share for domain, share in shares.items()}
        for name, shares in settings.consensus.accuracy.items()
    }
    return Team(
        {expert.expert_id: expert.domain for expert in settings.experts},
        settings.router.fast_expert,
        {**measured, **given},
    )


def make_policy(settings: Settings) -> Policy:
    """Return the planner's rules before a session changes them."""
    speculation, router, rag = settings.speculation, settings.router, settings.rag
    return Policy(
        mode=speculation.mode,
        fast=router.fast_expert,
        on_cold=settings.lazy_loading.on_cold,
        start_delay_s=speculation.start_delay_ms / 1000,
        settle_s=router.settle_ms / 1000,
        pause_s=speculation.pause_ms / 1000,
        sentence_pause_s=speculation.sentence_pause_ms / 1000,
        consistency=rag.consistency,
        route_deadline_s=router.deadline_ms / 1000,
        retrieve_deadline_s=rag.deadline_ms / 1000,
        commit_wait_s=rag.commit_wait_ms / 1000,
        stable_confidence=router.stable_confidence,
        stable_updates=router.stable_updates,
        max_prefill_tokens=speculation.max_prefill_tokens,
        draft_budget_tokens=speculation.draft_budget_tokens,
        draft_budget_s=speculation.draft_budget_ms / 1000,
        max_waste_ratio=speculation.max_waste_ratio,
    )


def make_limits(settings: Settings) -> Limits:
    """Return the bounds of a session."""
    server = settings.server
    talk = settings.conversation
    rules = ConversationRules(
        talk.max_items, talk.max_chars, talk.overflow, talk.keep_share, talk.characters_per_s
    )
    return Limits(
        server.max_text_chars,
        server.max_queued_events,
        server.max_queued_bytes,
        server.turn_timeout_s,
        rules,
    )
