"""The parsers of foreign bytes, driven towards what takes them long or far: targeted search."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st, target
from pydantic import TypeAdapter, ValidationError

from livemind.backends.remote.sse import EventReader, StreamTooLarge
from livemind.orchestrator.errors import LiveMindError
from livemind.orchestrator.server.live.frames import FRAME, TAGS
from livemind.orchestrator.server.validation import event_id_of, parse
from livemind.rag.store.filters import Filter, keys_of, to_sql

from .conftest import ROUNDS

pytestmark = pytest.mark.timeout(1500)

SEARCH = settings(max_examples=60 * ROUNDS, deadline=None, suppress_health_check=list(HealthCheck))
PIECES = st.sampled_from(
    [b"data:", b"data: ", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"event: x", b"[DONE]", b"{",
     b"}", b'{"a":', b"1}", b"[", b"]", b'"', b"\xef\xbb\xbf", b"\xff", b"id: 7", b"null",
     b"x" * 300]
)  # fmt: skip
NAMES = sorted(TAGS) if isinstance(TAGS, dict) else list(TAGS)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["type", "text", "revision", "turn_id", "event_id", "item", "model", "speculation", "sampling",
     "response_id", "item_id", "previous_item_id", "audio_end_ms", "history", "consensus"]
)  # fmt: skip


def events(blocks: list[bytes]) -> list[str]:
    reader = EventReader(max_line_bytes=2000, max_stream_bytes=20_000)
    found: list[str] = []
    for block in blocks:
        found += reader.feed(block)
    return found + reader.end()


@SEARCH
@given(st.lists(st.lists(PIECES, max_size=12).map(b"".join), max_size=12))
def test_event_streams_give_text_or_are_too_large_whatever_they_hold(blocks: list[bytes]) -> None:
    try:
        found = events(blocks)
    except StreamTooLarge:
        return
    target(float(len(found)), label="events")
    assert all(isinstance(payload, str) and payload for payload in found)
    assert sum(map(len, found)) <= 3 * sum(map(len, blocks)) + len(blocks)


@SEARCH
@given(st.lists(JSON, min_size=1, max_size=6), st.data())
def test_event_streams_give_the_same_events_however_they_are_cut(
    values: list[Any], data: st.DataObject
) -> None:
    stream = b"".join(b"data: " + json.dumps(v).encode() + b"\n\n" for v in values)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    target(float(len(pieces)), label="pieces")
    try:
        whole = events([stream])
    except StreamTooLarge:
        return
    assert events(pieces) == whole == [json.dumps(v) for v in values]


@SEARCH
@given(
    st.sampled_from(NAMES),
    st.dictionaries(FIELDS, JSON, max_size=5),
    st.booleans(),
)
def test_frames_are_taken_or_refused_with_a_code(
    name: str, fields: dict[str, Any], named: bool
) -> None:
    raw = json.dumps({**fields, **({"type": name} if named else {})})
    target(float(len(raw)), label="length")
    refused = None
    try:
        frame = parse(FRAME, raw, max_text_chars=100, tags=TAGS)
    except LiveMindError as error:
        refused = error
    else:
        assert frame.type == name
    event_id_of(raw)
    if refused is not None:
        assert refused.code
        assert len(str(refused)) < 2000


@SEARCH
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_nonsense_is_no_frame(raw: str) -> None:
    target(float(raw.count("{") + raw.count('"')), label="marks")
    with pytest.raises(LiveMindError):
        parse(FRAME, raw, max_text_chars=100, tags=TAGS)
    event_id_of(raw)


COMPARE = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "like"]),
        "key": st.sampled_from(["lang", "a'b", "source", "document_id", "x" * 70, "a.b", '"', ""]),
        "value": SCALAR | st.lists(SCALAR, max_size=3),
    }
)
FILTER = st.recursive(
    COMPARE,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, max_size=4)}
    ),
    max_leaves=10,
)


@SEARCH
@given(FILTER)
def test_filters_are_refused_or_become_sql_with_parameters(given_filter: dict[str, Any]) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(Filter)
    try:
        found = adapter.validate_json(json.dumps(given_filter, allow_nan=True))
    except ValidationError:
        return
    sql, values = to_sql(found)
    target(float(len(values)), label="values")
    assert sql.count("?") == len(values)
    assert sql.count("(") == sql.count(")")
    for key in keys_of(found):
        assert key.replace("_", "").replace(".", "").replace("-", "").isalnum()
    for value in values:
        if isinstance(value, str) and len(value) > 12:
            assert value not in sql
