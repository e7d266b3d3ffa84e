"""Where an answer is cut while it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from livemind.backends.base import Chunk
from livemind.orchestrator.consensus.segments import segments


async def pieces(texts: Sequence[str]) -> AsyncGenerator[Chunk, None]:
    for number, text in enumerate(texts):
        yield Chunk(text, (number,))
    yield Chunk("", finish_reason="stop")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([*["字"] * 9, "。", *["字"] * 9, "。", "字"], [20, 1]),
        ([*["字"] * 12, "，", *["字"] * 12], [13, 12]),  # noqa: RUF001
        ([*["字"] * 12, "。"], [13]),
        ([" word"] * 13 + [" end."] + [" word"] * 4, [14, 4]),
        ([" word"] * 30, [24, 6]),
        ([" word", *["part"] * 30, " word"], [31, 1]),
        ([*["3"] * 12, ".", "14"], [14]),
    ],
    ids=["sentences", "clause", "one", "latin", "longest", "a long word", "a number"],
)
def test_segments_end_with_a_clause_or_before_a_word(
    virtual_run: Any, texts: list[str], expected: list[int]
) -> None:
    async def main() -> None:
        assert [segment.tokens async for segment in segments(pieces(texts))] == expected

    virtual_run(main())
