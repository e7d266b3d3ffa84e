"""The turns of a run as they were asked, by block and case. Values."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..workload.arms import Arm
from ..workload.plan import Block, Case
from .answer import Answer

Place = tuple[str, int, int]
"""Arm, conversation and turn."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one arm as it was asked; ``user`` counts the users of an overlapping block."""

    arm: Arm
    conversation: int
    turn: int
    user: int
    text: str
    think_s: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class BlockResult:
    """The turns of one block in the order of asking, and how long each arm took in seconds."""

    block: Block
    turns: list[Turn] = field(default_factory=list)
    spans_s: dict[str, float] = field(default_factory=dict)

    def answers(self) -> dict[Place, Answer]:
        """Return every answer by its place."""
        return {(t.arm.id, t.conversation, t.turn): t.answer for t in self.turns}


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What one case showed so far."""

    case: Case
    blocks: list[BlockResult] = field(default_factory=list)


def misrouted(turn: Turn, expert_id: str) -> bool:
    """Whether the router chose another expert than the one under test."""
    return turn.arm.routed and turn.answer.expert not in (None, expert_id)
