"""Filters as Milvus expressions. Pure.

Values are JSON literals, which the expression language reads as they are; keys are checked when
the filter is (``filters.py``), so no value can become part of the expression. A missing key fits no
comparison, ``ne`` and ``nin`` neither.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..filters import BUILT_IN, Compare, Filter

_OPERATORS = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def literal(value: str | bool | int | float) -> str:
    """Return a value as it stands in an expression."""
    return json.dumps(value, ensure_ascii=False)


def any_of(field: str, values: Sequence[str]) -> str:
    """Return that a field of the collection is one of the values."""
    return f"{field} in [{', '.join(map(literal, values))}]"


def to_expression(where: Filter) -> str:
    """Return the expression over ``document``, ``source`` and ``metadata``."""
    if not isinstance(where, Compare):
        return f" {where.type} ".join(f"({to_expression(part)})" for part in where.filters)
    if where.key in BUILT_IN:
        field, present = ("document" if where.key == "document_id" else "source"), ""
    else:
        field = f"metadata[{literal(where.key)}]"
        present = f"exists {field} and "
    values = where.value if isinstance(where.value, list) else [where.value]
    if where.type in ("in", "nin"):  # Milvus Lite's "in" takes no JSON path
        operator, joined = ("==", " or ") if where.type == "in" else ("!=", " and ")
        tests = joined.join(f"{field} {operator} {literal(value)}" for value in values)
        return f"{present}({tests})"
    return f"{present}{field} {_OPERATORS[where.type]} {literal(values[0])}"
