"""Filters as Milvus expressions."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from livemind.rag.store.filters import Filter
from livemind.rag.store.milvus.filters import to_expression


@pytest.mark.parametrize(
    ("where", "expression"),
    [
        (
            {"type": "eq", "key": "lang", "value": 'x" or true or "'},
            r'exists metadata["lang"] and metadata["lang"] == "x\" or true or \""',
        ),
        (
            {"type": "gte", "key": "year", "value": 2024},
            'exists metadata["year"] and metadata["year"] >= 2024',
        ),
        (
            {"type": "ne", "key": "document_id", "value": "a"},
            '(document < "a" or document > "a")',
        ),
        ({"type": "eq", "key": "document_id", "value": 3}, 'document < ""'),
        ({"type": "in", "key": "source", "value": ["a", "b"]}, '(source == "a" or source == "b")'),
        (
            {"type": "nin", "key": "draft", "value": [True, 1.5]},
            'exists metadata["draft"] and (metadata["draft"] == false'
            ' or (metadata["draft"] < 1.5 or metadata["draft"] > 1.5))',
        ),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "lt", "key": "source", "value": "b"},
                    {
                        "type": "and",
                        "filters": [{"type": "gt", "key": "document_id", "value": "c"}],
                    },
                ],
            },
            '(source < "b") or ((document > "c"))',
        ),
    ],
)
def test_expression_values_are_literals_and_missing_keys_fit_nothing(
    where: dict[str, object], expression: str
) -> None:
    assert to_expression(TypeAdapter(Filter).validate_python(where)) == expression
