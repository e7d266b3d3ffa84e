"""Whether options of consensus can be carried out here; if not, which field is wrong and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ...backends.base import Capabilities
from ..consensus.options import Consensus
from ..errors import InvalidRequest
from .experts import ExpertConfig

if TYPE_CHECKING:
    from .settings import Settings

NO_GAIN = {
    "verify": "no team of experts measured so far was right more often with it than its best "
    "expert alone, and its first text comes later",
    "vote": "no team of experts measured so far was right more often with it, beyond chance, than "
    "its best expert alone, and an answer takes several times as long",
}
"""Policy -> what docs/consensus.md has measured of it, where that is no gain."""


def check(
    consensus: Consensus,
    settings: Settings,
    pinned: str | None,
    loaded: Callable[[str], Capabilities | None],
) -> Consensus:
    """Return the options of a request; for the other arguments see ``draft_problem``.

    Raises:
        InvalidRequest: with the field that is wrong.
    """
    for field, message in problems(consensus, settings):
        raise _wrong(field, message, "not_available" if field == "policy" else "invalid_value")
    if consensus.policy == "draft":
        problem = draft_problem(settings, pinned, loaded)
        if problem is not None:
            raise _wrong("policy", f'"draft": {problem}', "not_available")
    if (consensus.answer == "label") != bool(consensus.labels):
        message = 'labels and answer "label" belong together'
        raise _wrong("labels" if consensus.answer == "label" else "answer", message)
    return consensus


def problems(consensus: Consensus, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (field, why it is wrong) for what no request can change."""
    lazy, known = settings.lazy_loading, [expert.expert_id for expert in settings.experts]
    strangers = [name for name in consensus.experts if name not in known]
    local = [e.expert_id for e in settings.experts if e.kind == "vllm"]
    wanted = len(set(consensus.experts).intersection(local))
    if strangers:
        yield "experts", f"no expert {strangers[0]!r}; there are {', '.join(known)}"
    if len(set(consensus.experts)) < len(consensus.experts):
        yield "experts", "an expert is named twice"
    if lazy.enabled and wanted > lazy.max_loaded_experts:
        message = f"{wanted} experts of this machine, but only {lazy.max_loaded_experts} are loaded"
        yield "experts", f"{message} at a time (lazy_loading.max_loaded_experts)"
    if consensus.policy in ("verify", "vote") and len(known) < 2:
        yield "policy", f'"{consensus.policy}" needs two experts, one is configured'
    elif consensus.policy == "verify" and settings.router.fast_expert is None:
        yield "policy", '"verify" needs router.fast_expert, which writes'
    if consensus.policy == "draft":
        problem = draft_problem(settings, None, lambda expert: None)
        if problem is not None:
            yield "policy", f'"draft": {problem}'
    if consensus.quorum > len(known) - 1 and consensus.quorum > 1:
        rest = f"there are {len(known) - 1} experts beside the author"
        message = f"got {consensus.quorum}, but {rest}"
        yield "quorum", message


def no_gain(settings: Settings) -> str | None:
    """Return what speaks against the configured policy, None for one that gained something."""
    return NO_GAIN.get(settings.consensus.policy)


def draft_problem(
    settings: Settings, pinned: str | None, loaded: Callable[[str], Capabilities | None]
) -> str | None:
    """Return why ``draft`` is impossible here, None if it is possible as far as is known.

    Args:
        settings: the configuration.
        pinned: the expert that answers, None = routed.
        loaded: what a loaded expert can do, None for another one.
    """
    fast = settings.router.fast_expert
    answering = [e for e in settings.experts if e.expert_id == pinned or pinned is None]
    if not any(_may_verify(e, loaded(e.expert_id)) for e in answering):
        if pinned is None:
            return "no expert verifies drafts (verify_drafts)"
        return f"expert {pinned!r} does not verify drafts (verify_drafts)"
    of_fast = loaded(fast) if fast is not None else None
    of_pinned = loaded(pinned) if pinned is not None else None
    if of_fast is not None and of_pinned is not None:
        ids = {of_fast.tokenizer_id, of_pinned.tokenizer_id}
        if None not in ids and len(ids) > 1:
            return f"expert {pinned!r} and the fast expert {fast!r} have different tokenizers"
    return None


def _may_verify(config: ExpertConfig, loaded: Capabilities | None) -> bool:
    if loaded is not None:
        return loaded.drafts
    return config.verify_drafts is True or (config.verify_drafts is None and config.kind == "vllm")


def _wrong(field: str, message: str, code: str = "invalid_value") -> InvalidRequest:
    return InvalidRequest(f"consensus.{field}: {message}", param=f"consensus.{field}", code=code)
