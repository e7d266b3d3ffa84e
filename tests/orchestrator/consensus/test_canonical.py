"""Answers that mean the same have one canonical form, others have none or another."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.orchestrator.consensus.canonical import canonical


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("number", "The port of Kestrel is 361.", "361"),
        ("number", "It costs 1,200.50 euros", "1200.5"),
        ("number", "about -3.0", "-3"),
        ("number", "12e2", "1.2E+3"),
        ("number", "0.000", "0"),
        ("number", "10-20", "2E+1"),
        ("number", "on 2024-05-06", "6"),
        ("number", "1" * 30, "1" * 30),
        ("number", "not in the documents", None),
        ("option", "(b)", "B"),
        ("option", "The answer is C, since A is too small.", "C"),
        ("option", "A) first\nB) second", None),
        ("option", "B. second", "B"),
        ("option", "I think the answer is a prime number", None),
        ("option", "the ANSWER is: B", "B"),
        ("option", "I do not know", None),
        ("json", '```json\n{"b": 1.0, "a": [true]}\n```', '{"a":[true],"b":1}'),
        ("json", '{"a": [true], "b": 1}', '{"a":[true],"b":1}'),
        ("json", "[1e3, 1000, 2.5]", "[1000,1000,2.5]"),
        ("json", "1e4000", None),
        ("json", "1e-300000", None),
        ("json", "1e99999999999999999999", None),
        ("json", "{broken", None),
        ("text", "  Not  in the\nDocuments. ", "not in the documents"),
        ("text", "...", None),
        ("text", "x" * 3000, None),
    ],
)
def test_canonical_of_each_form_is_what_the_answer_says(
    form: Any, text: str, expected: str | None
) -> None:
    assert canonical(text, form) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Not spam.", "not spam"),
        ("SPAM", "spam"),
        ("spam or not spam?", None),
        ("spammer", None),
    ],
)
def test_canonical_label_is_the_only_one_that_occurs(text: str, expected: str | None) -> None:
    assert canonical(text, "label", ("spam", "not spam")) == expected
