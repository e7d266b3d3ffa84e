"""Inner loops in a disassembly of Arm code, and the kernels whose loops are looked at. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LABEL = ".loop"

WIDE = {"sdot": 4, "usdot": 4, "smmla": 8, "usmmla": 8}
"""Mnemonics that add up several products in each lane, and how many."""
MULTIPLIES = frozenset(
    {"fmul", "fmla", "fmadd", "mul", "mla", "madd", "smaddl"}
    | {"smull", "smull2", "smlal", "smlal2", *WIDE}
)
"""Mnemonics that multiply: what the kernels below do once for each element or weight."""

_SYMBOL = re.compile(r"^[0-9a-f]+ <(?P<name>.+)>:$")
_LINE = re.compile(r"^\s*(?P<at>[0-9a-f]+):\s+(?P<mnemonic>[a-z][\w.]*)(?:\s+(?P<operands>.*))?$")
_TARGET = re.compile(r"(?:0x)?(?P<at>[0-9a-f]+) <[^>]*>")
_BRANCH = re.compile(r"^(b|b\..+|cbn?z|tbn?z)$")
_LANES = re.compile(r"^v\d+\.(?P<lanes>\d+)[bhsd]")
_POST = re.compile(r"^(?P<data>.+), \[(?P<base>x\d+|sp)\], #(?P<step>\S+)$")
_PRE = re.compile(r"^(?P<data>.+), \[(?P<base>x\d+|sp), #(?P<step>\S+)\]!$")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a disassembly."""

    at: int
    mnemonic: str
    operands: str

    def target(self) -> int | None:
        """Return where a branch goes; None for anything else."""
        found = _TARGET.search(self.operands) if _BRANCH.match(self.mnemonic) else None
        return int(found["at"], 16) if found else None

    def products(self) -> int:
        """Return how many products it makes: the lanes of its result, times those added in each."""
        if self.mnemonic not in MULTIPLIES:
            return 0
        found = _LANES.match(self.operands)
        lanes = int(found["lanes"]) if found else 1
        return WIDE.get(self.mnemonic, 1) * lanes


@dataclass(frozen=True, slots=True)
class Loop:
    """A run of instructions whose last one branches back to the first."""

    body: tuple[Instruction, ...]

    def mnemonics(self) -> frozenset[str]:
        """Return the mnemonics that occur."""
        return frozenset(one.mnemonic for one in self.body)

    def products(self) -> int:
        """Return how many products one iteration makes."""
        return sum(one.products() for one in self.body)

    def straight(self) -> bool:
        """Tell whether every iteration runs every instruction, without calls."""
        inside = self.body[:-1]
        return not any(_BRANCH.match(one.mnemonic) or one.mnemonic == "bl" for one in inside)

    def assembly(self, *, apart: bool = False) -> str:
        """Return the text for llvm-mca.

        Args:
            apart: loads that step their address become a load and an addition.
        """
        lines = [f"{LABEL}:"]
        for one in self.body:
            branches = one.target() is not None
            operands = _TARGET.sub(LABEL, one.operands) if branches else one.operands
            whole = f"{one.mnemonic} {operands}".rstrip()
            lines.extend(_apart(one.mnemonic, operands) if apart else [whole])
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Kernel:
    """Which loop of which function is looked at.

    Attributes:
        symbol: a pattern that finds the mangled names.
        products: products that one element takes; for GEMM and Q4 the element is the product.
        limit: loops that make more products in an iteration are another kernel's.
        has: one of these mnemonics occurs; empty: no matter.
        lacks: none of these mnemonics occurs.
    """

    name: str
    symbol: str
    products: int
    limit: int | None = None
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()


_HALF = frozenset({"fcvtl", "ucvtf", "ldrh", "shll", "ushll", "shl", "orr"})
"""Signs of a loop over 16-bit elements."""

