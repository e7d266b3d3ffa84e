"""What a regular expression does with a text whose end is not known yet.

A match is followed character by character along all its ways at once, in their order of preference
(Pike's method), so that each step knows whether more text could still change it.
"""

from __future__ import annotations

import functools
from typing import Any

from .pattern import Instruction, UnknownPattern, read_pattern

_States = tuple[int, ...]
_REMEMBERED = 1 << 16


class Automaton:
    """One pattern, as ``tokenizers`` matches it.

    Steps are remembered: a long text costs one look-up a character.

    Args:
        pattern: in Oniguruma's syntax.

    Attributes:
        is_exact: whether ``match`` can follow it; else it is only known how far a match can reach.

    Raises:
        UnknownPattern: nothing is known of the pattern.
    """

    def __init__(self, pattern: str) -> None:
        program = read_pattern(pattern)
        self._steps = program.steps
        self.is_exact = program.exact and _looks_ahead_one(program.steps)
        self._atoms = [_atom_matcher(source) for source in program.atoms]
        self.kind = functools.lru_cache(_REMEMBERED)(self._kind)
        self.may_hold = functools.cache(self._may_hold)
        self.matches_alone = functools.cache(self._matches_alone)
        self._step = functools.cache(self._step_from)
        self._followers = self._all_followers()

    @property
    def asserts(self) -> bool:
        """Whether what stands around a match decides on it."""
        return any(step.kind in ("look", "line_end", "border") for step in self._steps)

    @property
    def takes_one(self) -> bool:
        """Whether every match is one character, whatever stands around it."""
        return not self.asserts and not any(self._followers.values())

    def match(self, text: str, start: int) -> tuple[int | None, bool, int]:
        """Return where the match ends that begins at ``start``, if that is final, and what it read.

        If it is not, more text may make the match longer, or, without an end, make one. Where the
        end is known it can only move behind ``text``. Read is a number of characters. The pattern
        must be ``is_exact``.
        """
        states: _States = (0,)
        end: int | None = None
        for at in range(start, len(text)):
            states, matched = self._step(states, self.kind(text[at]))
            if matched:
                end = at
            if not states:
                return end, True, at + 1 - start
        live, matched = self._close(states, None)
        if matched:
            end = len(text)
        return end, not live, len(text) - start

    def _kind(self, character: str) -> int:
        """Return a bit for each atom that the character is of."""
        return sum(1 << n for n, matches in enumerate(self._atoms) if matches(character))

    def _takes(self, step: int, kind: int) -> bool:
        return bool(kind >> self._steps[step].atom & 1)

    def _may_hold(self, before: int, after: int) -> bool:
        """Whether a match, or what it looks at, may hold characters of these kinds in a row."""
        return any(
            self._takes(step, before) and any(self._takes(n, after) for n in followers)
            for step, followers in self._followers.items()
        )

    def _matches_alone(self, kind: int) -> bool:
        """Whether a character of this kind is a match by itself, whatever stands beside it."""
        begins = self._close((0,), kind)[0] if self.is_exact else []
        return any(self._takes(n, kind) and self._ends(n + 1) for n in begins)

    def _ends(self, step: int) -> bool:
        return any(self._steps[n].kind == "done" for n in self._reached(step, looking=False))

    def _all_followers(self) -> dict[int, list[int]]:
        """Return for each step that takes a character those that may take the next one."""
        return {
            number: self._takes_from(number + 1, looking=True)
            for number, step in enumerate(self._steps)
            if step.kind == "take"
        }

    def _takes_from(self, step: int, *, looking: bool) -> list[int]:
        reached = self._reached(step, looking=looking)
        return [number for number in reached if self._steps[number].kind == "take"]

    def _reached(self, begin: int, *, looking: bool) -> list[int]:
        """Return the steps that are reached without a character, also through assertions or not."""
        seen: dict[int, None] = {}
        waiting = [begin]
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen[number] = None
            step = self._steps[number]
            if step.kind == "fork" or (looking and step.kind == "look"):
                waiting.extend(step.to)
            elif looking and step.kind in ("line_end", "border"):
                waiting.append(number + 1)
        return list(seen)

    def _step_from(self, states: _States, kind: int) -> tuple[_States, bool]:
        """Return the states behind a character of this kind, and whether a match ends before it."""
        live, matched = self._close(states, kind)
        return tuple(n + 1 for n in live if self._takes(n, kind)), matched

    def _close(self, states: _States, kind: int | None) -> tuple[list[int], bool]:
        """Return the steps that wait for a character, best first, up to one that is ``done``.

        Where the character is not known (``kind`` None) an assertion waits for it too.
        """
        live: list[int] = []
        seen: set[int] = set()
        waiting = list(reversed(states))
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            step = self._steps[number]
            if step.kind == "done":
                return live, True
            if step.kind == "fork":
                waiting.extend(reversed(step.to))
            elif step.kind == "take" or kind is None:
                live.append(number)
            elif self._holds(step, kind):
                waiting.append(step.to[1] if step.kind == "look" else number + 1)
        return live, False

    def _holds(self, step: Instruction, kind: int) -> bool:
        """Whether an assertion holds before a character of this kind."""
        if step.kind == "line_end":
            return kind == self.kind("\n")
        takes = self._takes_from(step.to[0], looking=False)
        return any(self._takes(n, kind) for n in takes) != step.negative


def _looks_ahead_one(steps: list[Instruction]) -> bool:
    """Whether what is looked at ahead is always one character and nothing else."""
    for step in steps:
        if step.kind == "look":
            inside = steps[step.to[0] : step.to[1]]
            if any(part.kind in ("look", "line_end") for part in inside):
                return False
            for number, part in enumerate(inside[:-1]):
                if part.kind == "take" and not _leads_to_done(steps, step.to[0] + number + 1):
                    return False
    return True


def _leads_to_done(steps: list[Instruction], number: int) -> bool:
    while steps[number].kind == "fork" and len(steps[number].to) == 1:
        (number,) = steps[number].to
    return steps[number].kind == "done"


def _atom_matcher(source: str) -> Any:
    """Return whether a character is one of those that the expression stands for."""
    from tokenizers import Regex, pre_tokenizers

    try:
        split = pre_tokenizers.Split(Regex(source), "removed")
    except Exception as error:  # what it raises for a bad expression is no type of its own
        raise UnknownPattern(f"{source!r} by itself") from error
    return lambda character: not split.pre_tokenize_str(character)
