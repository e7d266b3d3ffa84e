"""The client when connections break or servers leave: what was typed and said goes along."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livemind import (
    ErrorFrame,
    LiveClient,
    LiveMindError,
    NotFound,
    Unavailable,
)
from livemind.backends.fake import FakeExpert
from livemind.client import LiveEvent

from .relay import read, relayed, typed


async def test_session_broken_before_the_commit_goes_on_with_its_input_and_options(
    serve: Any, eventually: Any
) -> None:
    experts = FakeExpert("one"), FakeExpert("two")
    async with (
        serve(*experts) as doors,
        relayed(doors) as relay,
        LiveClient(relay.url) as client,
        client.session(model="two") as session,
    ):
        session.append("hello ")
        await typed(doors, eventually, "hello ")
        relay.cut()
        session.append("there")
        await typed(doors, eventually, "hello there")
        said, done = await read(session)
        assert (said, done.expert) == ("HELLO THERE", "two")
        assert relay.connections == 2


async def test_session_broken_after_refusals_goes_on_with_what_was_not_refused(
    serve: Any, eventually: Any
) -> None:
    async with (
        serve(FakeExpert("one"), FakeExpert("two"), max_text_chars=20) as doors,
        relayed(doors) as relay,
        LiveClient(relay.url) as client,
        client.session(model="two") as session,
    ):
        with pytest.raises(NotFound, match="no such model"):
            await session.update(model="nope")
        with pytest.raises(LiveMindError, match="the limit is 20"):
            await read(session, "x" * 21)
        session.replace("fine")
        relay.cut()
        await eventually(lambda: relay.connections == 2)
        await typed(doors, eventually, "fine")
        said, done = await read(session)
        assert (said, done.expert) == ("FINE", "two")


async def test_session_input_refused_after_the_commit_is_not_sent_again(serve: Any) -> None:
    async with serve(max_text_chars=20) as doors, LiveClient(doors.url) as client:
        seen: list[LiveEvent] = []
        async with client.session(observe=lambda event, at_s: seen.append(event)) as session:
            session.append("x" * 21)
            await asyncio.sleep(0)  # it is sent
            await asyncio.sleep(0)
            assert (await read(session, "one"))[0] == "ONE"
            await session.update(speculation="off")
            assert (await read(session, "two"))[0] == "TWO"
        refused = [event.error.code for event in seen if isinstance(event, ErrorFrame)]
        assert refused == ["text_too_long"]


async def test_session_broken_before_the_answer_has_begun_is_asked_again_elsewhere(
    serve: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", ttft_s=3600)
    async with (
        serve(expert) as doors,
        relayed(doors) as relay,
        LiveClient(relay.url) as client,
        client.session(speculation="off") as session,
    ):
        answer = asyncio.create_task(read(session, "one two three"))
        await eventually(lambda: expert.running)
        expert.ttft_s = 0.0
        relay.cut()
        said, done = await answer
        assert (said, done.status) == ("ONE TWO THREE", "completed")
        assert (relay.connections, expert.started) == (2, 2)


async def test_session_broken_in_the_answer_ends_that_one_alone(
    serve: Any, eventually: Any
) -> None:
    heard: list[list[str]] = []

    def shout(messages: Any) -> str:
        heard.append([message.content for message in messages])
        return str(messages[-1].content).upper()

    expert = FakeExpert("fake", token_s=3600, answer=shout)
    async with (
        serve(expert) as doors,
        relayed(doors) as relay,
        LiveClient(relay.url) as client,
        client.session(speculation="off") as session,
    ):
        answer = session.commit("one two three")
        await eventually(lambda: answer.said)
        session.append("four")
        expert.token_s = 0.0
        relay.cut()
        with pytest.raises(Unavailable) as failed:
            async for _ in answer:
                pass
        assert failed.value.code == "connection_lost"
        assert session.text == "four"
        said, done = await read(session)
        assert (said, done.status) == ("FOUR", "completed")
        assert heard[-1] == ["one two three", answer.said, "four"]  # what came of it is not lost
        assert relay.connections == 2


async def test_session_broken_between_turns_goes_on_with_its_conversation_and_input(
    serve: Any, eventually: Any
) -> None:
    heard: list[list[str]] = []

    def answer(messages: Any) -> str:
        heard.append([message.content for message in messages])
        return "yes"

    async with (
        serve(FakeExpert("fake", answer=answer)) as doors,
        relayed(doors) as relay,
        LiveClient(relay.url) as client,
        client.session(speculation="off", instructions="Be brief.") as session,
    ):
        await read(session, "my name is Ada")
        session.append("what is my ")
        await typed(doors, eventually, "what is my ")
        relay.cut()
        session.append("name")
        said, _ = await read(session)
        assert said == "yes"
        assert heard[-1] == ["Be brief.", "my name is Ada", "yes", "what is my name"]
        assert relay.connections == 2


async def test_session_with_calls_of_tools_is_over_when_its_connection_breaks(serve: Any) -> None:
    async with (
        serve() as doors,
        relayed(doors) as relay,
        LiveClient(relay.url) as client,
        client.session() as session,
    ):
        await read(session, "my name is Ada")
        session._said._messages = None  # as after a call
        relay.cut()
        assert isinstance(await session.wait_closed(), Unavailable)
        assert relay.connections == 1


@pytest.mark.parametrize("answering", [False, True])
async def test_session_moves_when_its_server_leaves_and_takes_all_with_it(
    serve: Any, eventually: Any, answering: bool
) -> None:
    expert = FakeExpert("fake", token_s=0.05 if answering else 0.0)
    async with (
        serve(expert) as doors,
        relayed(doors) as relay,
        LiveClient(relay.url) as client,
        client.session(speculation="off") as session,
    ):
        first = session.commit("one two three four five six")
        await eventually(lambda: first.said)
        if not answering:
            assert [event async for event in first]
            session.append("what is ")
            await typed(doors, eventually, "what is ")
        doors.state.in_flight.leave(0.02)
        if answering:
            assert [event async for event in first][-1].status == "completed"  # type: ignore[union-attr]
        doors.state.in_flight.leaving.clear()  # the other server
        await eventually(lambda: relay.connections == 2)
        session.append("next")
        said, done = await read(session)
        assert said.endswith("NEXT")
        assert done.status == "completed"
