"""A circuit breaker: after repeated failures, stop asking for a while."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Closed (ask), open (do not ask), half-open (one may try, the others wait for its outcome)."""

    def __init__(
        self, failures: int, cool_down_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start closed.

        Args:
            failures: consecutive failures that open it, >= 1.
            cool_down_s: seconds from opening to the next try, and between tries.
            clock: monotonic seconds.
        """
        if failures < 1 or cool_down_s < 0:
            raise ValueError(f"failures {failures} must be >= 1, cool_down_s {cool_down_s} >= 0")
        self._limit = failures
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._failures = 0
        self._retry_at_s: float | None = None

    @property
    def open(self) -> bool:
        """Whether it has opened and no try has succeeded since."""
        return self._retry_at_s is not None

    def allows(self) -> bool:
        """Return whether to ask now; a yes must be followed by one of the three outcomes."""
        if self._retry_at_s is None:
            return True
        now = self._clock()
        if now < self._retry_at_s:
            return False
        self._retry_at_s = now + self._cool_down_s
        return True

    def succeeded(self) -> None:
        """Close it."""
        self._failures = 0
        self._retry_at_s = None

    def failed(self) -> None:
        """Count a failure; open it when it is one too many."""
        self._failures += 1
        if self._failures >= self._limit:
            self._retry_at_s = self._clock() + self._cool_down_s

    def abandoned(self) -> None:
        """Let the next one try when an open breaker's try was cancelled without an outcome."""
        if self._retry_at_s is not None:
            self._retry_at_s = self._clock()
