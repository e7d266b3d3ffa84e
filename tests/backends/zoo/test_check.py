"""The answer checker: exact text for lookups, executed code for functions."""

from __future__ import annotations

import pytest

from livemind.backends.zoo.check import is_correct, run_function
from livemind.backends.zoo.coding import RULES
from livemind.backends.zoo.facts import Turn

CODE = Turn("Write f.", "def f(x):\n    return x * 3 + 5", "code", "f")
LOOKUP = Turn("Port?", "The port of Kestrel is 361.", "lookup", "Kestrel")


@pytest.mark.parametrize(
    "answer",
    ["def f(x):\n    return x * 3 + 5", "def f(x):\n    return 5 + 3 * x"],
    ids=["same-text", "same-values"],
)
def test_checker_code_with_the_right_values_is_correct(answer: str) -> None:
    assert is_correct(CODE, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "def f(x):\n    return x * 3 - 5",
        "def g(x):\n    return x * 3 + 5",
        "def f(x)\n    return x",
        "The function f is not in the documents.",
        "def f(x):\n    return x * y",
    ],
    ids=["other-values", "other-name", "broken", "prose", "unknown-name"],
)
def test_checker_wrong_code_is_not_correct(answer: str) -> None:
    assert not is_correct(CODE, answer)


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef f(x):\n    return x",
        "def f(x):\n    return __import__('os').getpid()",
        "def f(x):\n    return open('/etc/passwd')",
        "def f(x):\n    while True: pass",
        "def f(x):\n    return x ** x ** x",
        "def f(x):\n    return x.__class__",
        "@print\ndef f(x):\n    return x",
        "def f(x):\n    return f(x)",
    ],
    ids=["import", "dunder", "open", "loop", "power", "attribute", "decorator", "recursion"],
)
def test_checker_unsafe_source_is_never_run(source: str) -> None:
    assert run_function(source, "f") is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.words)
def test_rule_expression_computes_what_the_rule_says(rule: object) -> None:
    expression = rule.expression.format(a=7, b=4)  # type: ignore[attr-defined]
    values = run_function(f"def f(x):\n    return {expression}", "f")
    expected = [rule.apply(x, 7, 4) for x in (-17, -3, 0, 1, 2, 5, 41, 250)]  # type: ignore[attr-defined]
    assert values == expected


def test_checker_lookup_accepts_the_exact_text_only() -> None:
    assert is_correct(LOOKUP, " The port of Kestrel is 361.\n")
    assert not is_correct(LOOKUP, "The port of Kestrel is 362.")
    assert not is_correct(LOOKUP, "The port of Kestrel is 361. Yes.")
