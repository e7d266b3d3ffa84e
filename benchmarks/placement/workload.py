"""Conversations of a fleet: shared beginnings by Zipf's law, one of them hot for a while.

Arrivals are Poisson; a conversation goes on after a pause, with what was said before in its prompt.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Fleet:
    """The replicas, all alike.

    Attributes:
        replicas: how many.
        at_a_time: requests that one answers together.
        room_tokens: of its prefix cache.
        prefill_tokens_per_s, token_s: its pace with prompts, and with answers.
    """

    replicas: int = 100
    at_a_time: int = 16
    room_tokens: int = 250_000
    prefill_tokens_per_s: float = 8_000.0
    token_s: float = 0.04

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(f"replica-{number}" for number in range(self.replicas))


@dataclass(frozen=True, slots=True)
class Turn:
    """One request: its shared beginning is part of its prompt; ``key`` is its conversation's."""

    at_s: float
    key: str
    prefix: str
    prefix_tokens: int
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Change:
    """A replica leaves, or comes back."""

    at_s: float
    name: str


@dataclass(frozen=True, slots=True)
class Load:
    """What comes.

    Attributes:
        sessions: conversations.
        over_s: the time in which they begin.
        prefixes, zipf: shared beginnings, and the exponent of how often each is used.
        hot_share: of the conversations of the middle third, those with the one hot beginning.
        turns: of a conversation on average; pause_s: between them on average.
        leave_every_s, away_s: a replica leaves so often, and comes back after so long.
    """

    sessions: int = 10_000
    over_s: float = 230.0
    prefixes: int = 1_000
    zipf: float = 1.0
    hot_share: float = 0.3
    turns: float = 4.0
    pause_s: float = 20.0
    leave_every_s: float = 30.0
    away_s: float = 60.0


def turns_of(load: Load, seed: int) -> list[Turn]:
    """Return all requests by arrival."""
    chance = random.Random(seed)
    weights = list(accumulate(1 / (rank + 1) ** load.zipf for rank in range(load.prefixes)))
    lengths = [round(min(8_000, max(200, chance.lognormvariate(7.2, 0.7)))) for _ in weights]
    found: list[Turn] = []
    for number in range(load.sessions):
        begin_s = load.over_s * number / load.sessions
        is_hot = (
            load.over_s / 3 <= begin_s < load.over_s * 2 / 3 and chance.random() < load.hot_share
        )
        rank = 0 if is_hot else bisect(weights, chance.random() * weights[-1])
        found += _conversation(chance, load, f"session-{number}", begin_s, rank, lengths[rank])
    return sorted(found, key=lambda turn: turn.at_s)


def _conversation(
    chance: random.Random, load: Load, key: str, begin_s: float, rank: int, prefix_tokens: int
) -> Iterator[Turn]:
    at_s, said = begin_s + chance.random(), prefix_tokens
    while True:
        said += round(chance.uniform(10, 200))
        answer = round(chance.uniform(40, 300))
        yield Turn(at_s, key, f"prefix-{rank}", prefix_tokens, said, answer)
        said += answer
        if chance.random() < 1 / load.turns:
            return
        at_s += chance.expovariate(1 / load.pause_s) + answer * 0.04


def changes_of(load: Load, fleet: Fleet, seed: int) -> list[Change]:
    """Return which replicas leave and come back, in any order; the last one stays."""
    chance, found = random.Random(seed + 1), []
    back_s = dict.fromkeys(fleet.names, 0.0)
    at_s = load.leave_every_s
    while load.leave_every_s and at_s < load.over_s:
        there = [name for name, since_s in back_s.items() if since_s <= at_s]
        if len(there) > 1:
            name = chance.choice(there)
            back_s[name] = at_s + load.away_s
            found += [Change(at_s, name), Change(back_s[name], name)]
        at_s += load.leave_every_s
    return found
