"""How many of a limited number one owner may hold: dynamic thresholds (Choudhury and Hahne, 1998).

An owner may hold up to a multiple of what is free. So one alone gets most of it, several get equal
parts, and there is always something left for whoever comes next. No queue, no reservation.
"""

from __future__ import annotations

from collections import Counter

GENEROSITY = 3


class Shares:
    """Places held by owners, at most ``limit`` together. One event loop's thread."""

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit
        self._of: Counter[str] = Counter()

    def share(self, owner: str) -> int:
        """Return how many places the owner may hold now; 1 at least where one is free."""
        free = self._limit - self.held
        return max(GENEROSITY * free, 1) if free > 0 else 0

    def full(self, owner: str | None) -> bool:
        """Return whether the owner may take no further place; None: whoever is nobody special."""
        if self.held >= self._limit:
            return True
        return owner is not None and self._of[owner] >= self.share(owner)

    def of(self, owner: str) -> int:
        """Return how many places the owner holds."""
        return self._of[owner]

    def take(self, owner: str | None) -> None:
        """Count a place in."""
        self.held += 1
        if owner is not None:
            self._of[owner] += 1

    def give_back(self, owner: str | None) -> None:
        """Count a place out."""
        self.held -= 1
        if owner is not None:
            self._of[owner] -= 1
            if not self._of[owner]:
                del self._of[owner]
