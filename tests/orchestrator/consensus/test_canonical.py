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
        ("number", "not in the documents", None),
        ("option", "(b)", "B"),
        ("option", "The answer is C, since A is too small.", "C"),
        ("option", "A) first\nB) second", None),
        ("option", "B. second", "B"),
        ("option", "I do not know", None),
        ("json", '```json\n{"b": 1.0, "a": [true]}\n```', '{"a":[true],"b":1}'),
        ("json", '{"a": [true], "b": 1}', '{"a":[true],"b":1}'),
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
