"""The buffer of a draft, and how a paused one goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from livemind.backends.base import (
    Capabilities,
    Chunk,
    GenerationParams,
    TokenLogprob,
    TokenPrompt,
    Usage,
)
from livemind.orchestrator.turn.hidden_answer import Draft, continuable, continuation, joined_usage
from livemind.orchestrator.turn.values import DraftState

PLAN = DraftState("r1.d1", "strong", 1, ())
PROMPT = TokenPrompt((1, 2, 3), 3, cache_salt="salt")


def draft(*chunks: Chunk, prompt: TokenPrompt = PROMPT) -> Draft:
    made = Draft(PLAN, prompt, status="running")
    for chunk in chunks:
        made.add(chunk)
    return made


HALF = (Chunk("a", (10,)), Chunk("bc", (11, 12)))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (GenerationParams(), True),
        (GenerationParams(max_tokens=5, temperature=0.7, top_p=0.9, top_k=5, min_p=0.1), True),
        (GenerationParams(logprobs=2, logit_bias=((1, 2.0),), ignore_eos=True), True),
        (GenerationParams(presence_penalty=0.0, frequency_penalty=0.0), True),
        (GenerationParams(presence_penalty=0.1), False),
        (GenerationParams(frequency_penalty=-0.1), False),
        (GenerationParams(repetition_penalty=1.1), False),
        (GenerationParams(seed=0), False),
        (GenerationParams(stop=("x",)), False),
    ],
)
def test_draft_is_continuable_when_the_rest_does_not_depend_on_the_cut(
    params: GenerationParams, expected: bool
) -> None:
    assert continuable(params, PROMPT) is expected


def test_draft_without_local_tokens_is_not_continuable() -> None:
    assert not continuable(GenerationParams(), TokenPrompt((), 9))


def test_chunks_are_kept_in_order_and_their_tokens_counted() -> None:
    made = draft(*HALF)
    assert (made.tokens, made.token_ids(), made.status) == (3, (10, 11, 12), "running")


def test_last_chunk_completes_the_draft() -> None:
    assert draft(*HALF, Chunk("", (), finish_reason="stop")).status == "complete"


def test_continuation_asks_for_the_rest_behind_the_drafted_tokens() -> None:
    asked = GenerationParams(max_tokens=10, temperature=0.5)
    prompt, params = continuation(draft(*HALF), asked, Capabilities())
    assert prompt == TokenPrompt((1, 2, 3, 10, 11, 12), 6, cache_salt="salt")
    assert params == GenerationParams(max_tokens=7, temperature=0.5)


@pytest.mark.parametrize(("cached", "shown"), [(2, 2), (3, 3), (6, 3), (None, None)])
def test_joined_usage_is_that_of_one_answer(cached: int | None, shown: int | None) -> None:
    assert joined_usage(draft(*HALF), Usage(6, 4, cached)) == Usage(3, 7, shown)


def test_continuation_leaves_the_draft_as_it_was() -> None:
    made = draft(*HALF)
    before = replace(made, chunks=list(made.chunks))
    continuation(made, GenerationParams(), Capabilities())
    assert made == before


@pytest.mark.parametrize(
    ("end", "left", "lost"),
    [
        ([], (10,), 0),
        ([Chunk("b", (11,))], (10, 11), 0),
        ([Chunk("", (11,))], (10,), 1),
        ([Chunk("", (11,)), Chunk("", (12,))], (10,), 2),
        ([Chunk("bc", (11, 12))], (10,), 2),
        ([Chunk("", (11,)), Chunk("ß", (12,))], (10, 11, 12), 0),
    ],
)
def test_cut_draft_ends_behind_a_token_with_text(
    end: list[Chunk], left: tuple[int, ...], lost: int
) -> None:
    made = draft(Chunk("a", (10,)), *end)
    assert made.cut() == lost
    assert (made.token_ids(), made.tokens) == (left, len(left))


def test_chunk_without_tokens_counts_as_one_when_it_has_text() -> None:
    assert draft(Chunk("a"), Chunk("bc"), Chunk("", finish_reason="stop")).tokens == 2


@pytest.mark.parametrize(
    ("asked", "default", "context", "limit"),
    [
        (None, None, None, None),
        (None, None, 8, None),
        (None, 10, None, 7),
        (5, 10, None, 2),
        (None, 10, 8, 2),
        (None, 10, 80, 7),
    ],
)
def test_continuation_is_as_much_shorter_as_was_drafted(
    asked: int | None, default: int | None, context: int | None, limit: int | None
) -> None:
    able = Capabilities(max_model_len=context, max_tokens_default=default)
    _, params = continuation(draft(*HALF), GenerationParams(max_tokens=asked), able)
    assert params.max_tokens == limit


@pytest.mark.parametrize("logprobs", [None, (TokenLogprob("a", 10, 0.0),)])
def test_joined_draft_is_one_chunk_with_everything(
    logprobs: tuple[TokenLogprob, ...] | None,
) -> None:
    last = Chunk("b", (11,), logprobs, "stop", Usage(3, 2))
    joined = draft(Chunk("a", (10,), logprobs), last).joined()
    twice = None if logprobs is None else logprobs * 2
    assert joined == Chunk("ab", (10, 11), twice, "stop", Usage(3, 2))
