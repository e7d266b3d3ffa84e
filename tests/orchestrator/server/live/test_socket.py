"""``ws /v1/live``: the protocol, its errors, and what happens when a client goes away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert


def kinds(socket: Any) -> list[str]:
    return [event["type"] for event in socket.seen]


async def test_live_connect_announces_the_session_with_its_defaults(serve: Any) -> None:
    async with serve() as doors, doors.live(configure=False) as socket:
        session = socket.seen[0]["session"]
        assert session["id"].startswith("sess_")
        assert session["model"] == "fake"
        assert session["consensus"]["policy"] == "auto"
        assert session["speculation"] == "draft"
        assert session["retrieval"] is False
        assert len(doors.state.registry) == 1


async def test_live_turn_streams_the_answer_between_created_and_done(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(type="input_text.append", text="hello ", revision=1)
        await socket.send(type="input_text.append", text="there", revision=2)
        await socket.send(type="input_text.commit", revision=3)
        done = await socket.until("response.done")
        assert done["status"] == "completed"
        assert done["revision"] == 3
        assert done["expert"] == "fake"
        turn = [event for event in socket.seen if event["type"].startswith("response.")]
        assert [e["type"] for e in turn] == [
            "response.created",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.done",
        ]
        assert "".join(e["delta"] for e in turn[1:3]) == turn[3]["text"] == "HELLO THERE"
        assert {"usage", "timings", "ledger", "degraded", "error"} <= set(done)


async def test_live_turn_begins_its_clock_with_its_own_commit(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        for _ in range(2):
            await asyncio.sleep(0.5)  # since the upgrade, or the commit before
            await socket.send(type="input_text.commit", text="hello")
            done = await socket.until("response.done")
            assert done["timings"]["total_ms"] < 500


async def test_live_commit_text_wins_over_what_was_typed(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(type="input_text.append", text="draft")
        await socket.send(type="input_text.commit", text="final words")
        assert (await socket.until("response.output_text.done"))["text"] == "FINAL WORDS"


async def test_live_replace_and_clear_change_the_input(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(type="input_text.append", text="wrong")
        await socket.send(type="input_text.clear")
        await socket.send(type="input_text.append", text="teh")
        await socket.send(type="input_text.replace", text="the")
        await socket.send(type="input_text.append", text=" end")
        await socket.send(type="input_text.commit")
        assert (await socket.until("response.output_text.done"))["text"] == "THE END"


async def test_live_every_commit_has_exactly_one_done(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        for number in range(5):
            await socket.send(type="input_text.commit", text=f"question {number}")
            await socket.until("response.done")
        assert kinds(socket).count("response.done") == 5
        assert kinds(socket).count("response.created") == 5


async def test_live_update_changes_only_the_given_fields(serve: Any) -> None:
    async with (
        serve(FakeExpert("one"), FakeExpert("two")) as doors,
        doors.live(configure=False) as socket,
    ):
        await socket.send(
            type="session.update",
            model="two",
            instructions="be brief",
            sampling={"temperature": 0, "stop": "x"},
            documents=["paper"],
        )
        await socket.send(type="session.update", session={"sampling": {"max_tokens": 1}})
        await socket.send(type="session.update", speculation="off", consensus="first")
        for _ in range(3):
            session = (await socket.until("session.updated"))["session"]
        assert session["model"] == "two"
        assert session["instructions"] == "be brief"
        assert session["documents"] == 1
        assert session["speculation"] == "off"
        assert session["sampling"] == {"max_tokens": 1, "temperature": 0.0, "stop": ["x"]}
        await socket.send(type="session.update", model=None, sampling=None)
        session = (await socket.until("session.updated"))["session"]
        assert session["model"] == "auto"
        assert session["sampling"] == {}


async def test_live_sampling_reaches_the_expert(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(type="session.update", expert="fake", sampling={"max_tokens": 1})
        await socket.send(type="input_text.commit", text="one two three")
        assert (await socket.until("response.output_text.done"))["text"] == "ONE"


async def test_live_cancel_ends_the_response_as_cancelled(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors, doors.live() as socket:
        await socket.send(type="input_text.commit", text="one two")
        await socket.until("response.output_text.delta")
        await socket.send(type="response.cancel")
        assert (await socket.until("response.done"))["status"] == "cancelled"
        assert expert.running == 0


async def test_live_failed_turn_says_why_and_the_session_lives_on(serve: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors, doors.live() as socket:
        expert.refuse = ExpertUnavailable("fake", "the engine is not running")
        await socket.send(type="input_text.commit", text="one")
        done = await socket.until("response.done")
        assert done["status"] == "failed"
        assert done["error"]["code"] == "expert_unavailable"
        expert.refuse = None
        await socket.send(type="input_text.commit", text="two")
        assert (await socket.until("response.done"))["status"] == "completed"


async def test_live_draft_events_never_carry_text(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(type="session.update", speculation="draft")
        await socket.send(type="input_text.append", text="what is the secret word?")
        draft = await socket.until("draft.created")
        assert set(draft) == {"type", "draft_id", "expert", "revision"}
        assert "SECRET" not in json.dumps(socket.seen)
        await socket.send(type="input_text.commit")
        done = await socket.until("response.done")
        assert done["ledger"]["draft_adopted"] > 0


BAD_FRAMES = {
    "broken json": ('{"type":', "invalid_json", None),
    "not an object": ("[]", "invalid_type", None),
    "no type": ("{}", "missing_parameter", "type"),
    "unknown type": ('{"type": "input_audio.append"}', "unknown_event", "type"),
    "type number": ('{"type": 3}', "unknown_event", "type"),
    "unknown field": (
        '{"type": "input_text.append", "text": "a", "speed": 1}',
        "unknown_parameter",
        "speed",
    ),
    "no text": ('{"type": "input_text.append"}', "missing_parameter", "text"),
    "text number": ('{"type": "input_text.append", "text": 5}', "invalid_type", "text"),
    "text long": (
        json.dumps({"type": "input_text.append", "text": "x" * 300}),
        "text_too_long",
        "text",
    ),
    "commit long": (
        json.dumps({"type": "input_text.commit", "text": "x" * 300}),
        "text_too_long",
        "text",
    ),
    "revision text": (
        '{"type": "input_text.append", "text": "a", "revision": "1"}',
        "invalid_type",
        "revision",
    ),
    "revision negative": (
        '{"type": "input_text.append", "text": "a", "revision": -1}',
        "invalid_value",
        "revision",
    ),
    "empty commit": ('{"type": "input_text.commit"}', "empty_text", "text"),
    "nothing to cancel": ('{"type": "response.cancel"}', "response_not_active", None),
    "unknown model": ('{"type": "session.update", "model": "x"}', "model_not_found", "model"),
    "two models": (
        '{"type": "session.update", "model": "fake", "expert": "other"}',
        "invalid_value",
        "expert",
    ),
    "consensus": (
        '{"type": "session.update", "consensus": "vote"}',
        "not_available",
        "consensus.policy",
    ),
    "consensus unknown": (
        '{"type": "session.update", "consensus": "x"}',
        "invalid_value",
        "consensus.policy",
    ),
    "consensus of an unknown expert": (
        '{"type": "session.update", "consensus": {"experts": ["x"]}}',
        "invalid_value",
        "consensus.experts",
    ),
    "consensus labels without the form": (
        '{"type": "session.update", "consensus": {"labels": ["x"]}}',
        "invalid_value",
        "consensus.answer",
    ),
    "speculation": (
        '{"type": "session.update", "speculation": "max"}',
        "invalid_value",
        "speculation",
    ),
    "sampling field": (
        '{"type": "session.update", "sampling": {"temp": 1}}',
        "unknown_parameter",
        "sampling.temp",
    ),
    "sampling value": (
        '{"type": "session.update", "session": {"sampling": {"top_p": 2}}}',
        "invalid_value",
        "session.sampling.top_p",
    ),
    "both places": (
        '{"type": "session.update", "model": "fake", "session": {}}',
        "invalid_value",
        "model",
    ),
    "lone surrogate": (
        r'{"type": "input_text.append", "text": "\ud800"}',
        "invalid_json",
        None,
    ),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_live_bad_frame_gets_its_named_error_and_changes_nothing(
    serve: Any, name: str
) -> None:
    frame, code, param = BAD_FRAMES[name]
    async with serve(max_text_chars=200) as doors, doors.live() as socket:
        await socket.ws.send_str(frame)
        error = await socket.error()
        assert error["code"] == code, error
        assert error["param"] == param, error
        assert error["event_id"] is None
        await socket.send(type="input_text.append", text="still here")
        await socket.send(type="input_text.commit")
        assert (await socket.until("response.output_text.done"))["text"] == "STILL HERE"


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "input_text.append", "text": "a"},
        {"type": "input_text.commit", "text": "a"},
        {"type": "response.cancel"},
    ],
    ids=lambda frame: frame["type"],
)
async def test_live_frame_before_session_update_is_refused_by_name(serve: Any, frame: Any) -> None:
    async with serve() as doors, doors.live(configure=False) as socket:
        await socket.send(**frame, event_id="e1")
        error = await socket.error()
        assert error["code"] == "session_not_configured"
        assert error["event_id"] == "e1"
        await socket.send(type="session.update")
        await socket.until("session.updated")


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "input_text.append", "text": 5, "event_id": "mine"},
        {"type": "nothing", "event_id": "mine"},
        {"type": "input_text.commit", "event_id": "mine"},
        {"type": "session.update", "model": "x", "event_id": "mine"},
    ],
    ids=["invalid", "unknown", "refused", "no model"],
)
async def test_live_error_names_the_event_it_answers(serve: Any, frame: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(**frame)
        assert (await socket.error())["event_id"] == "mine"


async def test_live_revision_going_backwards_is_refused_by_name(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(type="input_text.append", text="a", revision=5)
        await socket.send(type="input_text.append", text="b", revision=5, event_id="late")
        error = await socket.error()
        assert (error["code"], error["event_id"]) == ("revision_conflict", "late")
        assert "5" in error["message"]
        await socket.send(type="input_text.commit", revision=6)
        assert (await socket.until("response.output_text.done"))["text"] == "A"


async def test_live_appends_that_add_up_over_the_limit_are_refused(serve: Any) -> None:
    async with serve(max_text_chars=200) as doors, doors.live() as socket:
        await socket.send(type="input_text.append", text="x" * 150)
        await socket.send(type="input_text.append", text="x" * 100)
        error = await socket.error()
        assert error["code"] == "text_too_long"
        assert "200" in error["message"]


@pytest.mark.parametrize("cancels", [False, True])
async def test_live_commit_during_a_response_takes_its_place(serve: Any, cancels: bool) -> None:
    async with serve(FakeExpert("fake", token_s=3600)) as doors, doors.live() as socket:
        await socket.send(type="input_text.commit", text="one two")
        await socket.until("response.created")
        await socket.send(type="input_text.append", text="three")
        if cancels:
            await socket.send(type="response.cancel")
        await socket.send(type="input_text.commit")
        assert (await socket.until("response.done"))["status"] == "cancelled"
        assert (await socket.until("response.output_text.done"))["text"] == "THREE"
        assert "error" not in [event["type"] for event in socket.seen]


async def test_live_cancel_of_a_response_that_is_over_is_refused(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(type="input_text.commit", text="one")
        done = await socket.until("response.done")
        await socket.send(type="response.cancel", response_id=done["response_id"])
        assert (await socket.error())["code"] == "response_not_active"


async def test_live_binary_frame_is_refused_and_the_socket_stays(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.ws.send_bytes(b"\x00\x01")
        assert (await socket.error())["code"] == "unsupported_frame"
        await socket.send(type="input_text.commit", text="ok")
        await socket.until("response.done")


async def test_live_frame_over_the_size_limit_closes_with_1009(serve: Any) -> None:
    async with serve(max_body_bytes=4096) as doors, doors.live() as socket:
        await socket.send(type="input_text.append", text="x" * 10_000)
        assert await socket.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await doors.quiet()


async def test_live_over_the_session_limit_is_429_before_the_upgrade(serve: Any) -> None:
    async with serve(max_sessions=1) as doors, doors.live():
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with doors.live():
                pass
        assert refused.value.status == 429
        assert refused.value.headers is not None
        assert int(refused.value.headers["Retry-After"]) >= 1


async def test_live_client_that_vanishes_in_mid_stream_frees_everything(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors:
        async with doors.live() as socket:
            await socket.send(type="input_text.commit", text="one two")
            await socket.until("response.output_text.delta")
            socket.ws._conn.transport.abort()  # no close frame
        await doors.quiet()
        assert expert.aborted == 1
        assert doors.mind.stats()["sessions"] == 0
        assert doors.state.metrics.stats()["turns_cancelled"] == 1


async def test_live_client_that_closes_gets_its_session_closed(serve: Any) -> None:
    async with serve() as doors:
        async with doors.live():
            assert len(doors.state.registry) == 1
        await doors.quiet()


async def test_live_session_without_use_is_closed_with_its_reason(serve: Any) -> None:
    async with serve(session_idle_timeout_s=0.2) as doors, doors.live() as socket:
        assert await socket.closed() == aiohttp.WSCloseCode.GOING_AWAY
        assert socket.seen[-1]["error"]["code"] == "session_expired"
        assert len(doors.state.registry) == 0


async def test_live_client_that_stops_reading_is_cut_off(serve: Any) -> None:
    """The socket's buffers fill, then the send times out; the expert's slot is free again."""
    words = " ".join(["x" * 400_000] * 100)
    expert = FakeExpert("fake", answer=lambda messages: words, token_s=0.01)
    async with serve(expert, send_timeout_s=0.3) as doors, doors.live() as socket:
        await socket.send(type="input_text.commit", text="go")
        await socket.until("response.output_text.delta")
        transport = socket.ws._conn.transport
        transport.pause_reading()
        await doors.quiet()
        transport.abort()
        assert expert.running == 0
        stats = doors.state.metrics.stats()
        assert stats.get("turns_cancelled", 0) + stats.get("turns_failed", 0) == 1


async def test_live_idle_sessions_run_no_timers_against_each_other(serve: Any) -> None:
    async with serve() as doors:
        async with doors.live() as one, doors.live() as two:
            await one.send(type="input_text.commit", text="first")
            await two.send(type="input_text.commit", text="second")
            assert (await two.until("response.output_text.done"))["text"] == "SECOND"
            assert (await one.until("response.output_text.done"))["text"] == "FIRST"
        await doors.quiet()
        await asyncio.sleep(0)


@pytest.mark.parametrize("field", ["event_id", "text", "type", "extra"])
async def test_frame_with_a_lone_surrogate_is_refused_and_the_session_goes_on(
    serve: Any, field: str
) -> None:
    async with serve() as server, server.live() as connection:
        frame = {"type": "input_text.append", "text": "a", field: "\ud800"}
        await connection.send(**frame)
        assert (await connection.error())["code"] == "invalid_json"
        await connection.send(type="input_text.commit", text="one")
        assert (await connection.until("response.done"))["status"] == "completed"
