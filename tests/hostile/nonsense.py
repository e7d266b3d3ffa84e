"""Frames and bodies that are nearly right: what a fuzzer sends to every door."""

from __future__ import annotations

import json
from random import Random
from typing import Any

TEXT = ("", " ", "a", "what is", "the pool of the town", "\0", "\ud800", "é" * 50, "x" * 3000, "7")
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 10**30, 1e308, -0.0, "", "a", "auto", "fake", "none", "sess_0",
    [], [[]], [None], {}, {"a": {}}, {"type": "text"}, *TEXT,
)  # fmt: skip
FIELDS = (
    "audio_end_ms",
    "cache_salt",
    "collection",
    "consensus",
    "content_index",
    "deadline_ms",
    "documents",
    "event_id",
    "filter",
    "history",
    "id",
    "input",
    "instructions",
    "interrupt",
    "item",
    "item_id",
    "known",
    "livemind",
    "max_tokens",
    "messages",
    "metadata",
    "mode",
    "model",
    "n",
    "on_cold",
    "partial",
    "previous_item_id",
    "prompt",
    "query",
    "response",
    "response_id",
    "results",
    "retrieval",
    "revision",
    "sampling",
    "segment",
    "session",
    "session_id",
    "source",
    "speculation",
    "stream",
    "temperature",
    "text",
    "tools",
    "top_k",
    "turn_id",
)
GARBAGE = (
    "", "{", "[]", "null", "7", '"x"', "{}", '{"type": 7}', '{"type": "x"}', "[" * 5000,
    '{"type": "input_text.append", "text": "a"', "\ufeff{}", "\0", '{"a":1,"a":2}', "NaN",
)  # fmt: skip


def item(random: Random) -> dict[str, Any]:
    """Return an item of a conversation, or nearly one."""
    kind = random.choice(("message", "function_call", "function_call_output", "nothing"))
    part = {"type": random.choice(("input_text", "output_text", "input_audio", "x"))}
    made: dict[str, Any] = {
        "type": kind,
        "role": random.choice(("user", "assistant", "system", "x")),
        "content": [{**part, "text": random.choice(TEXT)}],
    }
    if kind.startswith("function"):
        made |= {"call_id": random.choice(TEXT), "name": "f", "arguments": "{}", "output": "x"}
    return mutated(random, made)


