"""`draft`: the routed expert's own answer, several tokens per step along a draft.

The draft is what an earlier draft of this turn said, or what the fast expert says while both
decode. It changes how fast the answer comes, not what it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from typing import TYPE_CHECKING

from ...backends.base import Chunk
from ...backends.drafts import DraftFeed
from ..gate import SpeculationGate
from .first import write_alone
from .follow import Follower, pays
from .guess import may_be_drafted
from .panel import Panel
from .task import Task, helpers, question_of

if TYPE_CHECKING:
    from ..turn.shared import Shared


async def write_drafted(task: Task, panel: Panel, shared: Shared) -> AsyncGenerator[Chunk, None]:
    """Pass the routed expert's answer on as it comes; a fast expert may draft beside it."""
    capabilities = panel.experts[task.leader].capabilities
    guess: tuple[int, ...] = ()
    follower = None
    if may_be_drafted(task.params, capabilities):
        if task.guess is not None:
            guess = task.guess.for_(question_of(task.messages), task.leader, capabilities)
        if not guess:
            follower = _follower(task, panel, shared)
    if follower is None:
        stream = write_alone(task, panel, DraftFeed.of(guess) if guess else None)
        async with aclosing(stream):
            async for chunk in stream:
                yield chunk
        return
    async with helpers() as start, aclosing(write_alone(task, panel, follower.feed)) as stream:
        start(_beside(follower, panel, shared.gate))
        try:
            async for chunk in stream:
                follower.saw(chunk.token_ids)
                yield chunk
        finally:
            accepted, rejected = follower.accepted_and_rejected()
            shared.acceptances[follower.expert_id, task.leader].saw(accepted, rejected)


def _follower(task: Task, panel: Panel, shared: Shared) -> Follower | None:
    """Return who drafts beside the leader, None if nobody can or should."""
    name = shared.team.fast
    if name is None or name == task.leader:
        return None
    fast, leader = shared.pool.ready(name), panel.experts[task.leader].capabilities
    reason = None
    if fast is None:
        reason = "not loaded"
    elif leader.tokenizer_id is None or fast.capabilities.tokenizer_id != leader.tokenizer_id:
        reason = "another tokenizer"
    if reason is not None and task.consensus.policy == "draft":
        task.report.abstained[name] = reason
    if fast is None or reason is not None:
        return None
    rates, hidden = shared.rates, not task.clock.has_begun
    acceptance = shared.acceptances[name, task.leader]
    if not pays(rates[name], rates[task.leader], acceptance, hidden=hidden):
        return None
    group = fast.capabilities.compute_group
    if group != leader.compute_group and shared.gate.busy(group):
        return None
    return Follower(task, name, group, shared.pool, rates[name])


async def _beside(follower: Follower, panel: Panel, gate: SpeculationGate) -> None:
    """Let it draft; on other hardware than the answer's, as a guest."""
    drafting = asyncio.current_task()
    assert drafting is not None
    with ExitStack() as stack:
        if follower.compute_group not in panel.groups:
            stack.enter_context(gate.guest(follower.compute_group, drafting.cancel))
        await follower.run()
