"""One canonical string per meaning of a closed answer, so that answers can be counted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Context, Decimal

from ...backends.base import ToolCall
from .options import AnswerForm

LONGEST_CHARS = 2000
LARGEST_EXPONENT = 30
_EXACT = Context(prec=LONGEST_CHARS)
_NUMBER = re.compile(r"(?:(?<!\w)[-+])?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
_OPTION_ALONE = re.compile(r"^\W*([A-Za-z])\W*$")
_OPTION_NAMED = re.compile(r"(?i:(?:answer|option|choice)(?: is)?) ?:? ?\W?([A-Z])\b")
_OPTION_MARKED = re.compile(r"(?:^|\s)\(?([A-Z])[).:]")
_FENCE = re.compile(r"```(?:json)?(.*?)```", re.DOTALL)


def canonical(text: str, form: AnswerForm, labels: Sequence[str] = ()) -> str | None:
    """Return what the answer says, or None if it says nothing of this form or several things.

    Args:
        text: an expert's answer.
        form: ``number``: the last one, ``1,200.50`` = ``1200.5``; ``option``: the letter of a
            multiple choice; ``label``: the one of ``labels`` that occurs; ``json``: the value,
            whatever the order of its keys; ``text``: the words, whatever case and outer marks.
        labels: of ``label``.
    """
    text = text.strip()
    if not text or len(text) > LONGEST_CHARS:
        return None
    match form:
        case "number":
            return _number(text)
        case "option":
            return _option(text)
        case "label":
            return _label(text, labels)
        case "json":
            return _json(text)
        case "text":
            words = " ".join(text.casefold().split()).strip(" .!?\"'*`")
            return words or None


def canonical_calls(calls: Sequence[ToolCall]) -> str | None:
    """Return what calls ask for, whatever their order and that of their arguments.

    None where arguments are no JSON, or too long.
    """
    asked = []
    for call in calls:
        given = canonical(call.arguments or "{}", "json")
        if given is None:
            return None
        asked.append(f"{call.name}({given})")
    return " ".join(sorted(asked))


def _number(text: str) -> str | None:
    found = _NUMBER.findall(text)
    if not found:
        return None
    value = Decimal(found[-1].replace(",", "")).normalize(_EXACT)
    return "0" if value == 0 else str(value)


def _option(text: str) -> str | None:
    text = " ".join(text.split())
    alone = _OPTION_ALONE.match(text)
    if alone is not None:
        return alone[1].upper()
    for pattern in (_OPTION_NAMED, _OPTION_MARKED):
        letters = set(pattern.findall(text))
        if letters:
            return letters.pop() if len(letters) == 1 else None
    return None


def _label(text: str, labels: Sequence[str]) -> str | None:
    """Longer labels first: in ``not spam`` the label ``spam`` does not occur."""
    left, found = text.casefold(), []
    for label in sorted(labels, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(label.casefold())}(?!\w)"
        if re.search(pattern, left):
            found.append(label)
            left = re.sub(pattern, " ", left)
    return found[0] if len(found) == 1 else None


def _json(text: str) -> str | None:
    fenced = _FENCE.search(text)
    try:
        value = json.loads(fenced[1] if fenced is not None else text, parse_float=_plain)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _plain(number: str) -> int | float:
    """Raise ValueError for a number that would be long written out: ``1e999999`` is not."""
    value = Decimal(number)
    if abs(value.adjusted()) > LARGEST_EXPONENT:
        raise ValueError
    return int(value) if value == value.to_integral_value() else float(value)
