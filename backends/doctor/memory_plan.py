"""Which experts fit into memory together, and which take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .findings import ExpertFacts, MemoryPlan


def make_plan(
    experts: Sequence[ExpertFacts],
    *,
    memory: int,
    threshold: float,
    loaded_at_most: int,
    warm: Sequence[str],
) -> MemoryPlan:
    """Return the plan.

    Args:
        experts: all of them; remote ones take no memory here.
        memory: of the machine, bytes.
        threshold: share of it that may be used.
        loaded_at_most: local experts in memory at a time.
        warm: ids that are loaded at the start and kept, most important first.
    """
    budget = int(memory * threshold)
    local = [expert for expert in experts if expert.kind != "remote"]
    sizes = {e.expert_id: e.memory_bytes for e in local if e.memory_bytes is not None}
    unknown = tuple(e.expert_id for e in local if e.memory_bytes is None)
    most = min(loaded_at_most, len(local))
    kept = tuple(expert_id for expert_id in warm if expert_id in {e.expert_id for e in local})
    others = tuple(e.expert_id for e in local if e.expert_id not in kept)
    worst = heaviest(sizes, kept, most)
    total = sum(sizes.values())
    descending = sorted(sizes.values(), reverse=True)
    safe = max((n for n in range(len(descending) + 1) if sum(descending[:n]) <= budget), default=0)
    return MemoryPlan(
        memory_bytes=memory,
        budget_bytes=budget,
        all_bytes=total,
        all_fit=_known(total <= budget, unknown),
        loaded_at_most=most,
        worst_bytes=sum(sizes[name] for name in worst),
        worst=worst,
        fits=_known(sum(sizes[name] for name in worst) <= budget, unknown),
        safe_loaded=safe,
        kept=kept if len(local) > most else tuple(e.expert_id for e in local),
        swapped=others if len(local) > most else (),
        unknown=unknown,
    )


def heaviest(sizes: Mapping[str, int], kept: Sequence[str], most: int) -> tuple[str, ...]:
    """Return the heaviest set of at most ``most``: the kept ones, and the largest others."""
    always = [name for name in kept if name in sizes][:most]
    rest = sorted((name for name in sizes if name not in always), key=lambda name: -sizes[name])
    return (*always, *rest[: max(most - len(always), 0)])


def _known(fits: bool, unknown: Sequence[str]) -> bool | None:
    """Return False also with unknown sizes, as more would not help; True only without."""
    return None if fits and unknown else fits
