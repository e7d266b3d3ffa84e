"""``make mca``: loops in a disassembly, what llvm-mca's text says, the table. No LLVM needed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from livemind.benchmarks.kernels import mca
from livemind.benchmarks.kernels.mca_loops import (
    Instruction,
    Kernel,
    functions,
    hot_loop,
    innermost,
)
from livemind.benchmarks.kernels.mca_report import (
    Row,
    UnreadableOutput,
    model_note,
    parse,
    table,
)

# A loop of rows around two inner ones, one of which stands at the very start of the section.
DISASSEMBLY = """
tier.cc.o:\tfile format elf64-littleaarch64

Disassembly of section .text:

0000000000000000 <_ZN4tier4ScanEPKf>:
       0:      \tldr\ts0, [x0], #0x4
       4:      \tfmadd\ts1, s0, s0, s1
       8:      \tcmp\tx0, x1
       c:      \tb.ne\t0x0 <_ZN4tier4ScanEPKf>
      10:      \tret

0000000000000020 <_ZN4tier8GemmRowsEPKf>:
      20:      \tmov\tx3, x0
      24:      \tldp\tq1, q0, [x3], #0x20
      28:      \tfmla\tv8.4s, v1.4s, v19.s[0]
      2c:      \tfmla\tv9.4s, v0.4s, v19.s[0]
      30:      \tcmp\tx3, x1
      34:      \tb.ne\t0x24 <_ZN4tier8GemmRowsEPKf+0x4>
      38:      \tldr\tq1, [x4, #-0x10]!
      3c:      \tfmla\tv8.4s, v1.4s, v19.s[0]
      40:      \tcbnz\tx4, 0x38 <_ZN4tier8GemmRowsEPKf+0x18>
      44:      \tbl\t0x0 <_ZN4tier4ScanEPKf>
      48:      \tsubs\tx2, x2, #0x1
      4c:      \tb.ne\t0x20 <_ZN4tier8GemmRowsEPKf>
      50:      \tret
"""

OUTPUT = """
Iterations:        200
Instructions:      5800
Total Cycles:      1712
Total uOps:        6400

Dispatch Width:    10
uOps Per Cycle:    3.74
IPC:               3.39
Block RThroughput: 8.5


Cycles with backend pressure increase [ 35.11% ]
Throughput Bottlenecks: \n  Resource Pressure       [ 35.11% ]
  - N2UnitL2  [ 6.60% ]
  - N2UnitV0  [ 34.75% ]
  Data Dependencies:      [ 6.37% ]
  - Register Dependencies [ 6.37% ]
  - Memory Dependencies   [ 0.00% ]

Resources:
[0.0] - N2UnitB
[0.1] - N2UnitB
[2]   - N2UnitL2
[7]   - N2UnitV0
[8]   - N2UnitV1


Resource pressure per iteration:
[0.0]  [0.1]  [2]    [7]    [8]    \n0.50    -     3.00   8.25   8.50   \n
Resource pressure by instruction:
"""

GEMM = Kernel("GEMM", "8GemmRowsE", 1)


def test_innermost_leaves_out_the_loop_around_others() -> None:
    found = functions(DISASSEMBLY)
    assert [one.at for one in found["_ZN4tier4ScanEPKf"]] == [0, 4, 8, 12, 16]
    starts = [loop.body[0].at for loop in innermost(found["_ZN4tier8GemmRowsEPKf"])]
    assert starts == [0x24, 0x38]


def test_innermost_finds_a_loop_at_address_zero() -> None:
    (loop,) = innermost(functions(DISASSEMBLY)["_ZN4tier4ScanEPKf"])
    assert len(loop.body) == 4
    assert loop.assembly().splitlines()[-1] == "b.ne .loop"


def test_hot_loop_has_the_most_products() -> None:
    loop = hot_loop(GEMM, functions(DISASSEMBLY))
    assert loop is not None
    assert loop.body[0].at == 0x24
    assert loop.products() == 8


@pytest.mark.parametrize(
    ("changed", "start"),
    [
        ({"limit": 4}, 0x38),
        ({"lacks": frozenset({"cmp"})}, 0x38),
        ({"has": frozenset({"cbnz"})}, 0x38),
        ({"has": frozenset({"sdot"})}, None),
        ({"symbol": "7RmsNormE"}, None),
    ],
)
def test_hot_loop_heeds_what_the_kernel_asks_for(
    changed: dict[str, object], start: int | None
) -> None:
    loop = hot_loop(dataclasses.replace(GEMM, **changed), functions(DISASSEMBLY))  # type: ignore[arg-type]
    assert (loop.body[0].at if loop else None) == start


def test_hot_loop_passes_over_loops_with_branches_inside() -> None:
    branching = DISASSEMBLY.replace("fmla\tv9.4s, v0.4s, v19.s[0]", "cbz\tx9, 0x30 <x+0x10>")
    loop = hot_loop(GEMM, functions(branching))
    assert loop is not None
    assert loop.body[0].at == 0x38


@pytest.mark.parametrize(
    ("mnemonic", "operands", "products"),
    [
        ("fmla", "v8.4s, v1.4s, v19.s[0]", 4),
        ("sdot", "v8.4s, v1.16b, v2.4b[1]", 16),
        ("usdot", "v8.4s, v1.16b, v2.4b[1]", 16),
        ("smmla", "v8.4s, v1.16b, v2.16b", 32),
        ("usmmla", "v8.4s, v1.16b, v2.16b", 32),
        ("smull2", "v8.8h, v1.16b, v2.16b", 8),
        ("fmadd", "s1, s0, s0, s1", 1),
        ("fadd", "v0.4s, v1.4s, v2.4s", 0),
    ],
)
def test_instruction_products_are_lanes(mnemonic: str, operands: str, products: int) -> None:
    assert Instruction(0, mnemonic, operands).products() == products


def test_loop_assembly_apart_takes_steps_of_addresses_out_of_loads() -> None:
    first, second = innermost(functions(DISASSEMBLY)["_ZN4tier8GemmRowsEPKf"])
    assert "ldp q1, q0, [x3], #0x20" in first.assembly()
    assert first.assembly(apart=True).splitlines()[1:3] == ["ldp q1, q0, [x3]", "add x3, x3, #32"]
    assert second.assembly(apart=True).splitlines()[1:3] == ["sub x4, x4, #16", "ldr q1, [x4]"]


def test_parse_tells_one_iteration() -> None:
    run = parse(OUTPUT)
    assert (run.instructions, run.cycles, run.ports) == (29.0, 8.56, 8.5)
    assert (run.resource, run.pressure) == ("N2UnitV1", 8.5)
    assert run.bottleneck == "resource pressure"
    assert run.ratio == run.busy == pytest.approx(0.993, abs=1e-3)


@pytest.mark.parametrize("line", ["Total Cycles:      1712", "Resource pressure per iteration:"])
def test_parse_names_what_is_missing(line: str) -> None:
    with pytest.raises(UnreadableOutput, match=r"(?i)total cycles|resource pressure"):
        parse(OUTPUT.replace(line, ""))


def test_model_note_says_when_the_core_is_scheduled_as_another() -> None:
    borrowed = model_note("neoverse-v2", "llvm-mca 16.0.6", parse(OUTPUT).units)
    assert "2 vector pipes" in borrowed
    assert "Neoverse V2 with the resources of Neoverse N2" in borrowed
    own = model_note("neoverse-v2", "llvm-mca 19.1.7", [f"V2UnitV{n}" for n in range(4)])
    assert "4 vector pipes: resources of V2" in own


def test_table_tells_both_simulations_where_there_are_two() -> None:
    run = parse(OUTPUT)
    slow = dataclasses.replace(run, cycles=17.0)
    rows = [
        Row("GEMM", ("neon", "neon_dot"), 64.0, run, None),
        Row("scaling", ("neon",), 8.0, slow, run),
    ]
    lines = table(rows)
    assert len({line.count("|") for line in lines}) == 1
    assert "| GEMM | neon, neon_dot | 29 | 64 | 8.6 |  | 8.5 | 0.99 |" in lines[2]
    assert "| 17.0 | 8.6 | 8.5 | 0.50 (0.99 apart) |" in lines[3]
    told = rows[1].as_json()
    assert (told["simulated"]["reaches_bar"], told["apart"]["reaches_bar"]) == (False, True)
    assert told["cycles_per_element"] == 8.56 / 8


def test_main_says_which_packages_and_objects_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mca.main(["--build", str(tmp_path)]) == 1
    assert "`make mca` builds them" in capsys.readouterr().err
    monkeypatch.setattr(mca, "_objects", lambda build: {})
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert mca.main(["--llvm", "16"]) == 1
    assert "sudo apt install llvm-16" in capsys.readouterr().err


@pytest.mark.parametrize("iterations", ["0", "-1", "many"])
def test_main_refuses_a_number_of_iterations_that_is_none(
    iterations: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        mca.main(["--iterations", iterations])
    assert "--iterations: got" in capsys.readouterr().err


def test_main_says_what_file_it_could_not_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mca, "_objects", lambda build: {})
    monkeypatch.setattr(mca, "_model", lambda *_: {})
    (tmp_path / "taken").mkdir()
    assert mca.main(["--json", str(tmp_path / "taken")]) == 1
    assert "taken" in capsys.readouterr().err
