"""A tokenizer's regular expression, read into instructions: which characters it takes one by one.

Reads what split rules are written in (alternatives, groups, classes, quantifiers, a look ahead) in
the syntax of Oniguruma, which ``tokenizers`` uses. A pattern with anything else is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

_QUANTIFIER = re.compile(r"([?*+])([?+]?)|(\{\d*(?:,\d*)?\})")
_GROUP = re.compile(r"\?(?:(?P<look>[=!])|(?P<on>[imx]*)(?:-(?P<off>[imx]+))?(?P<end>[:)]))")
_ESCAPED = re.compile(
    r"\\(?:[pP]\{\^?[\w ]+\}|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}|[sSdDwWhHrntfvae]"
    r"|[^\w\s]|\s)"
)
_MOST_INSTRUCTIONS = 2000
# What a single character may stand for when case does not count: ß is SS.
_FOLDED_TOGETHER = frozenset(
    folded for code in range(0x80, 0x20000) if len(folded := chr(code).casefold()) > 1
)


class UnknownPattern(ValueError):
    """The pattern has a construct that is not understood here."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step of a matcher.

    ``take``: the character has to be of ``atom``, go on at the next step. ``fork``: go on at each
    of ``to``, the first one preferred. ``look``: what stands ahead must (``negative``: must not)
    match from ``to[0]`` on, up to ``done``; go on at ``to[1]``. ``line_end``: a newline or the end
    stands ahead. ``border``: a word begins or ends here, or does not. ``done``: matched.
    """

    kind: str
    to: tuple[int, ...] = ()
    atom: int = -1
    negative: bool = False


@dataclass(slots=True)
class Program:
    """Instructions from 0 on, and the expressions of a single character that they refer to.

    ``exact`` is False where a match may take less than its instructions would: nothing but the
    reach of a match is then known.
    """

    steps: list[Instruction] = field(default_factory=list)
    atoms: list[str] = field(default_factory=list)
    exact: bool = True


@dataclass(slots=True)
class _Node:
    """A part of a pattern; ``all`` and ``any`` are of its parts, else the names of Instruction."""

    kind: str
    parts: list[_Node] = field(default_factory=list)
    atom: int = -1
    low: int = 0
    high: int | None = None
    lazy: bool = False
    possessive: bool = False
    negative: bool = False

    def nullable(self) -> bool:
        """Whether it matches the empty text wherever it stands."""
        match self.kind:
            case "all":
                return all(part.nullable() for part in self.parts)
            case "any":
                return any(part.nullable() for part in self.parts)
            case "repeat":
                return self.low == 0 or self.parts[0].nullable()
        return False


def read_pattern(pattern: str) -> Program:
    """Return the matcher of a regular expression.

    Raises:
        UnknownPattern: a construct is not known, or the pattern matches the empty text.
    """
    reader = _Reader(pattern)
    node = _without_possessive(reader.alternatives(""), may_end=True)
    if reader.at < len(pattern):
        raise UnknownPattern(f"{pattern[reader.at :]!r} is not understood")
    if node.nullable():
        raise UnknownPattern("it matches the empty text")
    program = reader.program
    program.exact = _is_exact(node)
    _write(program, node)
    program.steps.append(Instruction("done"))
    return program


class _Reader:
    """Recursive descent over one pattern; ``flags`` are those of the group that is read."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.program = Program()

    def alternatives(self, flags: str) -> _Node:
        parts = [self._sequence(flags)]
        while self._next("|"):
            parts.append(self._sequence(flags))
        return parts[0] if len(parts) == 1 else _Node("any", parts)

    def _sequence(self, flags: str) -> _Node:
        parts: list[_Node] = []
        literal = ""
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            begin = self.at
            part = self._atom(flags)
            if "i" in flags:
                literal = literal + self.pattern[begin : self.at] if part.kind == "take" else ""
                self._refuse_folded(literal)
            parts.append(self._quantified(part))
        return parts[0] if len(parts) == 1 else _Node("all", parts)

    def _refuse_folded(self, literal: str) -> None:
        """Refuse what one character could match in the place of several (``ß`` for ``ss``)."""
        if not literal.isascii() or any(c in literal for c in "\\.") or "[^" in literal:
            raise UnknownPattern(f"{literal!r} without regard to case")
        if any(folded in literal.casefold() for folded in _FOLDED_TOGETHER):
            raise UnknownPattern(f"{literal!r} without regard to case")

    def _atom(self, flags: str) -> _Node:
        pattern, begin = self.pattern, self.at
        first = pattern[begin]
        if first == "(":
            return self._group(flags)
        if first == "$":
            self.at += 1
            return _Node("line_end")
        if first == "[":
            self.at = _class_end(pattern, begin)
        elif pattern[begin : begin + 2] in ("\\b", "\\B"):
            self.at += 2
            return _Node("border")
        elif first == "\\":
            found = _ESCAPED.match(pattern, begin)
            if found is None:
                raise UnknownPattern(f"{pattern[begin : begin + 2]!r} is not understood")
            self.at = found.end()
        elif first in "^?*+":
            raise UnknownPattern(f"{first!r} is not understood here")
        else:
            self.at += 1
        source = pattern[begin : self.at]
        atom = f"(?{flags}:{source})" if flags else source
        if atom not in self.program.atoms:
            self.program.atoms.append(atom)
        return _Node("take", atom=self.program.atoms.index(atom))

    def _group(self, flags: str) -> _Node:
        self.at += 1
        look = None
        if self.pattern[self.at : self.at + 2] == "?>":
            raise UnknownPattern("an atomic group")
        if self.pattern[self.at : self.at + 1] == "?":
            found = _GROUP.match(self.pattern, self.at)
            if found is None or "x" in (found["on"] or ""):
                raise UnknownPattern(f"{self.pattern[self.at - 1 : self.at + 3]!r}")
            self.at, look = found.end(), found["look"]
            if look is None:
                kept = set(flags) | set(found["on"])
                flags = "".join(sorted(kept - set(found["off"] or "")))
            if found["end"] == ")":  # for the rest of the group around it
                return self.alternatives(flags)
        inside = self.alternatives(flags)
        if not self._next(")"):
            raise UnknownPattern("a group has no end")
        return inside if look is None else _Node("look", [inside], negative=look == "!")

    def _quantified(self, node: _Node) -> _Node:
        while found := _QUANTIFIER.match(self.pattern, self.at):
            if node.kind in ("look", "line_end", "border"):
                raise UnknownPattern("a quantified assertion")
            low, high = _bounds(found[1] or found[3])
            self.at = found.end()
            if found[3] and self.pattern[self.at : self.at + 1] == "?":
                raise UnknownPattern(f"{found[0]}? means something else in each dialect")
            node = _Node(
                "repeat",
                [node],
                low=low,
                high=high,
                lazy=found[2] == "?",
                possessive=found[2] == "+",
            )
        return node

    def _next(self, mark: str) -> bool:
        if self.pattern[self.at : self.at + 1] != mark:
            return False
        self.at += 1
        return True


