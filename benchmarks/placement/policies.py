"""What placement is held against: the ways in which a balancer spreads requests."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from ...backends.remote.affinity import ranked
from ...backends.remote.placement import Placement
from .simulation import Policy


class Spread(ABC):
    """Counts what is in flight; ``pick`` chooses of those that are there."""

    def __init__(self, nodes: Sequence[str], at_a_time: int) -> None:
        self._nodes = nodes
        self._load: Counter[str] = Counter()

    def choose(self, key: str, prefix: str | None, resting: Collection[str], size: int) -> str:
        """Return a replica that is there."""
        return self._pick([node for node in self._nodes if node not in resting], key)

    def began(self, node: str) -> None:
        """Count a request."""
        self._load[node] += 1

    def ended(self, node: str) -> None:
        """Count it no more."""
        self._load[node] -= 1

    @abstractmethod
    def _pick(self, nodes: Sequence[str], key: str) -> str:
        """Return one of these replicas."""


class Random(Spread):
    """Any replica."""

    def __init__(self, nodes: Sequence[str], at_a_time: int) -> None:
        super().__init__(nodes, at_a_time)
        self._chance = random.Random(0)

    def _pick(self, nodes: Sequence[str], key: str) -> str:
        return self._chance.choice(nodes)


class RoundRobin(Spread):
    """One after the other."""

    def __init__(self, nodes: Sequence[str], at_a_time: int) -> None:
        super().__init__(nodes, at_a_time)
        self._asked = 0

    def _pick(self, nodes: Sequence[str], key: str) -> str:
        self._asked += 1
        return nodes[self._asked % len(nodes)]


class LeastLoaded(Spread):
    """The one with the fewest requests in flight; among equals any, as the key decides."""

    def _pick(self, nodes: Sequence[str], key: str) -> str:
        least = min(self._load[node] for node in nodes)
        return ranked([node for node in nodes if self._load[node] == least], key)[0]


class Rendezvous(Spread):
    """The one that the conversation's key names, however loaded it is."""

    def _pick(self, nodes: Sequence[str], key: str) -> str:
        return ranked(nodes, key)[0]


POLICIES: dict[str, Callable[[Sequence[str], int], Policy]] = {
    "random": Random,
    "round robin": RoundRobin,
    "least loaded": LeastLoaded,
    "rendezvous": Rendezvous,
    "placement": Placement,
}
