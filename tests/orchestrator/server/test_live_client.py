"""The public client against the real server, through a relay that can cut its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from livemind import (
    ErrorFrame,
    InvalidRequest,
    LiveClient,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PrefillUpdated,
    ResponseDone,
    ResponseTextDelta,
    RevisionConflict,
    Unauthorized,
    Unavailable,
)
from livemind.backends.base import Message
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.client import LiveEvent
from livemind.orchestrator.client import answer as answer_module

from .relay import read, typed


async def test_session_typed_question_is_answered_and_nothing_is_left(
    serve: Any, eventually: Any
) -> None:
    async with serve() as doors, LiveClient(doors.url) as client:
        seen: list[tuple[float, LiveEvent]] = []
        observe = lambda event, at_s: seen.append((at_s, event))  # noqa: E731
        async with client.session(observe=observe) as session:
            session.append("what is ")
            await typed(doors, eventually, "what is ")
            session.append("teh")
            session.replace("what is the port?")
            await typed(doors, eventually, "what is the port?")
            await eventually(lambda: any(isinstance(event, PrefillUpdated) for _, event in seen))
            answer = session.commit()
            said, done = "", None
            async for event in answer:
                if isinstance(event, ResponseTextDelta):
                    said += event.delta
                done = event
            assert said == "WHAT IS THE PORT?"
            assert isinstance(done, ResponseDone)
            assert done.status == "completed"
            assert session.text == ""
            assert (await read(session, "and again"))[0] == "AND AGAIN"
        times = [at_s for at_s, _ in seen]
        assert times == sorted(times)
        assert answer.committed_s is not None
        assert answer.committed_s < times[-1]
        await doors.quiet()


async def test_client_without_key_is_unauthorized_on_both_ways(serve: Any) -> None:
    async with serve(api_keys=["right"]) as doors:
        async with LiveClient(doors.url) as client:
            with pytest.raises(Unauthorized, match="Bearer") as refused:
                await client.models()
            assert (refused.value.status, refused.value.code) == (401, "missing_api_key")
            with pytest.raises(Unauthorized, match="Bearer"):
                async with client.session():
                    pass
        async with LiveClient(doors.url, api_key="right") as client, client.session() as session:
            assert (await read(session, "hi"))[0] == "HI"


async def test_full_server_is_overloaded_with_the_time_to_wait(serve: Any) -> None:
    async with (
        serve(max_sessions=1) as doors,
        LiveClient(doors.url + "/v1", attempts=1) as client,
        client.session(),
    ):
        with pytest.raises(Overloaded) as refused:
            async with client.session():
                pass
        assert (refused.value.status, refused.value.retry_after_s) == (429, 5.0)
        with pytest.raises(Overloaded, match="max_sessions"):
            await client.create_session()


async def test_full_server_is_asked_again_until_there_is_room(
    serve: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livemind.orchestrator.client.retry._wait_s", lambda state: 0.01)
    async with serve(max_sessions=1) as doors, LiveClient(doors.url, attempts=1000) as client:
        async with client.session():
            waiting = asyncio.create_task(client.create_session())
            await eventually(lambda: b'status="429"' in doors.state.metrics.render())
            assert not waiting.done()
        assert (await waiting).revision == 0


async def test_unknown_session_and_stale_revision_are_named(serve: Any) -> None:
    async with serve() as doors, LiveClient(doors.url) as client:
        with pytest.raises(NotFound) as lost:
            await client.put_input("sess_none", "hello")
        assert (lost.value.status, lost.value.param) == (404, "id")
        assert lost.value.code == "session_not_found"
        answered = [chunk.text async for chunk in client.complete("hi", session_id="sess_none")]
        assert "".join(answered) == "HI"
        opened = await client.create_session()
        await client.put_input(opened.id, "hello", 5)
        with pytest.raises(RevisionConflict, match="need more than 5"):
            await client.put_input(opened.id, "hello", 5)


async def test_newer_commit_ends_the_running_answer_and_those_before_it(
    serve: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", token_s=0.2)
    async with (
        serve(expert) as doors,
        LiveClient(doors.url) as client,
        client.session(speculation="off") as session,
    ):
        answers = [session.commit("one two three")]
        await eventually(lambda: expert.running)
        answers += [session.commit("four"), session.commit(" "), session.commit("five")]
        await answers[0].aclose()  # which cancels none of the newer ones
        with pytest.raises(InvalidRequest, match="empty"):
            await anext(answers[2])
        ends = [[event async for event in answer][-1].status for answer in answers[1::2]]  # type: ignore[union-attr]
        assert ends == ["cancelled", "completed"]
        assert session.text == ""


async def test_cancel_ends_the_answer_and_frees_the_expert(serve: Any, eventually: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with (
        serve(expert) as doors,
        LiveClient(doors.url) as client,
        client.session(speculation="off") as session,
    ):
        answer = session.commit("one two")
        await eventually(lambda: expert.running)
        session.cancel()
        events = [event async for event in answer]
        assert isinstance(events[-1], ResponseDone)
        assert events[-1].status == "cancelled"
        assert expert.running == 0
        session.cancel()
        closed = session.commit("three four")
        await eventually(lambda: expert.running)
        await closed.aclose()
        assert expert.running == 0
        assert [event async for event in closed] == []


async def test_two_clients_at_once_get_their_own_answers(serve: Any) -> None:
    async def ask(url: str, word: str) -> list[str]:
        async with LiveClient(url) as client, client.session() as session:
            said = []
            for number in range(5):
                session.append(f"{word} ")
                await asyncio.sleep(0)
                said.append((await read(session, f"{word} {number}"))[0])
            return said

    async with serve(FakeExpert("fake", token_s=0.001)) as doors:
        both = await asyncio.gather(ask(doors.url, "ann"), ask(doors.url, "bob"))
        assert [*both] == [[f"{name} {n}" for n in range(5)] for name in ("ANN", "BOB")]
        await doors.quiet()


async def test_server_shutting_down_in_the_answer_is_told(serve: Any, eventually: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert, drain_timeout_s=0.3) as doors, LiveClient(doors.url) as client:
        async with client.session(speculation="off") as session:
            answer = session.commit("one two")
            await eventually(lambda: expert.running)
            doors.state.in_flight.stopping.set()
            events = [event async for event in answer]
            assert isinstance(events[-1], ResponseDone)
            assert events[-1].status != "completed"
            ended = await session.wait_closed()
        assert isinstance(ended, Unavailable)
        assert "shutting down" in ended.message
        assert ended.retry_after_s == 1.0


async def test_refused_commit_leaves_the_input_and_the_session(serve: Any) -> None:
    async with (
        serve(max_text_chars=20) as doors,
        LiveClient(doors.url) as client,
    ):
        seen: list[LiveEvent] = []
        async with client.session(observe=lambda event, at_s: seen.append(event)) as session:
            session.append("x" * 21)
            with pytest.raises((PayloadTooLarge, InvalidRequest), match="the limit is 20"):
                await read(session)
            assert any(isinstance(event, ErrorFrame) for event in seen)
            assert session.text == "x" * 21
            session.replace("fine")
            assert (await read(session))[0] == "FINE"


async def test_result_of_a_call_is_committed_and_one_of_no_call_is_refused(serve: Any) -> None:
    call = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'

    def look(messages: Sequence[Message]) -> str:
        last = messages[-1]
        return f"it is {last.content}" if last.role == "tool" else call

    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    async with (
        serve(FakeExpert("fake", answer=look)) as doors,
        LiveClient(doors.url) as client,
        client.session(tools=[tool]) as session,
    ):
        _, done = await read(session, "what is it?")
        (made,) = done.tool_calls
        with pytest.raises(InvalidRequest, match="no answer made this call") as refused:
            async for _ in session.commit(tool_results={"another": "a cow"}):
                pass
        assert refused.value.param == "tool_results[0].call_id"
        said = [
            event.delta
            async for event in session.commit(tool_results={made.id: "a horse"})
            if isinstance(event, ResponseTextDelta)
        ]
    assert "".join(said) == "it is a horse"


async def test_refused_option_is_an_error_and_changes_nothing(serve: Any) -> None:
    async with (
        serve(FakeExpert("one"), FakeExpert("two")) as doors,
        LiveClient(doors.url) as client,
    ):
        with pytest.raises(NotFound, match="no such model"):
            async with client.session(model="nope"):
                pass
        async with client.session(model="two") as session:
            with pytest.raises(NotFound, match="no such model"):
                await session.update(model="nope")
            assert (await read(session, "hi"))[1].expert == "two"
            await session.update(model="one")
            assert (await read(session, "hi"))[1].expert == "one"
        await doors.quiet()


async def test_failed_answer_ends_with_its_error_and_the_session_goes_on(serve: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors, LiveClient(doors.url) as client, client.session() as session:
        expert.refuse = ExpertUnavailable("fake", "the engine is not running")
        _, done = await read(session, "hi")
        assert done.error is not None
        assert (done.status, done.error.message) == ("failed", "the engine is not running")
        expert.refuse = None
        assert (await read(session, "hi"))[1].status == "completed"


async def test_answer_that_nobody_reads_is_bounded(
    serve: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_module, "MAX_UNREAD_EVENTS", 4)
    async with serve() as doors, LiveClient(doors.url) as client, client.session() as session:
        answer = session.commit("one two three four five six seven")
        await eventually(lambda: not session._answers)
        with pytest.raises(Overloaded, match="4 events"):
            async for _ in answer:
                pass
        assert (await read(session, "hi"))[0] == "HI"


async def test_client_server_that_is_not_there_is_unavailable() -> None:
    async with LiveClient("ws://127.0.0.1:9/v1/live", attempts=1) as client:
        for call in (client.models(), client.session().__aenter__(), anext(client.complete("x"))):
            with pytest.raises(
                Unavailable, match=r"nothing answers at http://127\.0\.0\.1:9"
            ) as no:
                await call
            assert no.value.code == "unreachable"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"url": "localhost:8000"}, "url: got"),
        ({"url": "ftp://x"}, "url: got 'ftp://x'"),
        ({"api_key": "a\nb"}, "Authorization"),
        ({"attempts": 0}, "attempts: got 0"),
        ({"timeout_s": 0}, "timeout_s: got 0"),
    ],
)
def test_client_argument_out_of_range_is_named(given: Any, named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        LiveClient(**given)


async def test_session_input_that_is_not_unicode_is_refused_at_once(serve: Any) -> None:
    async with serve() as doors, LiveClient(doors.url) as client, client.session() as session:
        with pytest.raises(InvalidRequest):
            session.append("\ud800")
        with pytest.raises(InvalidRequest):
            session.commit("\ud800")
        assert (await read(session, "hi"))[0] == "HI"
    with pytest.raises(InvalidRequest, match="closed"):
        session.append("late")
