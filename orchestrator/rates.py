"""How fast an expert is, learned from what it does: a line through its prefill steps, decode."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

from ..backends.base import PrefillResult

SMOOTHING = 0.3
MIN_RATE_TOKENS = 32
UNMEASURED_SLICE_TOKENS = 64
REMEMBERED_STEPS = 16
COMFORTABLE = 0.9


@dataclass(slots=True)
class ExpertRates:
    """Measured speed of one expert, None until measured.

    A step of the engine costs something whatever it computes, and ``prefill_ms_per_token`` for each
    prompt token on top. Both are the line through the newest steps by Theil and Sen, which one slow
    step does not bend; until two sizes were seen the fixed part is taken for a decode step.

    Attributes:
        prefill_ms_per_token: of a prompt token that is not cached.
        decode_ms: from one token of an answer to the next, with whatever else the engine has to do;
            an exponential mean.
        step_ms: what a prefill step costs beside its tokens.
    """

    prefill_ms_per_token: float | None = None
    decode_ms: float | None = None
    step_ms: float | None = None
    _steps: deque[tuple[int, float]] = field(
        default_factory=lambda: deque(maxlen=REMEMBERED_STEPS), repr=False
    )

    def saw_prefill(self, result: PrefillResult) -> None:
        """Learn from a prefill step that computed enough tokens to mean something."""
        if result.computed < MIN_RATE_TOKENS:
            return
        self._steps.append((result.computed, result.ms))
        whole = min(ms / tokens for tokens, ms in self._steps)
        rate = _slope(self._steps)
        if rate is None and len(self._steps) > 1:  # it has settled on one size
            rate = self.prefill_ms_per_token
        if rate is None:  # the decode step may have been timed under load
            rate = max(whole - (self.decode_ms or 0.0) / result.computed, whole / 2)
        rate = min(max(rate, whole / 4), whole)
        self.prefill_ms_per_token = rate
        self.step_ms = max(0.0, median(ms - rate * tokens for tokens, ms in self._steps))

    def tokens_within(self, limit_ms: float, block: int = 1) -> int:
        """Return how many prompt tokens one step computes within a time; a guess if unmeasured.

        A step that was comfortably within it may be followed by one of a ``block`` more: only
        larger steps tell what they cost. Where half of the time would go into what any step costs,
        the step may take twice that and a block more, at most twice the limit.
        """
        rate = self.prefill_ms_per_token
        if rate is None:
            return UNMEASURED_SLICE_TOKENS
        step_ms = (self.decode_ms or 0.0) if self.step_ms is None else self.step_ms
        enough_ms = min(2 * step_ms + block * rate, 2 * limit_ms)
        tokens = int((max(limit_ms, enough_ms) - step_ms) / max(rate, 1e-6))
        if not self._steps:
            return max(0, tokens)
        newest, ms = self._steps[-1]
        if ms <= COMFORTABLE * limit_ms:
            tokens = max(tokens, newest + block)
        return min(max(0, tokens), 2 * max(MIN_RATE_TOKENS, *(size for size, _ in self._steps)))

    def saw_decode(self, ms: float) -> None:
        """Learn from the time between two tokens of a stream."""
        self.decode_ms = _smooth(self.decode_ms, ms)

    def ttft_ms(self, prompt_tokens: int) -> float | None:
        """Return the time to first token of an uncached prompt, None until both were measured."""
        if self.prefill_ms_per_token is None or self.decode_ms is None:
            return None
        return prompt_tokens * self.prefill_ms_per_token + self.decode_ms


class DecodeClock:
    """Learns the decode step of an expert from one of its streams.

    Args:
        rates: of the expert; None = nothing is learned.
    """

    def __init__(self, rates: ExpertRates | None) -> None:
        self._rates = rates
        self._last_s: float | None = None

    def saw(self, tokens: int, now_s: float) -> None:
        """A piece of so many tokens came; how long a token takes is told by one that comes alone.

        Tokens that were drafted come together and are not to be passed on as single ones.
        """
        if self._rates is None:
            return
        if tokens == 1 and self._last_s is not None:
            self._rates.saw_decode((now_s - self._last_s) * 1000)
        self._last_s = now_s


def _smooth(mean: float | None, value: float) -> float:
    return value if mean is None else (1 - SMOOTHING) * mean + SMOOTHING * value


def _slope(steps: Sequence[tuple[int, float]]) -> float | None:
    """Return the median slope between two steps that differ in size, None if none do."""
    pairs = combinations(steps, 2)
    found = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs if abs(b[0] - a[0]) >= MIN_RATE_TOKENS]
    return median(found) if found else None
