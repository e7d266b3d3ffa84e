"""A fleet of replicas in virtual time: what each has cached, who waits there, who comes and goes.

A replica answers a bounded number of requests at a time, the others wait in order. Of a prompt it
computes what its prefix cache does not hold: a shared beginning and conversations, the least
recently used leave first. One key: keys do not share caches. Deterministic: all chance is the
workload's, which every policy gets alike.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from .workload import Change, Fleet, Turn


class Policy(Protocol):
    """Says where a request goes, and is told how that went; see ``Placement``."""

    def choose(self, key: str, prefix: str | None, resting: Collection[str], size: int) -> str:
        """Return the replica of a request of this conversation and this shared beginning."""

    def began(self, node: str) -> None:
        """The request is on its way."""

    def ended(self, node: str) -> None:
        """It is answered."""


@dataclass(slots=True)
class Served:
    """What became of one request.

    Attributes:
        prompt_tokens, cached_tokens: of the prompt, and of it found in the replica's cache.
        possible_tokens: that any replica would have found, had all of them one cache without end.
        ahead: requests that were at the replica when this one came.
        waited_s: until its prompt was begun.
    """

    prompt_tokens: int
    cached_tokens: int
    possible_tokens: int
    ahead: int
    waited_s: float = 0.0


@dataclass(slots=True)
class _Replica:
    running: int = 0
    waiting: deque[tuple[Turn, Served, float]] = field(default_factory=deque)
    cache: OrderedDict[str, int] = field(default_factory=OrderedDict)
    cached_tokens: int = 0

    @property
    def load(self) -> int:
        return self.running + len(self.waiting)

    def hit(self, turn: Turn) -> int:
        """Return how much of the prompt is cached; using it keeps it."""
        found = 0
        for name, limit in ((turn.prefix, turn.prefix_tokens), (turn.key, turn.prompt_tokens)):
            if name in self.cache:
                self.cache.move_to_end(name)
                found = max(found, min(self.cache[name], limit))
        return found

    def keep(self, turn: Turn, room_tokens: int) -> None:
        """Cache the prompt and its answer; the shared beginning is stored once."""
        own = turn.prompt_tokens + turn.answer_tokens
        for name, tokens in ((turn.prefix, turn.prefix_tokens), (turn.key, own)):
            self.cached_tokens -= self._own_tokens(name, self.cache.pop(name, 0), turn)
            self.cache[name] = tokens
            self.cached_tokens += self._own_tokens(name, tokens, turn)
        while self.cached_tokens > room_tokens:
            name, tokens = self.cache.popitem(last=False)
            self.cached_tokens -= self._own_tokens(name, tokens, turn)

    @staticmethod
    def _own_tokens(name: str, tokens: int, turn: Turn) -> int:
        """Return what an entry takes; a conversation's beginning may belong to another entry."""
        return tokens if name.startswith("prefix") else max(0, tokens - turn.prefix_tokens)


def play(
    turns: Sequence[Turn], changes: Sequence[Change], fleet: Fleet, policy: Policy
) -> list[Served]:
    """Return what became of each request, in the order of the requests.

    Args:
        turns: by arrival.
        changes: replicas that leave, with all they have cached, and come back empty.
        fleet: how fast a replica is and how much it holds.
        policy: decides; it sees of the replicas what a gateway sees.
    """
    replicas = {name: _Replica() for name in fleet.names}
    known: dict[str, int] = {}
    away: set[str] = set()
    served: list[Served] = []
    order = count()
    events: list[tuple[float, int, Turn | Change | str]] = []
    events += [(turn.at_s, next(order), turn) for turn in turns]
    events += [(change.at_s, next(order), change) for change in changes]
    heapq.heapify(events)

    def begin(name: str, turn: Turn, told: Served, came_s: float, now_s: float) -> None:
        replica = replicas[name]
        replica.running += 1
        told.cached_tokens = replica.hit(turn)
        told.waited_s = now_s - came_s
        computed_s = (turn.prompt_tokens - told.cached_tokens) / fleet.prefill_tokens_per_s
        replica.keep(turn, fleet.room_tokens)
        end_s = now_s + computed_s + turn.answer_tokens * fleet.token_s
        heapq.heappush(events, (end_s, next(order), name))

    while events:
        now_s, _, event = heapq.heappop(events)
        if isinstance(event, Turn):
            name = policy.choose(event.key, event.prefix, away, event.prompt_tokens)
            policy.began(name)
            told = Served(event.prompt_tokens, 0, _possible(event, known), replicas[name].load)
            served.append(told)
            if replicas[name].running < fleet.at_a_time:
                begin(name, event, told, now_s, now_s)
            else:
                replicas[name].waiting.append((event, told, now_s))
        elif isinstance(event, Change):
            away ^= {event.name}  # what it has begun it finishes
            replicas[event.name].cache.clear()
            replicas[event.name].cached_tokens = 0
        else:
            policy.ended(event)
            replicas[event].running -= 1
            if replicas[event].waiting:
                begin(event, *replicas[event].waiting.popleft(), now_s)
    return served


def _possible(turn: Turn, known: dict[str, int]) -> int:
    """Return what one cache of all replicas, without end, would hold of a prompt; note the rest."""
    beginning = known.get(turn.prefix, 0)
    found = max(beginning, min(known.get(turn.key, 0), turn.prompt_tokens))
    known[turn.prefix] = turn.prefix_tokens
    known[turn.key] = turn.prompt_tokens + turn.answer_tokens
    return found