KERNELS = (
    Kernel("GEMM, tile of 8 x 8", "8GemmRowsE", 1),
    Kernel("Q4, four rows", "PackedTileILNS_4TypeE0ELi4ELm4E", 1),
    Kernel(
        "Q4, one row",
        "12PackedLinearE",
        1,
        limit=128,  # 16 outputs of 8 inputs
        has=frozenset({"ushr", "lsr", "and"}),  # of nibbles
        lacks=frozenset({"shl"}),  # weights of 8 bits shift sums
    ),
    Kernel("Q8, four rows", "PackedTileILNS_4TypeE0ELi8ELm4E", 1),
    Kernel(
        "Q8, one row",
        "12PackedLinearE",
        1,
        limit=128,  # 16 outputs of 8 inputs
        has=frozenset({"eor", "usdot", "shl"}),
        lacks=frozenset({"movi"}),  # of nibbles, where none is shifted
    ),
    Kernel("softmax, exp and sum", "6SumExpILb1E", 11),
    Kernel(
        "RMSNorm float32, squares",
        "7RmsNormE",
        1,
        has=frozenset({"fmla", "fmadd"}),
        lacks=_HALF | {"fadd", "fmul"},
    ),
    Kernel(
        "RMSNorm float32, scaling",
        "7RmsNormE",
        2,
        has=frozenset({"fmul"}),
        lacks=_HALF | {"fadd", "fmla", "fmadd", "fcvtn"},
    ),
    Kernel(
        "RMSNorm bfloat16, squares",
        "7RmsNormE",
        1,
        has=frozenset({"shll", "shl", "ushll"}),
        lacks=frozenset({"fadd", "fmul", "fcvtl", "ucvtf", "orr"}),
    ),
)


def functions(disassembly: str) -> dict[str, list[Instruction]]:
    """Return the instructions of each function of a disassembly by llvm-objdump."""
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] | None = None
    for line in disassembly.splitlines():
        if symbol := _SYMBOL.match(line):
            current = found.setdefault(symbol["name"], [])
        elif (match := _LINE.match(line)) and current is not None:
            at, mnemonic, operands = match["at"], match["mnemonic"], match["operands"] or ""
            current.append(Instruction(int(at, 16), mnemonic, operands.strip()))
    return found


def innermost(instructions: Sequence[Instruction]) -> list[Loop]:
    """Return the loops of a function that have no other loop inside."""
    index = {one.at: n for n, one in enumerate(instructions)}
    ranges = set()
    for n, one in enumerate(instructions):
        target = one.target()
        start = None if target is None else index.get(target)
        if start is not None and start <= n:
            ranges.add((start, n))
    return [
        Loop(tuple(instructions[start : end + 1]))
        for start, end in sorted(ranges)
        if not any(start <= a and b <= end and (a, b) != (start, end) for a, b in ranges)
    ]


def hot_loop(kernel: Kernel, found: dict[str, list[Instruction]]) -> Loop | None:
    """Return a kernel's loop with the most products, of equal ones the shortest; None: no such."""
    loops = [
        loop
        for name, instructions in found.items()
        if re.search(kernel.symbol, name)
        for loop in innermost(instructions)
        if _fits(kernel, loop)
    ]
    return max(loops, key=lambda loop: (loop.products(), -len(loop.body)), default=None)


def _fits(kernel: Kernel, loop: Loop) -> bool:
    mnemonics, products = loop.mnemonics(), loop.products()
    return (
        loop.straight()
        and 0 < products <= (kernel.limit or products)
        and not kernel.lacks & mnemonics
        and (not kernel.has or bool(kernel.has & mnemonics))
    )


def _apart(mnemonic: str, operands: str) -> Iterator[str]:
    load = mnemonic.startswith("ld")
    if load and (post := _POST.match(operands)):
        yield f"{mnemonic} {post['data']}, [{post['base']}]"
        yield _step(post["base"], post["step"])
    elif load and (pre := _PRE.match(operands)):
        yield _step(pre["base"], pre["step"])
        yield f"{mnemonic} {pre['data']}, [{pre['base']}]"
    else:
        yield f"{mnemonic} {operands}".rstrip()


def _step(base: str, step: str) -> str:
    value = int(step, 0)
    return f"{'sub' if value < 0 else 'add'} {base}, {base}, #{abs(value)}"
