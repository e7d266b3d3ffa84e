"""From a failed validation to one line per problem, in the words of the configuration file.

Owns the wording of pydantic's error kinds and the hints for unknown keys.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from .file import Location, path_text, value_text

_CROSS_CHECK = "livemind_cross_check"
_SECRET_KEYS = frozenset({"api_keys"})

# pydantic's error kind → what the key needs; {placeholders} come from the error's context.
_NEEDS: Mapping[str, str] = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than": "< {lt}",
    "less_than_equal": "<= {le}",
    "literal_error": "{expected}",
    "model_type": "an object",
    "path_type": "a path",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "string_type": "text",
    "too_long": "at most {max_length} of them",
    "too_short": "at least {min_length} of them",
    "tuple_type": "a list",
}


class Problem(NamedTuple):
    """One thing that is wrong: where, relative to the object that was checked, and what."""

    location: tuple[str | int, ...]
    text: str


def got(key: str, value: object, need: str) -> Problem:
    """Return the problem ``key: got VALUE, need NEED``."""
    return Problem((key,), f"got {value_text(value)}, need {need}")


def raise_problems(problems: Iterable[Problem]) -> None:
    """Raise all problems as one pydantic error, if there is any. For use in a validator."""
    found = list(problems)
    if found:
        text = "; ".join(f"{path_text(problem.location)}: {problem.text}" for problem in found)
        raise PydanticCustomError(_CROSS_CHECK, "{text}", {"text": text, "problems": found})


def problem_lines(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """Yield ``path.to[0].key: what is wrong`` for each problem; secrets are not shown."""
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        for problem in _problems_of(detail, model):
            path = path_text((*location, *problem.location))
            yield f"{path}: {problem.text}" if path else problem.text


def _problems_of(detail: ErrorDetails, model: type[BaseModel]) -> list[Problem]:
    kind, location, context = detail["type"], detail["loc"], detail.get("ctx", {})
    if kind == _CROSS_CHECK:
        return list(context["problems"])
    if kind == "missing":
        return [Problem((), "missing, need a value")]
    if kind == "extra_forbidden":
        return [Problem((), _unknown_key(location, model))]
    if kind == "too_short" and len(detail["input"]) >= context["min_length"]:
        return []  # pydantic counts the valid entries only; the others have their own lines
    if kind == "value_error" and _SECRET_KEYS.intersection(location):
        return [Problem((), detail["msg"].removeprefix("Value error, "))]
    value = "a secret" if _SECRET_KEYS.intersection(location) else value_text(detail["input"])
    need = _NEEDS.get(kind)
    if need is None:
        return [Problem((), f"got {value}: {detail['msg']}")]
    words = need.format(**context)
    if kind == "literal_error":
        words = f"{'one of ' if ' or ' in words else ''}{words}".replace("'", '"')
    return [Problem((), f"got {value}, need {words}")]


def _unknown_key(location: Location, model: type[BaseModel]) -> str:
    known = sorted(_model_at(model, location[:-1]).model_fields)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f'unknown key, did you mean "{near[0]}"?'
    return f"unknown key, known are {', '.join(known)}"


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """Follow keys and indices down to the model that holds the last of them."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = model_inside(model.model_fields[part].annotation) or model
    return model


def model_inside(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside ``X``, ``tuple[X, ...]``, ``dict[str, X]`` or ``X | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (model_inside(argument) for argument in get_args(annotation))
    return next((model for model in found if model is not None), None)
