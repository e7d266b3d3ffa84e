"""Which replica gets a request: where its prefix is known, unless that one is overloaded.

Pure but for what it counts: no clock, no I/O, no randomness. One event loop owns an instance.

Conversations that share a long beginning are gathered on as few replicas as its part of the load
needs, so that each of those computes it once. Among them the conversation's key decides
(rendezvous hashing), and the choice holds while the conversation is remembered. A replica with more
than its share of the requests in flight takes no new conversation, and gives up those that lose
least by it (consistent hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam 2018): the
less loaded of the next two in order does (power of two choices, Mitzenmacher 2001).
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence

from .affinity import ranked

SLACK = 1.1
"""Times the mean load: more makes a replica overloaded for a new conversation."""
KNOWN_SLACK = 1.4
"""For one that would lose twice as much as is usual by going elsewhere."""
FREE_SHARE = 0.5
"""Of the requests that a replica answers together: fewer overload none."""
DEMAND_SLACK = 1.1
"""Times the mean of what replicas were asked lately: more, and new conversations go elsewhere."""
HEADROOM = 1.25
"""Times the part of the load that a shared beginning has: the replicas for it."""
FEW = 256
"""Requests before which nothing is known of the parts of the load."""
FEW_EACH = 16
"""Requests of a replica before which nothing is known of what it is asked."""
COUNTED = 4096
"""Requests after which older ones count half in the parts of the load."""
LOSSES = 256
"""Conversations over which what a move loses is averaged."""
REMEMBERED = 65_536
"""Conversations whose replica is known; beyond that the one unused for longest is forgotten."""
PREFIXES = 4096


class Placement:
    """Chooses among the equal replicas of one expert and counts what is in flight on each.

    Args:
        nodes: the replicas.
        at_a_time: requests that one of them answers together.
    """

    def __init__(self, nodes: Sequence[str], at_a_time: int = 16) -> None:
        self._nodes = tuple(nodes)
        self._free = max(1, int(at_a_time * FREE_SHARE))
        self._load: Counter[str] = Counter()
        self._lately: Counter[str] = Counter()
        self._home: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._usual_loss = 0.0
        self._orders: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._asked: Counter[str] = Counter()
        self._all_asked = 0

    def began(self, node: str) -> None:
        """A request was sent to a replica."""
        self._load[node] += 1
        self._lately[node] += 1
        if self._lately.total() >= 4 * FEW_EACH * len(self._nodes):
            self._lately = Counter({asked: n // 2 for asked, n in self._lately.items()})

    def ended(self, node: str) -> None:
        """That request is over, however it ended."""
        self._load[node] -= 1

    def load(self, node: str) -> int:
        """Return the requests in flight on a replica."""
        return self._load[node]

    def choose(
        self, key: str, prefix: str | None = None, resting: Collection[str] = (), size: int = 0
    ) -> str:
        """Return the replica for a request, and remember it for the conversation.

        Args:
            key: of the conversation.
            prefix: stands for a long beginning that others have too; None = there is none.
            resting: replicas that are not to be asked now; if all of them are, they count as well.
            size: of the request; what it has grown by since its conversation's first one is what
                another replica than the one that knows it would have to compute.
        """
        if len(self._nodes) == 1:
            return self._nodes[0]
        awake = [node for node in self._nodes if node not in resting] or self._nodes
        mean = (self._load.total() + 1) / len(awake)
        self._count(prefix)
        home, first_size = self._home.get(key, ("", size))
        slack = self._slack(max(0, size - first_size))
        if home not in awake or self._crowded(home, slack * mean):
            home = self._place(key, prefix, awake, mean)
        self._home[key] = home, first_size
        self._home.move_to_end(key)
        if len(self._home) > REMEMBERED:
            self._home.popitem(last=False)
        return home

    def _place(self, key: str, prefix: str | None, awake: Sequence[str], mean: float) -> str:
        """Return the first in order, else the less loaded of the first two that are not both full.

        Where replicas have work at all, the first one also has to have been asked no more than its
        share lately: conversations that it knows come back. Otherwise the order alone decides, in
        which all gateways agree.
        """
        order = self._order(key, prefix, awake)
        share = max(FEW_EACH, DEMAND_SLACK * self._lately.total() / len(awake))
        wanted = mean > 1.0 and self._lately[order[0]] > share
        if not wanted and not self._crowded(order[0], SLACK * mean):
            return order[0]
        for first in range(1, len(order), 2):
            node = min(order[first : first + 2], key=self._load.__getitem__)
            if not self._crowded(node, SLACK * mean):
                return node
        return min(order, key=self._load.__getitem__)

    def _crowded(self, node: str, limit: float) -> bool:
        return self._load[node] >= max(self._free, math.ceil(limit))

    def _slack(self, loss: int) -> float:
        """Return how much more than the mean a replica takes of what would lose so much."""
        self._usual_loss += (loss - self._usual_loss) / LOSSES
        part = min(1.0, loss / (2 * self._usual_loss)) if self._usual_loss else 0.0
        return SLACK + (KNOWN_SLACK - SLACK) * part

    def _order(self, key: str, prefix: str | None, awake: Sequence[str]) -> Sequence[str]:
        """Return all replicas: those that gather the shared beginning come first."""
        if prefix is None:
            return ranked(awake, key)
        known = self._orders.get(prefix)
        if known is None:
            known = self._orders[prefix] = tuple(ranked(self._nodes, prefix))
            if len(self._orders) > PREFIXES:
                self._orders.popitem(last=False)
        order = [node for node in known if node in awake]
        part = self._asked[prefix] / max(FEW, self._all_asked)
        gathering = max(1, math.ceil(part * len(order) * HEADROOM))
        return [*ranked(order[:gathering], key), *order[gathering:]]

    def _count(self, prefix: str | None) -> None:
        self._all_asked += 1
        if prefix is not None:
            self._asked[prefix] += 1
        if self._all_asked >= COUNTED:
            self._asked = Counter({known: n // 2 for known, n in self._asked.items() if n > 1})
            self._all_asked //= 2
