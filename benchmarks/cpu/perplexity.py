"""How well each engine predicts a text with the same weights: what its number formats cost.

The file's own weights, without an adapter that an import may add: llama.cpp reads none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...orchestrator.cli.config_and_zoo import HANDBOOK
from .model import Model

TOKENS = 512
FILES = ("general.md", "technical.md")


def text_tokens(model: Model) -> list[int]:
    """Return the first ``TOKENS`` tokens of the sample handbook in the model's own tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    text = "\n\n".join((HANDBOOK / name).read_text("utf-8") for name in FILES)
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids[:TOKENS]
    return found


def perplexity(logprobs: Sequence[float]) -> float:
    """Return e to the mean of the negative logarithms of the probabilities."""
    return math.exp(-math.fsum(logprobs) / len(logprobs))
