"""Frames and errors as the client reads them: typed, or an error that names what is wrong."""

from __future__ import annotations

import json
from typing import get_args

import msgspec
import pytest

from livemind.backends.base import Usage
from livemind.benchmarks.harness.fake_server import SESSION
from livemind.orchestrator.client.events import (
    LiveEvent,
    UnknownEvent,
    decode_event,
    exception_of,
)
from livemind.orchestrator.client.options import LiveOptions
from livemind.orchestrator.errors import (
    KINDS,
    ErrorInfo,
    InvalidRequest,
    LiveMindError,
    NotFound,
    Unavailable,
    from_exception,
    to_exception,
)
from livemind.orchestrator.events import (
    Abstention,
    ConsensusRecord,
    DraftCreated,
    Event,
    ResponseDone,
    RouteUpdated,
    Span,
    Vote,
    to_wire,
)
from livemind.orchestrator.server.live.answers import (
    ErrorFrame,
    OwnFrame,
    SessionUpdated,
    error_frame,
)
from livemind.orchestrator.server.live.schema import SessionConfig


def test_event_as_the_server_writes_it_is_the_same_again() -> None:
    span = Span("one", "quorum", 3, (Vote("two", "yes", 0.5),), 0.9, 1.5, True)
    error = ErrorInfo(503, "gone", "server_error", None, "unavailable", 1.0)
    consensus = ConsensusRecord("vote", (span,), (Abstention("three", "timeout"),), 7)
    done = ResponseDone(
        "r", 2, "failed", "one", "stop", Usage(3, 4, 1), error=error, consensus=consensus
    )
    route = RouteUpdated(1, "one", "travel", 1.0, (("two", 0.25),), True)
    for event in (done, route):
        assert decode_event(json.dumps(to_wire(event))) == event


def test_every_event_of_the_server_is_known() -> None:
    assert {*get_args(Event), *get_args(OwnFrame)} <= set(get_args(LiveEvent))


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ("nonsense", "an event: malformed"),
        ('{"revision": 1}', "an event: malformed: Object missing required field `type`"),
        ('{"type": "prefill.updated", "revision": 1}', "prefill.updated: .*field `expert`"),
        (
            '{"type": "response.output_text.delta", "response_id": 7, "delta": ""}',
            r"output_text.delta: .*\$\.response_id",
        ),
    ],
)
def test_malformed_event_is_named_with_its_field(raw: str, named: str) -> None:
    with pytest.raises(Unavailable, match=named) as failed:
        decode_event(raw)
    assert failed.value.code == "protocol_error"


def test_event_of_a_newer_server_is_let_through() -> None:
    event = decode_event('{"type": "session.resting", "to": "b"}')
    assert event == UnknownEvent("session.resting", {"type": "session.resting", "to": "b"})
    known = decode_event('{"type": "draft.created", "draft_id": "d", "expert": "x", '
                         '"revision": 1, "new_field": [1]}')  # fmt: skip
    assert known == DraftCreated("d", "x", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_error_over_the_wire_and_back_is_of_the_same_class(kind: type[LiveMindError]) -> None:
    exc = kind("no", param="text", retry_after_s=2.0)
    event = decode_event(msgspec.json.encode(error_frame(from_exception(exc), "7")))
    assert isinstance(event, ErrorFrame)
    for back in (to_exception(from_exception(exc)), exception_of(event)):
        assert type(back) is kind
        assert from_exception(back) == from_exception(exc)
    assert event.error.event_id == "7"


def test_error_of_another_code_keeps_the_class_of_its_type() -> None:
    expired = NotFound("idle", code="session_expired")
    wrong = InvalidRequest("empty", code="empty_text")
    for exc in (expired, wrong):
        event = decode_event(msgspec.json.encode(error_frame(from_exception(exc))))
        assert isinstance(event, ErrorFrame)
        assert type(exception_of(event)) is type(exc)


def test_error_of_a_status_without_a_class_keeps_the_status() -> None:
    refused = to_exception(ErrorInfo(405, "no", "invalid_request_error", None, "x"))
    assert (type(refused), refused.status) == (InvalidRequest, 405)
    assert to_exception(ErrorInfo(502, "bad", "server_error", None, "x")).status == 502


def test_options_are_those_that_the_server_takes() -> None:
    taken = set(SessionConfig.model_fields) - {"expert"}  # another name of model
    assert LiveOptions.__optional_keys__ == taken


def test_settings_of_the_benchmarks_own_server_are_whole() -> None:
    raw = json.dumps({"type": "session.updated", "session": SESSION})
    assert isinstance(decode_event(raw), SessionUpdated)
