"""Findings about all experts together: memory, GPU shares, tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .case import Case, Subject
from .findings import ExpertFacts, Finding, MemoryPlan
from .quantities import gib

_POOL = "lazy_loading.max_loaded_experts"
# Sizes are estimates: holding everything is only suggested with this much to spare.
_COMFORTABLE = 0.9


def check_plan(plan: MemoryPlan, *, lazy: bool) -> Iterator[Finding]:
    """Yield whether what the pool may hold fits the memory."""
    key = _POOL if lazy else "lazy_loading.enabled"
    value = str(plan.loaded_at_most) if lazy else "false"
    if plan.fits is False:
        names = ", ".join(plan.worst)
        why = (
            f"{names} together take {gib(plan.worst_bytes)}, {gib(plan.budget_bytes)} of "
            f"{gib(plan.memory_bytes)} may be used"
        )
        if plan.safe_loaded < 1:
            change = "smaller experts, or a larger lazy_loading.memory_threshold"
        else:
            enable = "" if lazy else "lazy_loading.enabled: true and "
            change = f"{enable}{_POOL}: {plan.safe_loaded}"
        yield Finding("error", "pool_too_large", key, value, why, change)
    elif plan.swapped and plan.all_fit and plan.all_bytes <= _COMFORTABLE * plan.budget_bytes:
        total = len(plan.kept) + len(plan.swapped)
        why = f"all {total} together take {gib(plan.all_bytes)} and would fit: none need be swapped"
        yield Finding("info", "pool_could_hold_all", key, value, why, f"{_POOL}: {total}")


def check_shares(cases: Sequence[Case], loaded_at_most: int) -> Iterator[Finding]:
    """Yield whether the experts' shares of a GPU add up to more than all of it."""
    shares = {
        c.where: c.spec.gpu_memory_utilization for c in cases if c.spec.gpu_memory_utilization
    }
    largest = sorted(shares.values(), reverse=True)[:loaded_at_most]
    if sum(largest) > 1 + 1e-9:
        where = next(iter(shares))
        why = (
            f"{len(largest)} experts may be loaded together and their shares add up to "
            f"{sum(largest):.2f} of the GPU"
        )
        change = f"smaller shares, or a smaller {_POOL}"
        value = f"{shares[where]:g}"
        yield Finding("error", "gpu_shares", f"{where}.gpu_memory_utilization", value, why, change)


def check_remote(subject: Subject, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield whether the key of a remote expert is there; its servers are not asked."""
    name = subject.spec.api_key_env
    if name is not None and not environment.get(name):
        why = "not set in this environment: the expert does not start without it"
        change = f"set it where the server runs, for example {name}=… in its service"
        yield Finding("warning", "api_key_unset", f"{subject.where}.api_key_env", name, why, change)


def check_drafts(facts: Sequence[tuple[str, ExpertFacts]], fast: str | None) -> Iterator[Finding]:
    """Yield which experts cannot verify the fast expert's drafts."""
    found = {expert.expert_id: expert for _, expert in facts}
    reference = found.get(fast) if fast is not None else None
    if reference is None or reference.tokenizer is None:
        return
    others = [
        (where, expert.expert_id)
        for where, expert in facts
        if expert.drafts is False and expert.expert_id != fast
    ]
    if others:
        names = ", ".join(name for _, name in others)
        why = f"another tokenizer than {names}: its drafts cannot be verified token by token there"
        change = "router.fast_expert: a small model of the same family, where one should draft"
        yield Finding("info", "drafts_impossible", "router.fast_expert", str(fast), why, change)
