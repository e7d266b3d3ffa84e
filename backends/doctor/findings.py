"""What the doctor says: findings, the facts of one expert, the plan for the machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SCHEMA = "livemind.check/1"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know.

    Attributes:
        severity: error = it will not start or not answer; warning = it starts, but not as meant.
        code: what kind of thing, for scripts.
        where: the key of the configuration, such as ``experts[2].dtype``.
        value: what stands there or was found, as text.
        why: what follows from it.
        change: what to write instead; empty if there is nothing to change.
    """

    severity: Severity
    code: str
    where: str
    value: str
    why: str
    change: str = ""


@dataclass(frozen=True, slots=True)
class ExpertFacts:
    """What the files of one expert say; None where they do not.

    Attributes:
        parameters: number of weights; with packed formats of the unpacked weights, if known.
        weights_bytes: in memory, in the dtype that the engine will use.
        weights_text: how that comes about, in words.
        kv_bytes_per_token: of a short context; sliding windows make long ones cheaper.
        kv_pool_bytes: what the engine sets aside for the KV cache.
        context_limit: the model's own, tokens.
        largest_model_len: longest context whose KV cache fits the pool, tokens.
        sequences_at_limit: how many requests of ``max_model_len`` fit the pool together.
        memory_bytes: everything that the running engine takes.
        drafts: its tokenizer is the fast expert's, so that drafts can be verified.
    """

    expert_id: str
    kind: str
    source: str
    architecture: str | None = None
    supported: bool | None = None
    dtype: str | None = None
    quantization: str | None = None
    parameters: int | None = None
    weights_bytes: int | None = None
    weights_estimated: bool = False
    weights_text: str = ""
    kv_bytes_per_token: int | None = None
    kv_pool_bytes: int | None = None
    context_limit: int | None = None
    max_model_len: int | None = None
    largest_model_len: int | None = None
    sequences_at_limit: int | None = None
    memory_bytes: int | None = None
    chat_template: bool | None = None
    sees_images: bool | None = None
    tokenizer: str | None = None
    drafts: bool | None = None


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What is in memory when; bytes. Remote experts take none.

    Attributes:
        budget_bytes: ``memory_threshold`` of the machine's memory.
        all_bytes: every local expert at once.
        all_fit: whether that is within the budget; None while a size is unknown.
        loaded_at_most: experts in memory at a time, by the configuration.
        worst_bytes: the largest set the pool may hold.
        worst: its members.
        fits: whether that is within the budget.
        safe_loaded: how many experts may be in memory whichever they are; 0 = one is too large.
        kept: loaded at the start and kept.
        swapped: share the places that are left, loaded on demand.
        unknown: experts without a known size; not counted above.
    """

    memory_bytes: int
    budget_bytes: int
    all_bytes: int
    all_fit: bool | None
    loaded_at_most: int
    worst_bytes: int
    worst: tuple[str, ...]
    fits: bool | None
    safe_loaded: int
    kept: tuple[str, ...]
    swapped: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Examination:
    """Everything, in the order of the configuration."""

    experts: tuple[ExpertFacts, ...] = ()
    findings: tuple[Finding, ...] = ()
    plan: MemoryPlan | None = None
    vllm: str | None = None

    def count(self, severity: Severity) -> int:
        """Return how many findings are of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_json(self, config: str) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "schema": SCHEMA,
            "config": config,
            "vllm": self.vllm,
            "summary": {name: self.count(name) for name in ("error", "warning", "info")},
            "findings": [asdict(finding) for finding in self.findings],
            "experts": [asdict(expert) for expert in self.experts],
            "plan": None if self.plan is None else asdict(self.plan),
        }


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, errors first, else in their order."""
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda finding: rank[finding.severity])
