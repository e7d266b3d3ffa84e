"""An answer cut into segments while it is generated: pieces that can be judged by themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import numpy as np

from ... import kernels
from ...backends.base import Chunk, FinishReason, TokenLogprob, Usage
from .task import now_s, tokens_of

MIN_TOKENS = 12
MAX_TOKENS = 24
CLAUSE_ENDS = (".", "!", "?", ";", ":", ",", "\n")
CLOSED_ENDS = ("。", "！", "？", "；", "，", "、")  # noqa: RUF001 - nothing white follows these


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of an answer that ends before white space, after a CJK mark, or with the answer.

    Attributes:
        tokens: how many, those of its thoughts included.
        began_s, ended_s: when its first and last token came, on the loop's clock.
        finish_reason, usage: of the last segment.
        reasoning: thoughts before its text.
    """

    text: str
    token_ids: tuple[int, ...]
    tokens: int
    logprobs: tuple[TokenLogprob, ...]
    began_s: float
    ended_s: float
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    reasoning: str = ""

    def doubt(self) -> float | None:
        """Return the largest entropy of a token's best alternatives, nats; None if not known."""
        tops = [[value for _, _, value in entry.top] for entry in self.logprobs if entry.top]
        if not tops:
            return None
        rows = np.full((len(tops), max(map(len, tops))), -np.inf, np.float32)
        for row, top in zip(rows, tops, strict=True):
            row[: len(top)] = top
        return float(kernels.entropy(rows).max())


async def segments(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Segment, None]:
    """Yield the segments of an answer: 12 to 24 tokens, if possible up to the end of a clause.

    A word longer than that stays whole.
    """
    held: list[Chunk] = []
    began_s = ended_s = now_s()
    async for chunk in chunks:
        if _ends_before(chunk, held):
            yield _joined(held, began_s, ended_s)
            held = []
        ended_s = now_s()
        if not held:
            began_s = ended_s
        held.append(chunk)
    if held:
        yield _joined(held, began_s, ended_s)


def _ends_before(chunk: Chunk, held: list[Chunk]) -> bool:
    tokens = sum(tokens_of(piece) for piece in held if not piece.reasoning)
    if tokens < MIN_TOKENS or not chunk.text:
        return False
    text = "".join(piece.text for piece in held)
    if not chunk.text[:1].isspace():
        return text.endswith(CLOSED_ENDS)
    return tokens >= MAX_TOKENS or text.endswith(CLAUSE_ENDS)


def _joined(chunks: list[Chunk], began_s: float, ended_s: float) -> Segment:
    last = chunks[-1]
    return Segment(
        "".join(chunk.text for chunk in chunks),
        tuple(token for chunk in chunks for token in chunk.token_ids),
        sum(map(tokens_of, chunks)),
        tuple(entry for chunk in chunks for entry in chunk.logprobs or ()),
        began_s,
        ended_s,
        last.finish_reason,
        last.usage,
        "".join(chunk.reasoning for chunk in chunks),
    )