def _without_possessive(node: _Node, *, may_end: bool) -> _Node:
    """Say with other means that a loop over one character gives nothing back, where it matters.

    Where the match ``may_end`` behind the loop it does not: its longest way succeeds.
    """
    parts: list[_Node] = []
    for part in reversed(node.parts):
        inside = may_end if node.kind in ("all", "any") else node.kind == "look"
        parts.insert(0, _without_possessive(part, may_end=inside))
        if node.kind == "all":
            may_end = may_end and part.nullable()
    if node.kind != "repeat":
        return replace(node, parts=parts)
    if not node.possessive or (may_end and node.parts[0].kind == "take"):
        return replace(node, parts=parts, possessive=False)
    if parts[0].kind != "take":
        return replace(node, parts=parts)
    none_ahead = _Node("look", parts, negative=True)
    if node.high is None:
        return _Node("all", [replace(node, parts=parts, possessive=False), none_ahead])
    return _Node("any", [*parts, none_ahead])


def _is_exact(node: _Node) -> bool:
    """Whether trying the ways in order of preference finds what a backtracking matcher finds."""
    if node.kind == "border":
        return False
    if node.kind == "repeat" and (node.possessive or node.parts[0].nullable()):
        return False
    return all(map(_is_exact, node.parts))


def _bounds(quantifier: str) -> tuple[int, int | None]:
    if quantifier in ("?", "*", "+"):
        return {"?": (0, 1), "*": (0, None), "+": (1, None)}[quantifier]
    low, comma, high = quantifier[1:-1].partition(",")
    if not low and not high:
        raise UnknownPattern(f"{quantifier!r}")
    return int(low or 0), int(high) if high else (None if comma else int(low))


def _class_end(pattern: str, begin: int) -> int:
    """Return where the class ends that begins here; classes may stand in classes."""
    depth, at = 0, begin
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
            at += pattern[at + 1 : at + 2] == "^"
            at += pattern[at + 1 : at + 2] == "]"
        elif pattern[at] == "]":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    raise UnknownPattern("a class has no end")


def _write(program: Program, node: _Node) -> None:
    """Append the instructions of a node; its end is the next instruction."""
    steps = program.steps
    if len(steps) > _MOST_INSTRUCTIONS:
        raise UnknownPattern("the pattern is too long")
    match node.kind:
        case "take":
            steps.append(Instruction("take", atom=node.atom))
        case "line_end" | "border":
            steps.append(Instruction(node.kind))
        case "all":
            for part in node.parts:
                _write(program, part)
        case "any":
            _write_any(program, node.parts)
        case "look":
            here = len(steps)
            steps.append(Instruction("look"))
            _write(program, node.parts[0])
            steps.append(Instruction("done"))
            steps[here] = Instruction("look", (here + 1, len(steps)), negative=node.negative)
        case _:
            _write_repeat(program, node)


def _write_any(program: Program, parts: list[_Node]) -> None:
    steps = program.steps
    ends: list[int] = []
    for part in parts[:-1]:
        here = len(steps)
        steps.append(Instruction("fork"))
        _write(program, part)
        ends.append(len(steps))
        steps.append(Instruction("fork"))
        steps[here] = Instruction("fork", (here + 1, len(steps)))
    _write(program, parts[-1])
    for end in ends:
        steps[end] = Instruction("fork", (len(steps),))


def _write_repeat(program: Program, node: _Node) -> None:
    steps = program.steps

    def ways(stay: int, leave: int) -> tuple[int, int]:
        return (leave, stay) if node.lazy else (stay, leave)

    for _ in range(node.low):
        _write(program, node.parts[0])
    if node.high is None:
        here = len(steps)
        steps.append(Instruction("fork"))
        _write(program, node.parts[0])
        steps.append(Instruction("fork", (here,)))
        steps[here] = Instruction("fork", ways(here + 1, len(steps)))
        return
    forks: list[int] = []
    for _ in range(node.high - node.low):
        forks.append(len(steps))
        steps.append(Instruction("fork"))
        _write(program, node.parts[0])
    for here in forks:
        steps[here] = Instruction("fork", ways(here + 1, len(steps)))
