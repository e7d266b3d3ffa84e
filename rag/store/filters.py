"""Filters over metadata, in the form of OpenAI's vector stores.

Owns their validation and their translation to parameterised SQL. Numbers, texts and booleans are
compared with their own kind alone: a value of another kind fits no comparison, as a missing one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

MAX_CLAUSES = 16
MAX_VALUES = 256

Int64: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Value: TypeAlias = Annotated[str, Field(max_length=512)] | bool | Int64 | float
Comparison = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]

Kind = Literal["text", "number", "boolean"]
_JSON_TYPES: dict[Kind, str] = {
    "text": "('text')",
    "number": "('integer', 'real')",
    "boolean": "('true', 'false')",
}
_SQL = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
BUILT_IN = ("document_id", "source")


class Compare(BaseModel):
    """One comparison: ``{"type": "eq", "key": "lang", "value": "en"}``; in and nin take a list."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    type: Comparison
    key: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_.\-]*$")
    value: Value | Annotated[list[Value], Field(min_length=1, max_length=MAX_VALUES)]

    def model_post_init(self, _: Any, /) -> None:
        """Refuse a list where one value is needed, and the other way round."""
        if (self.type in ("in", "nin")) != isinstance(self.value, list):
            raise ValueError("in and nin need a list as value, the others a single value")


class Combine(BaseModel):
    """``{"type": "and" | "or", "filters": [...]}``; at most 16 comparisons, two levels deep."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["and", "or"]
    filters: Annotated[list[Compare | Group], Field(min_length=1, max_length=MAX_CLAUSES)]


class Group(BaseModel):
    """The inner level of a combination."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: Literal["and", "or"]
    filters: Annotated[list[Compare], Field(min_length=1, max_length=MAX_CLAUSES)]


Combine.model_rebuild()
Filter: TypeAlias = Compare | Combine | Group


def keys_of(where: Filter) -> Iterator[str]:
    """Yield the metadata keys that a filter names."""
    if isinstance(where, Compare):
        if where.key not in BUILT_IN:
            yield where.key
    else:
        for part in where.filters:
            yield from keys_of(part)


def by_kind(where: Compare) -> dict[Kind, list[Value]]:
    """Return the values of a comparison by kind."""
    found: dict[Kind, list[Value]] = {}
    for value in where.value if isinstance(where.value, list) else [where.value]:
        found.setdefault(kind_of(value), []).append(value)
    return found


def kind_of(value: Value) -> Kind:
    """Return what a value is compared with."""
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def to_sql(where: Filter) -> tuple[str, list[object]]:
    """Return a condition over ``documents d`` and its parameters; no value is part of the text."""
    if not isinstance(where, Compare):
        parts = [to_sql(part) for part in where.filters]
        text = f" {where.type.upper()} ".join(f"({sql})" for sql, _ in parts)
        return text, [value for _, values in parts for value in values]
    parts = [_compared(where, kind, values) for kind, values in by_kind(where).items()]
    return " OR ".join(f"({sql})" for sql, _ in parts), [v for _, values in parts for v in values]


def _compared(where: Compare, kind: Kind, values: list[Value]) -> tuple[str, list[object]]:
    """Return the comparison with the values of one kind."""
    if where.key in BUILT_IN:
        if kind != "text":
            return "FALSE", []
        column, before = ("d.id" if where.key == "document_id" else "d.source"), []
    else:
        path = f'$."{where.key}"'
        column = "json_extract(d.metadata, ?)"
        before = [path, path]
    is_kind = f"json_type(d.metadata, ?) IN {_JSON_TYPES[kind]} AND " if before else ""
    marks = ",".join("?" * len(values))
    test = {"in": f"IN ({marks})", "nin": f"NOT IN ({marks})"}
    operator = test.get(where.type) or f"{_SQL[where.type]} ?"
    return f"{is_kind}{column} {operator}", [*before, *values]
