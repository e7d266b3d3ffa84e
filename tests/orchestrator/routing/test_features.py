"""Words of every script as rows of the classifier's table."""

from __future__ import annotations

import numpy as np
import pytest

from livemind.orchestrator.routing.features import BUCKETS, MAX_TOKENS, token_ids, tokens_of


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("¿Cómo ESTÁ 2024?", ["¿", "como", "esta", "0", "?"]),
        ("x==y", ["x", "==", "y"]),
        ("去北京玩", ["去北京玩", "北京玩", "京玩", "玩"]),
        ("a 北京 b", ["a", "北京", "京", "b"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("파이썬에서 리스트", ["파이썬에서", "리스트"]),
        ("", []),
    ],
)
def test_tokens_of_every_script_are_its_words(text: str, tokens: list[str]) -> None:
    assert tokens_of(text) == tokens


def test_tokens_of_a_long_text_are_those_of_both_ends() -> None:
    words = [f"word{chr(97 + at % 26)}{chr(97 + at // 26)}" for at in range(400)]
    half = MAX_TOKENS // 2
    assert tokens_of(" ".join(words)) == words[:half] + words[-half:]


def test_token_ids_are_rows_of_the_table_and_begin_with_each_token() -> None:
    ids, starts = token_ids("how do I reverse a list in 北京?")
    assert 0 <= ids.min() <= ids.max() < BUCKETS
    assert len(starts) == len(tokens_of("how do I reverse a list in 北京?"))
    assert (np.diff(starts) > 0).all()
    assert starts[0] == 0


def test_token_ids_of_a_text_without_words_are_none() -> None:
    ids, starts = token_ids(" \n ")
    assert len(ids) == len(starts) == 0


def test_token_ids_of_the_same_words_in_another_order_differ_by_the_pairs_alone() -> None:
    one, other = (set(token_ids(text)[0].tolist()) for text in ("red car", "car red"))
    assert len(one - other) == len(other - one) == 1
