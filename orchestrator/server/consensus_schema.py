"""The field ``consensus`` of every door: the name of a policy, or an object."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Struct
from msgspec.structs import asdict, replace
from pydantic import BeforeValidator, Field

from ..consensus.options import AnswerForm, Consensus, Gate, PolicyName, Verdict
from .strict import Strict

MAX_LABELS = 256


class ConsensusRequest(Strict):
    """What a request says about consensus; what it leaves out is as configured."""

    policy: PolicyName | None = None
    experts: list[str] | None = Field(None, max_length=64)
    deadline_ms: float | None = Field(None, gt=0, le=600_000)
    quorum: int | None = Field(None, ge=1, le=64)
    gate: Gate | None = None
    verdict: Verdict | None = None
    answer: AnswerForm | None = None
    labels: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(
        None, max_length=MAX_LABELS
    )

    def onto(self, base: Consensus) -> Consensus:
        """Return ``base`` with the fields of this request."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name in self.model_fields_set
            if (value := getattr(self, name)) is not None
        }
        if "deadline_ms" in given:
            given["deadline_s"] = given.pop("deadline_ms") / 1000
        return replace(base, **given)


def _named(value: object) -> object:
    return {"policy": value} if isinstance(value, str) else value


ConsensusField = Annotated[
    ConsensusRequest | None,
    BeforeValidator(_named, json_schema_input_type=PolicyName | ConsensusRequest | None),
]


class ConsensusInForce(Struct, frozen=True):
    """How the answers of a session are settled, in the names of a request."""

    policy: PolicyName
    experts: tuple[str, ...]
    answer: AnswerForm
    labels: tuple[str, ...]
    quorum: int
    gate: Gate
    verdict: Verdict
    deadline_ms: float


def in_force(consensus: Consensus) -> ConsensusInForce:
    """Return the options as a request would say it."""
    values = asdict(consensus)
    deadline_s = values.pop("deadline_s")
    return ConsensusInForce(**values, deadline_ms=deadline_s * 1000)
