"""`vote`: experts answer a closed question, and the answer with the most weight is given.

Owns the count. Answers, or the calls that they make, are compared in their canonical form
(``canonical.py``), weighed by what their experts were measured to know (``team.py``) times how sure
they are of this answer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from msgspec.structs import replace

from ...backends.base import Chunk, Expert, joined
from ...backends.errors import ExpertError, ExpertUnavailable
from ...backends.messages import joined_calls
from ..events import Settled, Vote
from .canonical import canonical, canonical_calls
from .one_author import why_not_its_tokens
from .panel import Panel
from .report import SettledSpan
from .task import Task, helpers, now_s, request, tokens_of
from .team import Team

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ballot:
    """One expert's answer.

    Attributes:
        most: the weight it can have.
        weight: the weight it has; 0 until it is known and for an abstention.
        vote: the answer in canonical form, None = abstains.
    """

    expert: str
    most: float
    weight: float = 0.0
    vote: str | None = None
    answer: Chunk | None = None
    began_s: float = 0.0
    error: ExpertError | None = None
    cast: bool = False


def leading(ballots: Sequence[Ballot]) -> tuple[str | None, float, float]:
    """Return the vote with the most weight, its weight and that of the best other one.

    Of votes with equal weight the one of the earlier ballot leads.
    """
    sums: dict[str, float] = {}
    for ballot in ballots:
        if ballot.vote is not None:
            sums[ballot.vote] = sums.get(ballot.vote, 0.0) + ballot.weight
    ranked = sorted(sums.items(), key=lambda item: -item[1])
    if not ranked:
        return None, 0.0, 0.0
    return *ranked[0], ranked[1][1] if len(ranked) > 1 else 0.0


def winner(ballots: Sequence[Ballot]) -> Ballot | None:
    """Return the ballot whose words are the answer, None while that may change.

    Ballots are in the order of precedence. The answer is decided once no rival can win with all
    the weight that is still out, and its words once every earlier ballot was cast: so neither
    depends on who was faster.
    """
    vote, weight, rival = leading(ballots)
    out = sum(ballot.most for ballot in ballots if not ballot.cast)
    if vote is None or (out and weight <= rival + out):
        return None
    for ballot in ballots:
        if not ballot.cast:
            return None
        if ballot.vote == vote:
            return ballot
    return None


async def write_voted(task: Task, panel: Panel, team: Team) -> AsyncGenerator[Chunk, None]:
    """Ask all experts of the panel at once and yield the winning answer in one piece."""
    report = task.report
    domain = team.domains.get(task.leader, "")
    report.abstained.update(panel.absent)
    leader = panel.experts.get(task.leader)
    spoken = leader.capabilities if leader is not None else None
    ballots = []
    for name, expert in panel.experts.items():
        reason = why_not_its_tokens(task.params, expert.capabilities, spoken)
        if reason is None:
            ballots.append(Ballot(name, team.weight(name, domain)))
        else:
            report.abstained[name] = reason
    async with helpers() as start:
        voters = {
            start(_cast(ballot, task, panel.experts[ballot.expert])): ballot for ballot in ballots
        }
        late = start(task.clock.reached(task.consensus.deadline_s))
        settled_by: Settled = "quorum"
        chosen = None
        while chosen is None and voters:
            awaited = set(voters) if late.done() else {*voters, late}
            done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            for voter in done & voters.keys():
                voters.pop(voter).cast = True
            chosen = winner(ballots)
            if chosen is None and late.done() and any(b.answer is not None for b in ballots):
                settled_by = "deadline"
                break
    if chosen is None:
        vote, _, _ = leading(ballots)
        answered = [ballot for ballot in ballots if ballot.answer is not None]
        chosen = next((b for b in answered if b.vote == vote), None)
        if vote is None:
            settled_by = "leader"
    if chosen is None or chosen.answer is None:
        errors = [panel.failure, *(ballot.error for ballot in ballots)]
        unheard = ExpertUnavailable(task.leader, "no expert gave an answer")
        raise next((error for error in errors if error is not None), unheard)
    _record(task, ballots, chosen, settled_by)
    report.settle(chosen.expert, tokens_of(chosen.answer))
    yield chosen.answer


async def _cast(ballot: Ballot, task: Task, expert: Expert) -> None:
    """Let one expert answer; whatever goes wrong is an abstention."""
    try:
        await _answer(ballot, task, expert)
    except ExpertError as error:
        ballot.error = error
        task.report.abstained[ballot.expert] = error.message
    except Exception as error:
        log.error("a vote failed: %s", type(error).__name__)
        task.report.abstained[ballot.expert] = "failed"


async def _answer(ballot: Ballot, task: Task, expert: Expert) -> None:
    params = task.params
    if expert.capabilities.logprobs and params.logprobs is None:
        params = replace(params, logprobs=0)
    prompt = (task.prompt if ballot.expert == task.leader else None) or await task.rendered(expert)
    stream = request(task, expert, prompt, params)
    chunks: list[Chunk] = []
    async with aclosing(stream):
        async for chunk in stream:
            if not chunks:
                ballot.began_s = now_s()
            chunks.append(chunk)
            task.report.saw_aside(ballot.expert, tokens_of(chunk))
    answer = joined(chunks)
    logprobs = answer.logprobs or ()
    ballot.answer = replace(answer, logprobs=logprobs if task.params.logprobs is not None else None)
    wanted: str = task.consensus.answer
    if answer.tool_calls:
        wanted = "JSON in the arguments of a call"
        ballot.vote = canonical_calls(joined_calls(answer.tool_calls))
    else:
        ballot.vote = canonical(answer.text, task.consensus.answer, task.consensus.labels)
    if ballot.vote is None:
        task.report.abstained[ballot.expert] = f"no {wanted} in its answer"
        return
    sure = min((entry.logprob for entry in logprobs), default=0.0)
    ballot.weight = ballot.most * math.exp(sure)


def _record(task: Task, ballots: Sequence[Ballot], chosen: Ballot, settled_by: Settled) -> None:
    assert chosen.answer is not None
    votes = [ballot for ballot in ballots if ballot.vote is not None]
    whole = sum(ballot.weight for ballot in votes)
    won = sum(ballot.weight for ballot in votes if ballot.vote == chosen.vote)
    for ballot in ballots:
        if not ballot.cast:
            task.report.abstained.setdefault(ballot.expert, f"not heard ({settled_by})")
    span = SettledSpan(
        chosen.expert,
        settled_by,
        chosen.began_s,
        now_s(),
        tuple(Vote(b.expert, b.vote or "", round(b.weight, 4)) for b in votes),
        round(won / whole, 4) if whole and chosen.vote is not None else None,
    )
    task.report.spans.append(span)
