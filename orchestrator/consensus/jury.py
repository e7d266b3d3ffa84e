"""The experts that judge another one's segments, and what their verdicts come to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...backends.base import Expert
from ...backends.errors import ExpertError
from ..events import Vote
from .judge import ask, compare
from .segments import Segment
from .task import Start, Task, in_time

UNCLEAR = "no verdict in its answer"


@dataclass(slots=True)
class Verdict:
    """What the judges say of one segment: scores from 0 to 1, as far as they are there."""

    judges: dict[asyncio.Task[None], str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def missing(self) -> set[str]:
        """The judges that have not answered yet."""
        return {judge for task, judge in self.judges.items() if not task.done()}


class Jury:
    """Judges of one answer.

    Args:
        task: the answer.
        judges: the experts, without the author.
        weights: of their verdicts.
        start: starts tasks that end with the answer.
    """

    def __init__(
        self, task: Task, judges: Mapping[str, Expert], weights: Mapping[str, float], start: Start
    ) -> None:
        self._task = task
        self._judges = judges
        self._weights = weights
        self._start = start
        self._quorum = min(task.consensus.quorum, max(1, len(judges)))

    def begin(self, settled: str, segment: Segment) -> Verdict:
        """Ask at once every judge that has not failed before."""
        verdict = Verdict()
        for name, expert in self._judges.items():
            if self.has_failed(name):
                continue
            run = self._judge(name, expert, settled, segment, verdict)
            verdict.judges[self._start(run)] = name
        return verdict

    async def wait(self, verdict: Verdict) -> None:
        """Wait for all verdicts or the deadline; who is late then abstains."""
        consensus, clock = self._task.consensus, self._task.clock
        if not await in_time(set(verdict.judges), clock, consensus.deadline_s, self._start):
            for judge in verdict.missing:
                self._task.report.abstained[judge] = "too slow"

    def has_failed(self, judge: str) -> bool:
        """Whether it failed or was too slow; one that could not tell may be able to, later."""
        return self._task.report.abstained.get(judge, UNCLEAR) != UNCLEAR

    def is_quorate(self, verdict: Verdict) -> bool:
        """Whether enough judges could tell."""
        return len(verdict.scores) >= self._quorum

    def accepts(self, verdict: Verdict) -> bool:
        """Whether the weighted log odds are not below 0."""
        odds = (self._weights[judge] * math.log(s / (1 - s)) for judge, s in verdict.scores.items())
        return sum(odds) >= 0

    def votes(self, verdict: Verdict) -> tuple[tuple[Vote, ...], float | None]:
        """Return the verdicts as votes, and the share of the weight that accepts."""
        votes = tuple(
            Vote(judge, "accept" if score >= 0.5 else "reject", round(self._weights[judge], 4))
            for judge, score in verdict.scores.items()
        )
        whole = sum(vote.weight for vote in votes)
        accepted = sum(vote.weight for vote in votes if vote.choice == "accept")
        return votes, round(accepted / whole, 4) if whole else None

    async def _judge(
        self, name: str, expert: Expert, settled: str, segment: Segment, verdict: Verdict
    ) -> None:
        judged = ask if self._task.consensus.verdict == "ask" else compare
        try:
            score = await judged(self._task, expert, settled, segment)
        except ExpertError as error:
            self._task.report.abstained[name] = error.message
            return
        if score is None:
            self._task.report.abstained[name] = UNCLEAR
        else:
            verdict.scores[name] = score
