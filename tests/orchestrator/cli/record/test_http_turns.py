"""From requests and answers over plain HTTP to lines of a recording."""

from __future__ import annotations

import json
from typing import Any

import pytest

from livemind.orchestrator.cli.record.http_turns import CHAT, MAX_SESSIONS, SESSIONS, Sessions
from livemind.orchestrator.cli.record.turns import Turns

Json = dict[str, Any]
ADOPTED = {
    "X-LiveMind-Session-Status": "adopted",
    "X-LiveMind-Expert": "one",
    "Content-Type": "text/event-stream",
}


def sessions() -> Sessions:
    return Sessions(lambda: Turns("s", texts=True))


def put(of: Sessions, text: object, at_s: float, *, status: int = 200, owner: str = "") -> None:
    request = of.followed("PUT", f"{SESSIONS}mine/input", {"Authorization": owner})
    assert request is not None
    request.asked(json.dumps({"text": text}).encode(), at_s)
    request.answered(status, {})


def chat(of: Sessions, content: object, at_s: float, *pieces: bytes, **head: Any) -> list[Json]:
    request = of.followed("POST", CHAT, {"X-LiveMind-Session": "mine", "Authorization": ""})
    assert request is not None
    said = {"messages": [{"role": "user", "content": content}]}
    request.asked(json.dumps(said).encode(), at_s)
    request.answered(head.get("status", 200), head.get("headers", ADOPTED))
    for number, piece in enumerate(pieces, 1):
        request.piece(piece, at_s + number / 10)
    return request.ended(at_s + 1)


def frame(**choice: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


ROLE = frame(delta={"role": "assistant", "content": ""})
LAST = frame(delta={}, finish_reason="stop") + b"data: [DONE]\n\n"


def test_states_that_were_put_and_the_streamed_answer_are_a_turn() -> None:
    of = sessions()
    put(of, "What", 1.0)
    put(of, "What is", 1.5)
    hello = frame(delta={"content": "hello"})
    lines = chat(of, "What is it", 2.0, ROLE, hello[:9], hello[9:], LAST)
    assert [(line["t_ms"], line["text"]) for line in lines] == [
        (0.0, "What"),
        (500.0, "What is"),
        (1000.0, "What is it"),
    ]
    figures = lines[-1]["turn"]
    assert (figures["expert"], figures["ttft_ms"]) == ("one", 300.0)


def test_whole_answer_is_waited_for_and_the_server_tells_its_own_time() -> None:
    of = sessions()
    put(of, "What", 1.0)
    head = {**ADOPTED, "Content-Type": "application/json", "X-LiveMind-TTFT-Ms": "12.5"}
    message = {"role": "assistant", "content": "it"}
    told = {
        "choices": [{"message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        "livemind": {"ledger": {"prefill_wasted": 1, "draft_wasted": 2}},
    }
    whole = json.dumps(told).encode()
    parts = [{"type": "text", "text": "What"}, {"type": "text", "text": "now"}]
    [_, last] = chat(of, parts, 2.0, whole[:30], whole[30:], headers=head)
    assert last["text"] == "What\nnow"
    figures = last["turn"]
    assert (figures["ttft_ms"], figures["server_ttft_ms"]) == (1000.0, 12.5)
    assert (figures["prompt_tokens"], figures["tokens_wasted"]) == (7, 3)


@pytest.mark.parametrize(
    "given",
    [
        {"status": 429},
        {"headers": {**ADOPTED, "X-LiveMind-Session-Status": "lost"}},
        {"headers": {**ADOPTED, "Content-Encoding": "br"}},
    ],
)
def test_answer_that_is_none_of_the_session_leaves_no_line(given: Json) -> None:
    of = sessions()
    put(of, "What", 1.0)
    assert chat(of, "What is it", 2.0, frame(delta={"content": "x"}), LAST, **given) == []


def test_answer_that_breaks_off_leaves_no_line() -> None:
    of = sessions()
    assert chat(of, "What is it", 2.0, frame(delta={"content": "x"}), b"data: {") == []


def test_state_that_the_server_refused_is_none() -> None:
    of = sessions()
    put(of, "old", 1.0, status=409)
    put(of, 7, 1.0)
    put(of, "of another", 1.0, owner="Bearer other")
    assert [line["text"] for line in chat(of, "new", 2.0, LAST)] == ["new"]


def test_empty_input_begins_anew() -> None:
    of = sessions()
    put(of, "first", 1.0)
    put(of, "", 2.0)
    put(of, "second", 5.0)
    lines = chat(of, "second", 6.0, LAST)
    assert [(line["t_ms"], line["text"]) for line in lines] == [(0.0, "second"), (1000.0, "second")]


def test_sessions_that_were_deleted_or_left_long_ago_are_forgotten() -> None:
    of = sessions()
    put(of, "What", 1.0)
    assert of.followed("DELETE", f"{SESSIONS}mine", {}) is None
    assert len(chat(of, "asked", 2.0, LAST)) == 1
    put(of, "What", 3.0)
    for number in range(MAX_SESSIONS):
        of.of("", f"another {number}")
    assert len(chat(of, "asked", 4.0, LAST)) == 1


def test_requests_of_no_session_are_not_followed() -> None:
    of = sessions()
    for method, path in (("POST", CHAT), ("GET", f"{SESSIONS}mine"), ("PUT", "/v1/documents")):
        assert of.followed(method, path, {}) is None
