"""Judge an answer: exact text for lookups, and by running it for code."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from typing import Final

from .facts import Turn

_INPUTS: Final = (-17, -3, 0, 1, 2, 5, 41, 250)
_TIMEOUT_S: Final = 5.0
_ALLOWED: Final = (
    ast.Module,
    ast.FunctionDef,
    ast.arguments,
    ast.arg,
    ast.Return,
    ast.BinOp,
    ast.Compare,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.UnaryOp,
    ast.USub,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.FloorDiv,
    ast.Mod,
    ast.Gt,
    ast.Lt,
    ast.GtE,
    ast.LtE,
)
_CALLABLE: Final = frozenset({"max", "min", "abs"})
_RUNNER: Final = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
source, name, inputs = json.load(sys.stdin)
scope = {"__builtins__": {"max": max, "min": min, "abs": abs}}
exec(compile(source, "answer", "exec"), scope)
print(json.dumps([scope[name](x) for x in inputs]))
"""


def is_correct(turn: Turn, answer: str) -> bool:
    """Return whether `answer` is right for `turn`.

    Code that computes the same as the reference, otherwise the exact text.
    """
    answer = answer.strip()
    if answer == turn.answer:
        return True
    if not turn.kind.startswith("code"):
        return False
    got = run_function(answer, turn.entity)
    return got is not None and got == run_function(turn.answer, turn.entity)


def run_function(source: str, name: str) -> list[int | bool] | None:
    """Return what function `name` of `source` computes for fixed integers.

    Returns None if the function is unsafe, broken or too slow. Only single arithmetic functions are
    run: the syntax tree is checked against a short list of node types, large constants are refused,
    and the code runs in a separate interpreter without builtins, with CPU, memory, process and
    file limits.
    """
    if not _is_plain_function(source, name):
        return None
    try:
        finished = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _RUNNER],
            input=json.dumps([source, name, _INPUTS]),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={},
        )
    except subprocess.TimeoutExpired:
        return None
    if finished.returncode != 0:
        return None
    values: list[int | bool] = json.loads(finished.stdout)
    return values


def _is_plain_function(source: str, name: str) -> bool:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    if (
        len(tree.body) != 1
        or not isinstance(tree.body[0], ast.FunctionDef)
        or tree.body[0].name != name
    ):
        return False
    return all(_is_plain(node) for node in ast.walk(tree))


def _is_plain(node: ast.AST) -> bool:
    if not isinstance(node, _ALLOWED):
        return False
    if isinstance(node, ast.FunctionDef):
        return not node.decorator_list
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _CALLABLE and not node.keywords
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int) and abs(node.value) < 10**6
    return True
