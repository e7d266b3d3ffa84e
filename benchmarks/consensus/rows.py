"""One turn as the consensus benchmark keeps it, and its form in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..figures.answer import Json
from ..figures.identity import Verdict
from .ask import Asked
from .questions import Question

NOT_HEARD = "not heard"
"""How the reason of an expert begins whose vote could not change the result any more."""


@dataclass(frozen=True, slots=True)
class Row:
    """One turn; None = not known, or not asked for in its part.

    Attributes:
        part: ``validation``, ``accuracy``, ``identical``, ``pairs``, ``mix`` or ``typed``.
        arm: a policy, ``samples``, or ``alone.EXPERT``; in ``mix`` ``alone``, without drafts.
        question: its number within the part.
        kind: ``identical`` and ``pairs``: what stood there before the whole question; ``mix``: how
            it was typed.
        ttft_ms, total_ms: from the commit.
        generated_tokens: by all experts, shown or not.
        before_commit: the first piece of the answer was settled by then.
        abstained: experts that could not take part; not those that were not needed.
        verdict: of the text against the routed expert's alone.
    """

    part: str
    arm: str
    set: str
    domain: str
    leader: str
    question: int
    outcome: str
    kind: str | None = None
    error: str | None = None
    right: bool | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    shown_tokens: int | None = None
    generated_tokens: int | None = None
    accepted_tokens: int | None = None
    rejected_tokens: int | None = None
    authors: tuple[str, ...] = ()
    settled_by: tuple[str, ...] = ()
    before_commit: bool | None = None
    abstained: tuple[str, ...] = ()
    verdict: Verdict | None = None

    @property
    def completed(self) -> bool:
        """Whether the answer is whole."""
        return self.outcome == "completed"

    def as_json(self) -> Json:
        """Return the row without what is not known."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in found.items() if value not in (None, ())}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Row:
        """Return the row that ``as_json`` wrote.

        Raises:
            TypeError: a field is missing or unknown.
        """
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
        }
        return cls(**known)


def row(part: str, arm: str, question: Question, asked: Asked, *, kind: str | None = None) -> Row:
    """Return the row of one turn; whether it was right is for the caller to say."""
    record = asked.record
    spans = record.spans if record is not None else ()
    away = record.abstained if record is not None else ()
    return Row(
        part,
        arm,
        question.kind,
        question.domain,
        question.leader,
        question.number,
        asked.outcome,
        kind,
        asked.error,
        None,
        asked.ttft_ms,
        asked.total_ms,
        asked.shown_tokens,
        record.generated_tokens if record is not None else None,
        record.drafted_tokens_accepted if record is not None else None,
        record.drafted_tokens_rejected if record is not None else None,
        tuple(dict.fromkeys(span.author for span in spans)),
        tuple(dict.fromkeys(span.settled_by for span in spans)),
        spans[0].before_commit if spans else None,
        tuple(one.expert for one in away if not one.reason.startswith(NOT_HEARD)),
    )
