"""The live protocol as JSON Schema, from the types that the server decodes and encodes with.

``python -m livemind.orchestrator.server.live.json_schema FOLDER`` writes one file a schema. What a
client sends is as strict as the server: a key that is not there is refused. Of what the server
sends every key that it always sends is required, and it sends no other; clients should be laxer,
as later versions may send more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from msgspec import UNSET, Struct, json
from msgspec.structs import fields
from pydantic import TypeAdapter

from ...errors import ErrorEnvelope, ErrorInfo
from ...events import Event
from .answers import OwnFrame, SessionDeleted, SessionSettings, SessionStatus
from .frames import FRAME
from .schema import SessionConfig, SessionInput

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def schemas() -> dict[str, Schema]:
    """Return the schemas by name: of frames, events, and the bodies of the HTTP sessions."""
    found = {
        "client-frame": ("A frame from the client on /v1/live", FRAME.json_schema()),
        "server-event": ("A frame from the server on /v1/live", _union((*_kinds(),))),
        "session-create": (
            "Body of POST /v1/live/sessions",
            TypeAdapter(SessionConfig).json_schema(),
        ),
        "session-input": (
            "Body of PUT /v1/live/sessions/{id}/input",
            TypeAdapter(SessionInput).json_schema(),
        ),
        "session": (
            "Answer to POST /v1/live/sessions and GET /v1/live/sessions/{id}",
            _joined(SessionSettings, SessionStatus),
        ),
        "session-status": ("Answer to PUT /v1/live/sessions/{id}/input", _one(SessionStatus)),
        "session-deleted": ("Answer to DELETE /v1/live/sessions/{id}", _one(SessionDeleted)),
        "error": ("Body of every HTTP answer from 400 on", _one(ErrorEnvelope)),
    }
    return {
        name: {"$schema": DIALECT, **schema, "title": title}
        for name, (title, schema) in found.items()
    }


def write(folder: Path) -> None:
    """Write each schema to ``NAME.json`` in a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (folder / f"{name}.json").write_bytes(text_of(schema))


def text_of(schema: Schema) -> bytes:
    """Return a schema as its file has it."""
    return json.format(json.encode(schema, order="sorted"), indent=2) + b"\n"


def _kinds() -> Iterator[type]:
    yield from get_args(OwnFrame)
    yield from get_args(Event)


def _union(kinds: tuple[type, ...]) -> Schema:
    refs, parts = _components(kinds)
    return {"oneOf": refs, "$defs": parts}


def _one(kind: type) -> Schema:
    [ref], parts = _components((kind,))
    return {**ref, "$defs": parts}


def _joined(*kinds: type) -> Schema:
    """Return the schema of an object that has the keys of several types."""
    _, parts = _components(kinds)
    found = [parts.pop(kind.__name__) for kind in kinds]
    properties = {name: value for part in found for name, value in part["properties"].items()}
    return {
        "type": "object",
        "properties": properties,
        "required": sorted({name for part in found for name in part["required"]}),
        "additionalProperties": False,
        "$defs": parts,
    }


def _components(kinds: tuple[type, ...]) -> tuple[list[Schema], dict[str, Schema]]:
    refs, parts = json.schema_components(kinds, ref_template="#/$defs/{name}")
    types: dict[str, type] = {}
    for kind in kinds:
        _collect(kind, types)
    for name, part in parts.items():
        tag = getattr(types[name], "type", None)
        if name in {kind.__name__ for kind in kinds} and isinstance(tag, str):
            part["properties"] = {"type": {"const": tag}, **part["properties"]}
        if types[name] is ErrorInfo:
            del part["properties"]["cause"]
        left_out = _left_out(types[name])
        part["required"] = [key for key in part["properties"] if key not in left_out]
        part["additionalProperties"] = False
        for value in part["properties"].values():
            value.pop("default", None)
    return [dict(ref) for ref in refs], parts


def _collect(kind: Any, found: dict[str, type]) -> None:
    """Note the structures that a type is made of, by name."""
    if isinstance(kind, type) and (issubclass(kind, Struct) or is_dataclass(kind)):
        if kind.__name__ in found:
            return
        found[kind.__name__] = kind
        for hint in _hints(kind).values():
            _collect(hint, found)
    for argument in get_args(kind):
        _collect(argument, found)


def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _left_out(kind: type) -> set[str]:
    """Return the keys that are sent only when they say something."""
    if not issubclass(kind, Struct):
        return set()
    names = {field.name for field in fields(kind)}
    if kind.__struct_config__.omit_defaults:
        return names
    return {field.name for field in fields(kind) if field.default is UNSET}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
