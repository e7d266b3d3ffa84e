"""Streams as servers write them, whole and cut anywhere."""

from __future__ import annotations

import json

import pytest

from livemind.backends.remote.events import chunk_of, event_of
from livemind.backends.remote.sse import EventReader, StreamTooLarge

A, B = '{"a": 1}', '{"b": 2}'
STREAMS = {
    "as usual": (f"data: {A}\n\ndata: {B}\n\ndata: [DONE]\n\n", [A, B]),
    "byte order mark": (f"\ufeffdata: {A}\n\n", [A]),
    "mark inside": (f"data: {A}\n\n\ufeffdata: {B}\n\n", [A]),
    "carriage returns": (f"data: {A}\r\rdata: {B}\r\r", [A, B]),
    "both": (f"data: {A}\r\n\r\ndata: {B}\r\n\r\n", [A, B]),
    "several lines": ('data: {"a":\ndata: 1}\n\n', ['{"a":\n1}']),
    "no blank lines": (f"data: {A}\ndata: {B}\n", [A, B]),
    "no end": (f"data: {A}\n\ndata: {B}\n", [A, B]),
    "comments and fields": (f": ping\n\nevent: x\nid: 7\ndata:{A}\nretry: 1\n\n", [A]),
    "after the end": (f"data: [DONE]\n\ndata: {A}\n\n", []),
    "done at once": (f"data: {A}\ndata: [DONE]\n", [A]),
    "no data": ("data:\n\ndata: \n\nx\n\n", []),
}


def events(raw: bytes, size: int) -> list[str]:
    reader = EventReader()
    found = [e for at in range(0, len(raw), size) for e in reader.feed(raw[at : at + size])]
    return found + reader.end()


@pytest.mark.parametrize("name", STREAMS)
def test_stream_cut_anywhere_gives_the_same_events(name: str) -> None:
    text, wanted = STREAMS[name]
    raw = text.encode()
    for size in (*range(1, 12), len(raw)):
        assert [json.loads(e) for e in events(raw, size)] == [json.loads(w) for w in wanted], size


def test_line_in_many_pieces_is_read_in_linear_time_and_has_a_limit() -> None:
    payload = json.dumps({"text": "x" * 900_000})
    raw = f"data: {payload}".encode()
    reader = EventReader()
    assert not any(reader.feed(raw[at : at + 10]) for at in range(0, len(raw), 10))
    assert reader.feed(b"\n\n") == [payload]
    with pytest.raises(StreamTooLarge):
        reader.feed(b"x" * (1 << 20) + b"y")


def test_choice_is_taken_by_its_index() -> None:
    other = {"index": 1, "delta": {"content": "b"}}
    first = {"index": 0, "delta": {"content": "a"}}
    chunk = chunk_of(event_of(json.dumps({"choices": [other, first]})))
    assert chunk is not None
    assert chunk.text == "a"
    assert chunk_of(event_of(json.dumps({"choices": [other]}))) is None


def test_answer_that_comes_whole_is_read() -> None:
    raw = '{"choices": [{"message": {"content": "all"}, "finish_reason": "content_filter"}]}'
    chunk = chunk_of(event_of(raw))
    assert chunk is not None
    assert (chunk.text, chunk.finish_reason) == ("all", "content_filter")
