"""A bound for the white space in JSON that a grammar asks for.

Between two tokens of JSON any number of blanks and lines is right, and a small model may write
nothing else until its limit. What JSON means is the same with fewer.
"""

from __future__ import annotations

import json
from typing import Any


def bounded(wanted: Any, most: int | None) -> Any:
    """Return vLLM's ``StructuredOutputsParams`` with at most so many white spaces in a row.

    Args:
        wanted: the grammar, None = none. One that is no JSON is returned as it is, as is a schema
            that vLLM's structural tags cannot express.
        most: None = any number.
    """
    if wanted is None or most is None:
        return wanted
    if wanted.structural_tag is not None:
        tag = json.loads(wanted.structural_tag)
        _bound(tag.get("format"), most)
        return _tagged(tag)
    schema = {"type": "object"} if wanted.json_object else wanted.json
    if schema is None or not _expressible(schema):
        return wanted
    schema = json.loads(schema) if isinstance(schema, str) else schema
    said = {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": most}
    return _tagged({"type": "structural_tag", "format": said})


def _bound(part: Any, most: int) -> None:
    """Bound every schema of a structural tag that has no bound."""
    if isinstance(part, list):
        for inner in part:
            _bound(inner, most)
    elif isinstance(part, dict):
        if part.get("type") == "json_schema":
            if part.get("max_whitespace_cnt") is None:
                part["max_whitespace_cnt"] = most
            return
        for inner in part.values():
            _bound(inner, most)


def _tagged(tag: dict[str, Any]) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(structural_tag=json.dumps(tag))


def _expressible(schema: str | dict[str, Any]) -> bool:
    from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features

    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError:
            return False  # the engine says what is wrong with it
    return isinstance(schema, dict) and not has_xgrammar_unsupported_json_features(schema)
