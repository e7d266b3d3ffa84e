"""What a LiveMind counts and tells of itself: answers in progress, ended turns, its experts.

Owns the counters. One event loop's thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from msgspec import to_builtins

from .. import kernels
from ..backends.base import Capabilities
from ..backends.machine.processor import this_processor
from ..backends.pool.pool import Pool
from ..backends.spec import ExpertSpec
from ..rag.encoder.worker import EmbedWorker
from .config.server import ServerConfig
from .config.settings import Settings
from .errors import Overloaded
from .events import ResponseDone
from .fairness.asker import Asker, asker
from .fairness.shares import Shares
from .turn.shared import Shared


@dataclass(frozen=True, slots=True)
class ExpertInfo:
    """What can be known of an expert from outside.

    ``dtype``: the number format it computes in, or will; None = not on this machine.
    ``quantization``: how its weights are packed, as far as the configuration says it.
    """

    expert_id: str
    domain: str
    state: str
    max_model_len: int | None
    detail: str = ""
    dtype: str | None = None
    quantization: str | None = None


class TurnCounters:
    """Answers in progress and waiting, bounded by ``server``, and what ended turns add up to."""

    def __init__(self, server: ServerConfig) -> None:
        self.ended: Counter[str] = Counter()
        self._limit = server.max_concurrent_turns + server.max_waiting_turns
        self._shares = Shares(self._limit)

    @property
    def answering(self) -> int:
        """Answers in progress, those that wait included."""
        return self._shares.held

    def admit(self) -> Callable[[], None]:
        """Count an answer in; return what counts it out, once however often it is called.

        Raises:
            Overloaded: as many answers are in progress and wait as may, in all or of this key.
        """
        who = asker.get()
        owner = None if who is None else who.owner
        self._refuse_too_many(who)
        self._shares.take(owner)
        open_turns = [1]

        def release() -> None:
            if open_turns:
                open_turns.pop()
                self._shares.give_back(owner)

        return release

    def _refuse_too_many(self, who: Asker | None) -> None:
        shares = self._shares
        if shares.held >= self._limit:
            message = f"{self._limit} answers are in progress or wait, the limit"
        elif who is not None and shares.full(who.owner):
            message = (
                f"{shares.of(who.owner)} answers of this key are in progress or wait, its share"
            )
        else:
            return
        raise Overloaded(message, code="too_many_turns", retry_after_s=1.0)

    def count(self, done: ResponseDone) -> None:
        """Count a turn that has ended."""
        self.ended[done.status] += 1
        ledger = done.ledger
        for name in ("prefill", "draft"):
            for kind in ("speculated", "adopted", "wasted"):
                self.ended[f"{name}_{kind}_tokens"] += getattr(ledger, f"{name}_{kind}")


def expert_infos(
    settings: Settings, pool: Pool, specs: Mapping[str, ExpertSpec]
) -> tuple[ExpertInfo, ...]:
    """Return every configured expert with its state."""
    configured = {expert.expert_id: expert for expert in settings.experts}
    infos = []
    for state in pool.states():
        loaded, config = pool.ready(state.expert_id), configured[state.expert_id]
        limit = loaded.capabilities.max_model_len if loaded else config.max_model_len
        formats = number_formats(pool, specs[state.expert_id])
        info = ExpertInfo(
            state.expert_id, config.domain, state.state, limit, state.detail,
            formats["dtype"], formats["quantization"],
        )  # fmt: skip
        infos.append(info)
    return tuple(infos)


def expert_stats(shared: Shared, specs: Mapping[str, ExpertSpec]) -> list[dict[str, object]]:
    """Return states, number formats and measured speeds of the experts, JSON-ready."""
    return [
        {
            **to_builtins(state),
            **number_formats(shared.pool, specs[state.expert_id]),
            **_learned(shared.pool, state.expert_id),
            "prefill_ms_per_token": shared.rates[state.expert_id].prefill_ms_per_token,
            "decode_ms": shared.rates[state.expert_id].decode_ms,
        }
        for state in shared.pool.states()
    ]


def _learned(pool: Pool, expert_id: str) -> dict[str, str | None]:
    """Return what a loaded expert was found to do, and why its open turns are not prepared."""
    loaded = pool.ready(expert_id)
    able = loaded.capabilities if loaded is not None else Capabilities()
    return {"why_no_open_turn": able.why_no_open_turn, "self_test": able.self_test}


def cache_stats(shared: Shared, worker: EmbedWorker | None) -> dict[str, object]:
    """Return the counters of the route and vector caches, JSON-ready."""
    embedding = None if worker is None else asdict(worker.stats())
    return {"routing": asdict(shared.router.stats()), "embedding": embedding}


def processor_stats() -> dict[str, object]:
    """Return what this machine computes with, JSON-ready."""
    return {**asdict(this_processor()), "kernels": kernels.isa()}


def number_formats(pool: Pool, spec: ExpertSpec) -> dict[str, str | None]:
    """Return what an expert computes in: what its engine says, else what is planned for it."""
    loaded = pool.ready(spec.expert_id)
    if loaded is not None:
        able = loaded.capabilities
        computes = {"dtype": able.dtype, "kv_cache_dtype": able.kv_cache_dtype}
    elif spec.kind != "vllm":
        computes = {"dtype": None, "kv_cache_dtype": None}
    else:
        cached = spec.dtype if spec.kv_cache_dtype == "auto" else spec.kv_cache_dtype
        computes = {"dtype": spec.dtype, "kv_cache_dtype": cached}
    return {**computes, "quantization": spec.quantization}
