"""What decides before the classifier is asked: images, length, language.

Each signal narrows the candidates or names the domain, and says so in the reasons of the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence

HARD_LANGUAGE_NATS = 10.0
"""Margin from which a text is in no language of the house: on the training prompts 0.1 % of the
English and Spanish prefixes of three words and more reach it, and 96 % of the others from four."""
UNENCODED_NATS = 5.0
"""Margin from which a text is in a language that the second network did not learn."""
SURE = 0.99
"""Probability of a domain that a hard signal names."""
ASCII_CHARS_PER_TOKEN = 4.0
OTHER_CHARS_PER_TOKEN = 1.5


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has; a guess without any expert's tokenizer."""
    plain = len(text.encode("ascii", "ignore"))
    rest = len(text) - plain
    return round(plain / ASCII_CHARS_PER_TOKEN + rest / OTHER_CHARS_PER_TOKEN)


def spread(count: int, chosen: int, probability: float) -> Sequence[float]:
    """Return ``count`` probabilities: the chosen one's, and the rest in equal parts."""
    rest = (1.0 - probability) / (count - 1) if count > 1 else 0.0
    return [probability if at == chosen else rest for at in range(count)]
