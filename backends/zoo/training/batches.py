"""Training batches.

Conversations turned into token ids, sorted by length, with the positions whose next token is
scored.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ..data import Shape, conversation
from ..facts import Split, Topic
from ..tokenizer import END, PAD, render, token_id

_POOL = 256
_LENGTH_STEP = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids (batch, length), and flat positions of scored predictions.

    Each position has its target token and the number of the answer that it belongs to.
    """

    ids: Tensor
    positions: Tensor
    targets: Tensor
    answers: Tensor


def pool(
    tokenizer: Tokenizer,
    topics: tuple[Topic, ...],
    split: Split,
    shape: Shape,
    seed: str,
    tokens: int,
    size: int = _POOL,
) -> list[Batch]:
    """Return batches of `size` conversations, each about `tokens` long.

    The conversations and the order of the batches are fixed by `seed`.
    """
    rng = random.Random(seed)
    texts = [render(conversation(rng.choice(topics), rng, split, shape)[0]) for _ in range(size)]
    rows = sorted((encoding.ids for encoding in tokenizer.encode_batch(texts)), key=len)
    batches: list[list[list[int]]] = [[]]
    for row in rows:
        if batches[-1] and _padded(len(row)) * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(row)
    rng.shuffle(batches)
    return [_batch(batch) for batch in batches]


def _padded(length: int) -> int:
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


def _batch(rows: list[list[int]]) -> Batch:
    length = _padded(max(len(row) for row in rows))
    assistant, end = token_id("<|assistant|>"), token_id(END)
    ids = torch.full((len(rows), length), token_id(PAD))
    positions: list[int] = []
    targets: list[int] = []
    answers: list[int] = []
    answer = -1
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        inside = False
        for place, token in enumerate(row):
            if inside:
                positions.append(number * length + place - 1)
                targets.append(token)
                answers.append(answer)
                inside = token != end
            elif token == assistant:
                inside, answer = True, answer + 1
    return Batch(ids, torch.tensor(positions), torch.tensor(targets), torch.tensor(answers))


def exact(logits: Tensor, batch: Batch) -> Tensor:
    """Return for each answer whether every token is the most likely one.

    That is the same as: greedy decoding would write exactly this answer.
    """
    wrong = logits.argmax(-1) != batch.targets
    count = int(batch.answers.max()) + 1
    return torch.zeros(count).index_add_(0, batch.answers, wrong.float()) == 0


def stream(
    tokenizer: Tokenizer, topics: tuple[Topic, ...], shape: Shape, seed: str, tokens: int
) -> Iterator[Batch]:
    """Yield training batches without end."""
    number = 0
    while True:
        yield from pool(tokenizer, topics, "train", shape, f"{seed}|{number}", tokens)
        number += 1
