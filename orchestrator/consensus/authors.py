"""From the options of consensus to whoever writes the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from ...backends.base import Capabilities, Chunk
from ...backends.pool.pool import Pool
from .draft import write_drafted
from .first import write_alone
from .options import Consensus, PolicyName
from .panel import Panel, convene
from .task import Task
from .team import Team
from .verify import write_verified
from .vote import write_voted

if TYPE_CHECKING:
    from ..turn.shared import Shared


def convened(
    pool: Pool, team: Team, leader: str, consensus: Consensus
) -> AbstractAsyncContextManager[Panel]:
    """Hold the leader and the experts that have a say in the answer; see ``convene``."""
    fast = (team.fast,) if team.fast is not None else ()
    others: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    match consensus.policy:
        case "auto" | "first" | "draft":  # a drafting fast expert is held while it drafts
            pass
        case "verify":
            others, instead = (*fast, *(consensus.experts or team.others(leader))), fast
        case "vote":
            others = instead = consensus.experts or team.others(leader)
    wanted = [expert for expert in dict.fromkeys(others) if expert != leader]
    return convene(
        pool,
        leader,
        wanted,
        instead=[expert for expert in instead if expert != leader],
        patience_s=consensus.deadline_s,
        wake=bool(consensus.experts),
    )


def policy_of(consensus: Consensus, leader: Capabilities | None) -> PolicyName:
    """Return the policy that is meant, given what the leader can do; None: it is not there."""
    if consensus.policy != "auto":
        return consensus.policy
    return "draft" if leader is not None and leader.drafts else "first"


def write(task: Task, panel: Panel, shared: Shared) -> AsyncGenerator[Chunk, None]:
    """Return the answer as it is settled: chunks as ``Expert.generate`` yields them.

    Closing the iterator stops every expert that works on it. Raises ExpertError when no expert
    that could have answered did.
    """
    leader = panel.experts.get(task.leader)
    policy = policy_of(task.consensus, leader.capabilities if leader is not None else None)
    task.report.policy = policy
    match policy:
        case "vote":
            return write_voted(task, panel, shared.team)
        case "draft":
            return write_drafted(task, panel, shared)
        case "verify":
            return write_verified(task, panel, shared)
        case _:
            return write_alone(task, panel)


def is_continuable(consensus: Consensus) -> bool:
    """Return whether an answer that was broken off goes on as it would have without the break."""
    return consensus.policy in ("auto", "first", "draft")
