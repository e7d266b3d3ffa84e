"""Findings about a chat template: what it refuses, drops, moves or rewrites, and what that costs.

Renders five short conversations as transformers does, without a tokenizer: in Jinja's sandbox, with
the functions that templates are given. Costs are shares of the text that a next turn keeps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from .case import Case
from .findings import Finding

SYSTEM, FIRST, ANSWER, SECOND = "canned system", "canned first", "canned answer", "canned second"
RESULT, THOUGHT = "canned result", "canned thought"
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
_CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "look_up", "arguments": {"key": "x"}},
}
Turn = dict[str, Any]


class TemplateRefused(Exception):
    """The template raised; the message is its own."""


def check_template(case: Case) -> Iterator[Finding]:
    """Yield what the template does to conversations that are usual elsewhere."""
    source = None if case.place is None else chat_template(case.place)
    if source is None:
        return
    try:
        template = Template(source)
    except TemplateRefused as exc:
        why = f"the chat template cannot be read: {exc}"
        yield case.finding("error", "chat_template_broken", "model_path", case.name, why)
        return
    for code, why in judge(template):
        yield case.finding("info", code, "model_path", case.name, f"chat template: {why}")


def chat_template(place: Path) -> str | None:
    """Return the template of a model's folder, None if it has none that can be read."""
    try:
        if (place / "chat_template.jinja").is_file():
            return (place / "chat_template.jinja").read_text("utf-8")
        for name in ("chat_template.json", "tokenizer_config.json"):
            if not (place / name).is_file():
                continue
            found = json.loads((place / name).read_text("utf-8")).get("chat_template")
            if isinstance(found, list):  # several, by name
                found = {one["name"]: one["template"] for one in found}.get("default")
            if found:
                return str(found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return None


class Template:
    """A chat template, compiled. Raises TemplateRefused where it is no template."""

    def __init__(self, source: str) -> None:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _as_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = self._now
        self._date = datetime(2026, 1, 2)
        try:
            self._compiled = environment.from_string(_GENERATION.sub("", source))
        except TemplateError as exc:
            raise TemplateRefused(_short(exc)) from None

    def render(self, turns: Sequence[Turn], date: datetime | None = None) -> str:
        """Return the text with a generation prompt. Raises TemplateRefused."""
        self._date = date or datetime(2026, 1, 2)
        try:
            return self._compiled.render(
                messages=list(turns),
                tools=None,
                documents=None,
                add_generation_prompt=True,
                bos_token="",
                eos_token="",
            )
        except Exception as exc:  # a template is a program and raises what it likes
            raise TemplateRefused(_short(exc)) from None

    def _now(self, form: str) -> str:
        return self._date.strftime(form)


def judge(template: Template) -> Iterator[tuple[str, str]]:
    """Yield code and sentence of everything that differs from what a client would expect."""
    user = [_turn("user", FIRST)]
    talk = [*user, _turn("assistant", ANSWER), _turn("user", SECOND)]
    try:
        plain = template.render(user)
    except TemplateRefused as exc:
        yield "chat_template_broken", f"refuses a plain question: {exc}"
        return
    yield from _system(template, talk)
    yield from _second_user(template)
    yield from _tool_result(template, user)
    yield from _reasoning(template, talk)
    if template.render(user, datetime(2027, 11, 12)) != plain:
        yield "template_date", "has the date in it: every cached prefix is lost at midnight"


def _system(template: Template, talk: list[Turn]) -> Iterator[tuple[str, str]]:
    told = [_turn("system", SYSTEM), *talk]
    try:
        text, before = template.render(told), template.render(told[:2])
    except TemplateRefused as exc:
        yield "template_system", f"refuses a system message: {exc}"
        return
    if SYSTEM not in text:
        yield "template_system", "drops the system message without a word"
    elif text.find(SYSTEM) > text.find(FIRST):
        share = _kept(before, text)
        yield (
            "template_system",
            (
                "moves the system message behind the first question, so that each turn keeps only "
                f"{share:.0%} of the prompt before it"
            ),
        )


def _second_user(template: Template) -> Iterator[tuple[str, str]]:
    try:
        text = template.render([_turn("user", FIRST), _turn("user", SECOND)])
    except TemplateRefused as exc:
        yield "template_users", f"refuses two user messages in a row: {exc}"
        return
    if FIRST not in text or SECOND not in text:
        yield "template_users", "drops one of two user messages in a row"


def _tool_result(template: Template, user: list[Turn]) -> Iterator[tuple[str, str]]:
    call = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    result = {"role": "tool", "content": RESULT, "tool_call_id": "abcdefghi", "name": "look_up"}
    try:
        text = template.render([*user, call, result])
    except TemplateRefused as exc:
        yield "template_tools", f"refuses a tool's result: {exc}"
        return
    if RESULT not in text:
        yield "template_tools", "drops what a tool returned"
    elif "look_up" not in text:
        yield "template_tools", "drops the call that a tool's result answers"


def _reasoning(template: Template, talk: list[Turn]) -> Iterator[tuple[str, str]]:
    thought = _turn("assistant", f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}")
    try:
        text = template.render([talk[0], thought, talk[2]])
        before = template.render(talk[:1])
    except TemplateRefused as exc:
        yield "template_reasoning", f"refuses an answer with reasoning: {exc}"
        return
    if THOUGHT not in text and ANSWER in text:
        share = _kept(before, text)
        yield (
            "template_reasoning",
            (
                "drops the reasoning of earlier answers: of what was generated nothing stays, "
                f"of the prompt before it {share:.0%}"
            ),
        )


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _kept(before: str, after: str) -> float:
    """Return how much of a prompt the next turn's begins with."""
    pairs = enumerate(zip(before, after, strict=False))
    same = next((place for place, (one, other) in pairs if one != other), len(before))
    return min(same, len(before), len(after)) / max(1, len(before))


def _as_json(value: object, indent: int | None = None, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, **more)


def _raise(message: str) -> None:
    raise TemplateRefused(message)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
