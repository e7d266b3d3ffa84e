"""How fast an expert is, learned from what it does: prefill and decode, as exponential means."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.base import PrefillResult

SMOOTHING = 0.3
MIN_RATE_TOKENS = 32
UNMEASURED_SLICE_TOKENS = 64


@dataclass(slots=True)
class ExpertRates:
    """Measured speed of one expert: exponential means, None until measured.

    A step of the engine costs about what a decode step costs, whatever it computes, and
    ``prefill_ms_per_token`` for each prompt token on top.

    Attributes:
        prefill_ms_per_token: of a prompt token that is not cached.
        decode_ms: from one token of an answer to the next, with whatever else the engine has to do.
    """

    prefill_ms_per_token: float | None = None
    decode_ms: float | None = None

    def saw_prefill(self, result: PrefillResult) -> None:
        """Learn from a prefill step that computed enough tokens to mean something."""
        if result.computed >= MIN_RATE_TOKENS:
            whole = result.ms / result.computed
            fixed = (self.decode_ms or 0.0) / result.computed
            rate = max(whole - fixed, whole / 2)  # the decode step may have been timed under load
            self.prefill_ms_per_token = _smooth(self.prefill_ms_per_token, rate)

    def tokens_within(self, limit_ms: float) -> int:
        """Return how many prompt tokens one step computes within a time; a guess if unmeasured."""
        if self.prefill_ms_per_token is None:
            return UNMEASURED_SLICE_TOKENS
        left_ms = limit_ms - (self.decode_ms or 0.0)
        return max(0, int(left_ms / max(self.prefill_ms_per_token, 1e-6)))

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
