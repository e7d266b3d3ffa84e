"""Filters as Milvus expressions. Pure.

Values are JSON literals, which the expression language reads as they are; keys are checked when
the filter is (``filters.py``), so no value can become part of the expression. A missing key fits no
comparison, ``ne`` and ``nin`` neither, and so does a value of another kind: "not equal" is said as
below or above, which it is not. Milvus Lite takes a boolean for a number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..filters import BUILT_IN, Compare, Filter, by_kind

_OPERATORS = {"eq": "==", "in": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


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
    joined = " and " if where.type in ("ne", "nin") else " or "
    tests = []
    for kind, values in by_kind(where).items():  # Milvus Lite's "in" takes no JSON path
        of_kind = [_test(field, where.type, value) for value in values]
        if kind != "text" and where.key in BUILT_IN:
            of_kind = [f'{field} < ""']  # which nothing is
        tests.append(of_kind[0] if len(of_kind) == 1 else f"({joined.join(of_kind)})")
    return present + (tests[0] if len(tests) == 1 else f"({' or '.join(tests)})")


def _test(field: str, comparison: str, value: str | bool | float) -> str:
    shown = literal(value)
    if comparison not in ("ne", "nin"):
        return f"{field} {_OPERATORS[comparison]} {shown}"
    if isinstance(value, bool):
        return f"{field} == {literal(not value)}"
    return f"({field} < {shown} or {field} > {shown})"
