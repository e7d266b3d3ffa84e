"""Write docs/sdk.md from the docstrings of what ``livemind`` exports.

``python docs/generator/sdk.py`` prints the page. A file in the repository, so that it can be read
where the code is; a test fails when it is not what the docstrings say.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from typing import ForwardRef, Literal, get_args, get_origin, is_typeddict

import msgspec
import pydantic
from griffe import Docstring, DocstringSectionKind as Kind

import livemind
from livemind.backends import base
from livemind.orchestrator import events
from livemind.orchestrator.consensus import options as consensus
from livemind.orchestrator.turn import values
from livemind.public import homes

_HEAD = """\
# Python reference

Written by `python docs/generator/sdk.py` from the docstrings; do not edit. All of it is imported
from `livemind` itself: `from livemind import LiveMind`. A name loads when it is first used. Type
checkers see the same names. What is not listed here may change without notice.

Objects belong to the event loop in which they were entered, and their methods are called from its
thread, unless the text says otherwise. Values are immutable. Times are seconds where a name ends
in `_s`, milliseconds where it ends in `_ms`.
"""
_GROUPS = (
    (
        "The engine and its conversations",
        (
            ".orchestrator.live_mind",
            ".orchestrator.session",
            ".orchestrator.options",
            ".orchestrator.items",
            ".orchestrator.conversation",
            ".orchestrator.heard",
        ),
    ),
    (
        "A client of a server",
        (
            ".orchestrator.client.client",
            ".orchestrator.client.session",
            ".orchestrator.client.options",
            ".orchestrator.client.answer",
            ".orchestrator.client.events",
            ".orchestrator.server.live.answers",
            ".orchestrator.server.consensus_schema",
        ),
    ),
    ("What a request says", (".orchestrator.consensus.options",)),
    ("Events", (".orchestrator.events", ".orchestrator.item_events")),
    ("Errors", (".orchestrator.errors", ".backends.errors")),
    ("Experts", (".backends.base", ".backends.drafts", ".backends.spec", ".backends.pool.state")),
    ("What is known of experts", (".orchestrator.rates", ".orchestrator.stats")),
    ("Retrieval and encoders", (".rag.base",)),
    (
        "Settings",
        (
            ".orchestrator.config.settings",
            ".orchestrator.config.telemetry",
            ".orchestrator.config.sections",
            ".orchestrator.config.server",
            ".orchestrator.config.experts",
        ),
    ),
)
# Of these a reader wants the whole before the parts; the others come by name.
# Not made by a program: LiveMind makes them.
_NOT_MADE = ("Session", "SessionItems", "RemoteSession", "LiveAnswer")
_FIRST = (
    "LiveMind",
    "Session",
    "LiveClient",
    "RemoteSession",
    "Settings",
    "load_settings",
    "LiveMindError",
    "Expert",
)


_ALIASES = (
    (values, ("Mode", "OnCold")),
    (consensus, ("PolicyName", "AnswerForm", "Gate", "Verdict")),
    (base, ("Role", "FinishReason", "Draft")),
    (events, ("Status", "Settled", "Event")),
)
# Several attributes in one entry: the parser knows one name only.
_SEVERAL = re.compile(r"^    \w+(, \w+)+(?=: )", re.MULTILINE)


def page() -> str:
    """Return the page as Markdown."""
    grouped = {module for _, modules in _GROUPS for module in modules}
    assert grouped == {*homes().values()}, grouped ^ {*homes().values()}
    parts = [_HEAD]
    for title, modules in _GROUPS:
        parts.append(f"\n## {title}\n")
        names = [name for name, module in homes().items() if module in modules]
        for name in sorted(names, key=lambda name: (name not in _FIRST, modules_of(name), name)):
            parts += _entry(name, getattr(livemind, name))
    parts.append("\n## Names in signatures\n\n| name | stands for |\n|---|---|")
    for home, aliases in _ALIASES:
        for name in aliases:
            parts.append(f"| `{name}` | {_alias(getattr(home, name))} |")
    return "\n".join([*parts, ""]).replace("\n\n\n", "\n\n")


def _alias(alias: object) -> str:
    if get_origin(alias) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(alias))
    names = [getattr(kind, "__name__", str(kind)) for kind in get_args(alias)]
    return "one of " + ", ".join(f"`{name}`" for name in names)


def modules_of(name: str) -> int:
    """Return the place of a name's module in the list of modules."""
    return list(dict.fromkeys(homes().values())).index(homes()[name])


def _entry(name: str, item: object) -> Iterator[str]:
    yield f"\n### `{name}`\n"
    if get_args(item):
        yield f"{_alias(item)}.\n"
        return
    if not isinstance(item, type):
        yield f"{_signature(name, item)}\n"
        yield from _text(item)
        return
    if issubclass(item, pydantic.BaseModel):
        yield from _settings(item)
        return
    if name not in _NOT_MADE:
        yield f"{_kind(name, item)}\n"
    yield from _text(item)
    for key, member in vars(item).items():
        function = inspect.unwrap(getattr(member, "__func__", member))
        if key.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"\n#### `{name}.{key}`\n"
            yield from _text(member)
        elif inspect.isfunction(function):
            yield f"\n#### `{name}.{key}`\n"
            yield f"{_signature(key, function)}\n"
            yield from _text(function)


