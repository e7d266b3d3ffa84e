"""From bytes to validated requests: one place that turns pydantic's findings into named errors.

A message names the field, what was got and what is needed. Text that a user wrote is never
repeated: strings are described by their length unless the field is one of a few words.
"""

from __future__ import annotations

import json
import re
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from ..errors import InvalidRequest, LiveMindError, PayloadTooLarge

T = TypeVar("T")

CODES = {
    "json_invalid": "invalid_json",
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_parameter",
    "union_tag_invalid": "unknown_event",
    "union_tag_not_found": "missing_parameter",
}
OWN_CODES = frozenset(
    {
        "invalid_type",
        "invalid_value",
        "text_too_long",
        "unsupported_content",
        "unsupported_parameter",
    }
)
ENUMERATED = frozenset({"literal_error", "union_tag_invalid"})
MAX_SHOWN = 64
MOST_FINDINGS = 1000
UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def parse(
    adapter: TypeAdapter[T],
    raw: bytes | str,
    *,
    max_text_chars: int,
    tags: frozenset[str] = frozenset(),
) -> T:
    """Validate JSON against a model.

    Args:
        adapter: of the request model.
        raw: the body or text frame.
        max_text_chars: limit for texts, given to the validators that ask for it.
        tags: names of a discriminated union's members, which pydantic puts into locations; those of
            a field that is one by ``field.name``.

    Raises:
        InvalidRequest: with ``param`` and ``code`` of the first finding.
        PayloadTooLarge: a text is longer than the limit.
    """
    try:
        return adapter.validate_json(raw, context={"max_text_chars": max_text_chars})
    except ValidationError as exc:
        if exc.error_count() > MOST_FINDINGS:  # to build them all would take seconds
            message = f"{exc.error_count()} fields are unknown or wrong"
            raise InvalidRequest(message, code="invalid_value") from None
        raise _translate(exc.errors(include_url=False)[0], tags) from None


def event_id_of(raw: str) -> str | None:
    """Return the ``event_id`` of a frame that may be otherwise wrong."""
    try:
        frame = from_json(raw)  # unlike ``json.loads`` it takes no lone surrogates
    except ValueError:
        return None
    event_id = frame.get("event_id") if isinstance(frame, dict) else None
    return event_id if isinstance(event_id, str) and len(event_id) <= 128 else None


def _translate(error: ErrorDetails, tags: frozenset[str]) -> LiveMindError:
    kind, message = error["type"], error["msg"]
    param = _path(error["loc"], tags)
    if kind in OWN_CODES:
        family = PayloadTooLarge if kind == "text_too_long" else InvalidRequest
        param = (param + error["ctx"]["param"]).strip(".")
        return family(f"{param}: {message}", param=param, code=kind)
    code = CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    if kind == "json_invalid":
        return InvalidRequest(
            f"the body is not valid JSON: {message.partition(': ')[2]}", code=code
        )
    if kind == "extra_forbidden":
        return InvalidRequest(f"{param}: unknown field", param=param, code=code)
    if kind == "missing":
        return InvalidRequest(f"{param}: missing", param=param, code=code)
    if kind == "union_tag_not_found":
        param = f"{param}.type".lstrip(".")
        return InvalidRequest(f"{param}: missing", param=param, code=code)
    if kind == "union_tag_invalid":
        code = "invalid_value" if param else code
        given, param = error["ctx"]["tag"], f"{param}.type".lstrip(".")
        need = f"one of {error['ctx']['expected_tags']}"
        return InvalidRequest(
            f"{param}: got {_shown(given, True)}; need {need}", param=param, code=code
        )
    shown = _shown(error["input"], kind in ENUMERATED)
    where = f"{param}: " if param else ""
    need = message[0].lower() + message[1:]
    return InvalidRequest(f"{where}got {shown}; {need}", param=param or None, code=code)


def _path(loc: tuple[int | str, ...], tags: frozenset[str]) -> str:
    parts = [
        part
        for place, part in enumerate(loc)
        if (part if place == 0 else f"{loc[place - 1]}.{part}") not in tags
    ]
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{_clean(part)}"
    return path.lstrip(".")


def _clean(text: str) -> str:
    return UNPRINTABLE.sub("?", text[:MAX_SHOWN])


def _shown(value: object, enumerated: bool) -> str:
    match value:
        case None | bool():
            return json.dumps(value)
        case int() | float():
            return str(value)[:MAX_SHOWN]
        case str() if enumerated:
            return f'"{_clean(value)}"'
        case str():
            return f"a string of {len(value)} characters"
        case list():
            return f"a list of {len(value)}"
        case _:
            return "an object"