def mutated(random: Random, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with some gone, some of other values and some more."""
    made = dict(fields)
    for _ in range(random.choice((0, 0, 0, 1, 1, 2, 3))):
        what = random.random()
        if made and what < 0.3:
            del made[random.choice(sorted(made))]
        elif made and what < 0.6:
            made[random.choice(sorted(made))] = random.choice(VALUES)
        else:
            made[random.choice(FIELDS)] = random.choice((*VALUES, "item"))
    if made.get("item") == "item":
        made["item"] = item(random)
    return made


def encoded(random: Random, value: object) -> str:
    """Return JSON, now and then cut or something else altogether."""
    roll = random.random()
    if roll < 0.05:
        return random.choice(GARBAGE)
    text = json.dumps(value, ensure_ascii=random.random() < 0.9 or "ud800" in json.dumps(value))
    return text[: random.randrange(len(text) + 1)] if roll < 0.1 else text


def live_frame(random: Random) -> dict[str, Any]:
    """Return a frame of ``/v1/live``."""
    kind = random.choice(
        ("session.update", "input_text.append", "input_text.append", "input_text.replace",
         "input_text.commit", "input_text.commit", "input_text.clear", "response.cancel",
         "conversation.item.create", "conversation.item.delete", "conversation.item.truncate",
         "conversation.item.retrieve", "unknown")
    )  # fmt: skip
    made: dict[str, Any] = {"type": kind}
    if kind.startswith("input_text") and not kind.endswith("clear"):
        made["text"] = random.choice(TEXT[2:6])
        if random.random() < 0.2:
            made["revision"] = random.choice((0, 1, 5, 10**6, -1))
    if kind == "session.update":
        made["speculation"] = random.choice(("off", "prefill", "draft"))
    if kind.endswith("item.create"):
        made["item"] = item(random)
    elif "item" in kind:
        made |= {"item_id": random.choice(("item_0", "x", "")), "audio_end_ms": 10}
    return mutated(random, made)


def realtime_frame(random: Random) -> dict[str, Any]:
    """Return a frame of ``/v1/realtime``."""
    kind = random.choice(
        ("session.update", "conversation.item.create", "conversation.item.create",
         "response.create", "response.create", "response.cancel", "conversation.item.delete",
         "conversation.item.truncate", "input_text.append", "input_text.replace",
         "input_audio_buffer.append", "input_audio_buffer.commit", "output_audio_buffer.clear")
    )  # fmt: skip
    made: dict[str, Any] = {"type": kind}
    if kind == "session.update":
        made["session"] = mutated(random, {"type": "realtime", "instructions": "be brief"})
    elif kind.endswith("item.create"):
        made["item"] = item(random)
    elif kind == "response.create":
        made["response"] = mutated(random, {}) if random.random() < 0.5 else {}
    elif kind.startswith("input_text"):
        made["text"] = random.choice(TEXT)
    return mutated(random, made)


def bodies(random: Random) -> dict[str, dict[str, Any]]:
    """Return a body for each path that takes one."""
    said = [{"role": random.choice(("user", "user", "system", "tool")), "content": "the pool"}]
    return {
        "/v1/chat/completions": {"messages": said, "stream": random.random() < 0.5},
        "/v1/completions": {"prompt": random.choice(TEXT), "model": "fake"},
        "/v1/responses": {"input": random.choice(TEXT), "stream": random.random() < 0.5},
        "/v1/live/sessions": {"speculation": "off"},
        "/v1/embeddings": {"input": random.choice(TEXT), "model": "x"},
        "/v1/rerank": {"query": "a", "documents": ["b", "c"]},
        "/tokenize": {"prompt": random.choice(TEXT)},
        "/detokenize": {"tokens": [1, 2]},
        "/v1/documents": {"documents": []},
        "/v1/nothing": {},
    }


def bridge_bodies(random: Random) -> dict[str, dict[str, Any]]:
    """Return a body for each path of the bridge that takes one."""
    asked = {"query": random.choice(TEXT), "session_id": "s", "revision": 1, "deadline_ms": 50}
    document = mutated(random, {"id": "d", "text": random.choice(TEXT), "source": "s"})
    rule = {"type": random.choice(("eq", "in", "x")), "key": "lang", "value": "en"}
    return {
        "/v1/retrieve": {**asked, "filter": mutated(random, rule)},
        "/v1/documents": {"documents": [document]},
        "/v1/documents/delete": {"ids": [random.choice(TEXT)]},
        "/v1/nothing": {},
    }


def on_the_wire(random: Random, path: str) -> bytes:
    """Return what no client library sends: broken requests, upgrades and frames."""
    upgrade = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    frames = (
        b"\x81\x05hello", b"\x81\x85\0\0\0\0hello", b"\x8f\x80\0\0\0\0", b"\xc1\x85\0\0\0\0hello",
        b"\x01\x85\0\0\0\0hello\x01\x85\0\0\0\0hello", b"\x89\xfe\0\x7e\0\0\0\0" + b"x" * 126,
        b"\x88\x81\0\0\0\0\x01", b"\x88\x82\0\0\0\0\0\0", b"\x81\xff" + b"\xff" * 8 + b"\0" * 4,
        b"\x81\xfe\0\x01\0\0\0\0x", b"\x81\x82\0\0\0\0\xff\xfe", b"\x80\x81\0\0\0\0x",
    )  # fmt: skip
    requests = (
        b"GET", b"\x16\x03\x01\x02\0\x01\0", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100,
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        b"Content-Type: application/json\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET " + b"/a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", upgrade.replace(b"13", b"99"),
    )  # fmt: skip
    if random.random() < 0.5:
        return random.choice(requests)
    return upgrade + b"".join(random.choice(frames) for _ in range(random.randrange(4)))
