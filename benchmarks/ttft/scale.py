"""How much ``livemind bench ttft --quick`` asks of a processor: a model and documents that fit it.

What is computed ahead has to fit into the time of typing, and the run into minutes, on a laptop as
on a server. So a processor that prefills slowly gets a smaller model of random weights, and if none
is small enough, shorter documents. Ratios of different workloads do not compare. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...backends.machine.speeds import Speeds
from ..harness.experts import RANDOM_PARAMS, random_expert
from ..workload.plan import Plan

WHOLE_S, SCALED_S = 1.2, 0.9
"""Longest time that the products of all documents may take, by their measured speed: of the whole
workload, and of a smaller one where that takes longer. vLLM takes about 1.7 times as long."""
SIZES = (50_000_000, 25_000_000, 12_000_000, 6_000_000)
"""Smaller models to choose from, parameters."""
SHORTEST_DOCUMENTS = 100


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked on one processor, and what the largest would have taken there.

    Attributes:
        parameters: of the model with random weights.
        documents_tokens: of all documents of a question.
        whole_prefill_s: products of the whole documents on the largest model; None = not known.
        scaled: it is less than that.
    """

    parameters: int
    documents_tokens: int
    whole_prefill_s: float | None = None
    scaled: bool = False

    def told(self) -> str:
        """Return one line about it."""
        return (
            f"Scaled to this processor: {self.parameters / 1e6:g}M parameters, documents of "
            f"{self.documents_tokens} tokens; the products alone of {RANDOM_PARAMS / 1e6:g}M would "
            f"take {self.whole_prefill_s or 0:.1f} s. Compare it with runs of this workload only."
        )


def fitting(speeds: Speeds, documents_tokens: int) -> Workload:
    """Return the largest workload whose prefill is short enough at these speeds."""
    if speeds.source != "probe":
        return Workload(RANDOM_PARAMS, documents_tokens)
    per_product_s = min(speeds.prefill_ns.values()) * 1e-9
    whole_s = RANDOM_PARAMS * documents_tokens * per_product_s
    if whole_s <= WHOLE_S:
        return Workload(RANDOM_PARAMS, documents_tokens, whole_s)
    for parameters in SIZES:
        took_s = parameters * documents_tokens * per_product_s
        if took_s <= SCALED_S:
            return Workload(parameters, documents_tokens, whole_s, scaled=True)
    shorter = max(int(documents_tokens * SCALED_S / took_s), SHORTEST_DOCUMENTS)
    return Workload(SIZES[-1], min(shorter, documents_tokens), whole_s, scaled=True)


def scaled(plan: Plan, workload: Workload) -> Plan:
    """Return the plan with this workload in place of its model of random weights and documents."""
    experts = tuple(
        random_expert(workload.parameters) if expert.random_weights else expert
        for expert in plan.experts
    )
    return replace(plan, experts=experts, documents_tokens=(workload.documents_tokens,))
