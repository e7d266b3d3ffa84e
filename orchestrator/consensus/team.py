"""What is known of the experts before anybody is asked: who is fast, who knows which domain.

Pure. Weights follow from measured accuracy: an expert that is right with probability p has the
weight log(p / (1 - p)), the optimal one for independent voters (Nitzan and Paroush 1982,
doi:10.2307/2526438).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

UNMEASURED_ACCURACY = 0.7
WORTH_ASKING = 0.5
_LEAST, _MOST = 0.51, 0.99


@dataclass(frozen=True, slots=True)
class Team:
    """The experts of a configuration.

    Attributes:
        domains: the domain of each expert.
        fast: the fast expert, None without one.
        accuracy: expert → domain → share of right answers, as far as it was measured.
    """

    domains: Mapping[str, str] = field(default_factory=dict)
    fast: str | None = None
    accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def weight(self, expert: str, domain: str) -> float:
        """Return the weight of an expert's vote on a question of this domain; above 0."""
        share = self.accuracy.get(expert, {}).get(domain, UNMEASURED_ACCURACY)
        share = min(max(share, _LEAST), _MOST)
        return math.log(share / (1 - share))

    def others(self, leader: str) -> tuple[str, ...]:
        """Return who else knows the leader's domain, the most accurate first.

        Those measured to be right more often than not; where nobody was measured those of the same
        domain, and the fast expert.
        """
        domain = self.domains.get(leader, "")
        known = {e: shares[domain] for e, shares in self.accuracy.items() if domain in shares}
        found = [e for e in self.domains if e != leader and self._may_know(e, domain, known)]
        return tuple(sorted(found, key=lambda e: -known.get(e, UNMEASURED_ACCURACY)))

    def _may_know(self, expert: str, domain: str, known: Mapping[str, float]) -> bool:
        if expert in known:
            return known[expert] > WORTH_ASKING
        return expert == self.fast or self.domains[expert] == domain