def _settings(item: type[pydantic.BaseModel]) -> Iterator[str]:
    yield from _text(item)
    yield "The fields and their limits: [configuration](configuration.md)."
    for key, member in vars(item).items():
        if inspect.isfunction(member) and not key.startswith("_") and inspect.getdoc(member):
            yield f"\n#### `{item.__name__}.{key}`\n"
            yield f"{_signature(key, member)}\n"
            yield from _text(member)


def _kind(name: str, item: type) -> str:
    """Return how an object is made or where it comes from."""
    if issubclass(item, BaseException):
        [parent, *_] = item.__bases__
        wire = ""
        if issubclass(item, livemind.LiveMindError):
            wire = f" HTTP status {item.status}, code `{item.code}` unless another is given."
        above = "" if parent is Exception else f", a `{parent.__name__}`"
        return f"Exception{above}.{wire}"
    if issubclass(item, enum.Enum):
        return f"Enumeration: {', '.join(f'`{e.name}` = {e.value}' for e in item)}."
    if getattr(item, "_is_protocol", False):
        names = inspect.get_annotations(item)
        data = f", with {' and '.join(f'`{n}: {t}`' for n, t in names.items())}" if names else ""
        return f"Protocol: any object with these members will do{data}."
    fields = _fields(item)
    if fields:
        lines = [f"{name}(", *(f"    {field}," for field in fields), ")"]
        return "\n".join(["```python", *lines, "```"])
    return _signature(name, item)


def _fields(item: type) -> list[str]:
    """Return the fields of a value type as they are written, with defaults."""
    if issubclass(item, msgspec.Struct):
        hints = {key: value for base in reversed(item.__mro__) for key, value in _own(base)}
        return [
            f"{field.name}: {hints[field.name]}{_default(field.default, field.default_factory)}"
            for field in msgspec.structs.fields(item)
        ]
    if is_typeddict(item):
        return [f"{key}: {kind} = …" for key, kind in _own(item)]
    if not dataclasses.is_dataclass(item):
        return []
    return [
        f"{field.name}: {field.type}{_default(field.default, field.default_factory)}"
        for field in dataclasses.fields(item)
    ]


def _own(base: type) -> list[tuple[str, str]]:
    return [
        (key, value.__forward_arg__ if isinstance(value, ForwardRef) else str(value))
        for key, value in inspect.get_annotations(base).items()
    ]


def _default(value: object, factory: object) -> str:
    absent = (msgspec.NODEFAULT, dataclasses.MISSING)
    if value not in absent:
        return f" = {_literal(value)}"
    return "" if factory in absent else f" = {getattr(factory, '__name__', '…')}()"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _signature(name: str, item: object) -> str:
    assert callable(item)
    found = inspect.signature(item)
    kept = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    shown = [_parameter(p) for p in kept]
    for place, parameter in enumerate(kept):
        if parameter.kind is parameter.KEYWORD_ONLY:
            shown.insert(place, "*")
            break
    returns = found.return_annotation
    arrow = "" if returns is inspect.Signature.empty or isinstance(item, type) else f" -> {returns}"
    prefix = "async " if inspect.iscoroutinefunction(item) else ""
    line = f"{prefix}{name}({', '.join(shown)}){arrow}"
    if len(line) > 100:
        line = f"{prefix}{name}(\n" + "".join(f"    {text},\n" for text in shown) + f"){arrow}"
    return f"```python\n{line}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    annotation, default = parameter.annotation, parameter.default
    stars: dict[object, str] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    name = stars.get(parameter.kind, "") + parameter.name
    text = name if annotation is parameter.empty else f"{name}: {annotation}"
    if default is parameter.empty:
        return text
    named = getattr(default, "__name__", None) if callable(default) else _literal(default)
    return f"{text} = {'…' if named in (None, '<lambda>') else named}"


def _text(item: object) -> Iterator[str]:
    """Yield the docstring's sections as Markdown."""
    text = _SEVERAL.sub(lambda match: match[0].replace(", ", ","), inspect.getdoc(item) or "")
    for section in Docstring(text).parse("google", warnings=False):
        match section.kind:
            case Kind.text | Kind.admonition:
                yield f"{_plain(str(section.value))}\n"
            case Kind.parameters | Kind.attributes:
                yield f"| {'argument' if section.kind is Kind.parameters else 'attribute'} | |"
                yield "|---|---|"
                yield from (
                    f"| `{_names(e.name)}` | {_cell(e.description)} |" for e in section.value
                )
                yield ""
            case Kind.raises:
                yield "Raises:\n"
                yield from (
                    f"- `{_names(str(e.annotation))}`: {_cell(e.description)}"
                    for e in section.value
                )
                yield ""
            case Kind.returns | Kind.yields:
                word = "Returns" if section.kind is Kind.returns else "Yields"
                found = "; ".join(_cell(entry.description) for entry in section.value)
                yield f"{word}: {found}\n"
            case other:
                raise ValueError(f"a section of kind {other} in {item!r}")


def _names(text: str) -> str:
    return text.replace(",", "`, `")


def _plain(text: str) -> str:
    return re.sub(r"``([^`\n]*)``", r"`\1`", text)


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
