"""What one key may use per minute, in tokens: a bucket that may be overdrawn.

How long an answer gets is not known before it is there, so a request starts as soon as nothing is
owed. It pays its prompt at once and its answer as that comes.
"""

from __future__ import annotations

import asyncio

MINUTE_S = 60.0


class TokenBudget:
    """``per_minute`` tokens a minute, as many at once after a minute of silence. One event loop."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._left = float(per_minute)
        self._at_s: float | None = None
        self._first = asyncio.Lock()

    def use(self, tokens: int) -> None:
        """Take so many tokens out, whether they are there or not; negative: give them back."""
        self._refill()
        self._left -= tokens

    def wait_s(self) -> float:
        """Return in how many seconds nothing is owed any more; 0: now."""
        self._refill()
        return max(0.0, -self._left) * MINUTE_S / self.per_minute

    async def pay(self, tokens: int) -> None:
        """Wait until nothing is owed, then use so many; one after another, in order."""
        async with self._first:
            while (wait_s := self.wait_s()) > 0:  # noqa: ASYNC110 - time is what is waited for
                await asyncio.sleep(wait_s)
            self.use(tokens)

    def _refill(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._at_s is not None:
            come = (now_s - self._at_s) * self.per_minute / MINUTE_S
            self._left = min(float(self.per_minute), self._left + come)
        self._at_s = now_s
