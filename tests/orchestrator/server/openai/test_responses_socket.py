"""``ws /v1/responses`` with the unmodified ``openai`` client, whose types check what it gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.responses import ResponsesServerEvent
from pydantic import TypeAdapter

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.turn.ledger import TurnRecord

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(ResponsesServerEvent)
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
CALL = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'


def telling(messages: Sequence[Message]) -> str:
    """Say how many texts were seen, and the last one."""
    said = [message.content for message in messages if message.role in ("user", "assistant")]
    return f"{len(said)} {said[-1]}"


@asynccontextmanager
async def connected(doors: Any) -> AsyncIterator[Any]:
    url = f"{doors.url}/v1"
    web_socket = url.replace("http", "ws", 1)
    async with (
        openai.AsyncOpenAI(base_url=url, websocket_base_url=web_socket, api_key="x") as client,
        client.responses.connect() as connection,
    ):
        yield connection


async def until_end(connection: Any) -> list[Any]:
    """Return the events of one response, each checked by the client's type."""
    events = []
    while True:
        async with asyncio.timeout(10):
            fields = json.loads(await connection.recv_bytes())
        events.append(fields)
        SERVER_EVENT.validate_python(fields)
        if fields["type"] in ("response.completed", "response.failed", "error"):
            return events


async def test_socket_tells_the_events_of_a_stream_and_follows_up_what_is_not_stored(
    serve: Any,
) -> None:
    async with serve(FakeExpert("fake", answer=telling)) as doors, connected(doors) as connection:
        await connection.response.create(model="fake", input="one", store=False)
        events = await until_end(connection)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[0]["type"] == "response.created"
        deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
        assert "".join(deltas) == "1 one"
        first = events[-1]["response"]
        await connection.response.create(
            model="fake", input="two", previous_response_id=first["id"], store=False
        )
        second = (await until_end(connection))[-1]["response"]
        assert second["output"][0]["content"][0]["text"] == "3 two"
        async with aiohttp.ClientSession() as http:
            found = await http.get(f"{doors.url}/v1/responses/{first['id']}")
            assert found.status == 404


async def test_socket_calls_functions_and_takes_their_results(serve: Any) -> None:
    def answer(messages: Sequence[Message]) -> str:
        return messages[-1].content if messages[-1].role == "tool" else CALL

    async with serve(FakeExpert("fake", answer=answer)) as doors, connected(doors) as connection:
        await connection.response.create(model="fake", input="what?", tools=[LOOK])
        response = (await until_end(connection))[-1]["response"]
        (call,) = response["output"]
        assert (call["type"], call["name"]) == ("function_call", "look")
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "a horse"}
        await connection.response.create(
            model="fake", input=[result], tools=[LOOK], previous_response_id=response["id"]
        )
        response = (await until_end(connection))[-1]["response"]
        assert response["output"][0]["content"][0]["text"] == "a horse"


async def test_socket_lanes_are_answered_beside_each_other_and_each_in_order(serve: Any) -> None:
    expert = FakeExpert("fake", answer=telling, token_s=0.02)
    async with serve(expert) as doors, connected(doors) as connection:
        for lane, text in (("a", "a1"), ("b", "b1"), ("a", "a2")):
            fields = {"type": "response.create", "model": "fake", "input": text}
            await connection.send({**fields, "stream_id": lane})
        seen: list[tuple[str, str]] = []
        for _ in range(3):
            seen += [(e["stream_id"], e["type"]) for e in await until_end(connection)]
        of_a = [kind for lane, kind in seen if lane == "a"]
        assert of_a.count("response.created") == 2
        assert of_a.index("response.completed") < len(of_a) - 1 - of_a[::-1].index(
            "response.created"
        )
        places = {lane: seen.index((lane, "response.created")) for lane in "ab"}
        assert places["b"] < seen.index(("a", "response.completed"))


async def test_socket_warms_a_prompt_without_an_answer_that_is_followed_up(serve: Any) -> None:
    async with serve(FakeExpert("fake", answer=telling)) as doors, connected(doors) as connection:
        fields = {"type": "response.create", "model": "fake", "generate": False}
        await connection.send({**fields, "input": "long and known", "store": False})
        warmed = (await until_end(connection))[-1]["response"]
        assert (warmed["status"], warmed["output"]) == ("completed", [])
        await connection.response.create(
            model="fake", input="and now?", previous_response_id=warmed["id"]
        )
        response = (await until_end(connection))[-1]["response"]
        assert response["output"][0]["content"][0]["text"] == "2 and now?"


WRONG: dict[str, tuple[Any, str, str | None]] = {
    "no json": ("{", "invalid_json", None),
    "kind": ({"type": "session.update"}, "unknown_event", "type"),
    "steer": ({"type": "response.steer", "input": "x"}, "unsupported_event", "type"),
    "lane": ({"type": "response.create", "stream_id": 7}, "invalid_value", "stream_id"),
    "field": ({"type": "response.create", "inputs": "x"}, "unknown_parameter", "inputs"),
    "model": ({"type": "response.create", "model": "no", "input": "x"}, "model_not_found", "model"),
    "previous": (
        {"type": "response.create", "input": "x", "previous_response_id": "resp_0"},
        "response_not_found",
        "previous_response_id",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_socket_answers_a_wrong_frame_with_an_error_and_goes_on(
    serve: Any, name: str
) -> None:
    frame, code, param = WRONG[name]
    async with serve(FakeExpert("fake", answer=telling)) as doors, connected(doors) as connection:
        await connection.send_raw(frame if isinstance(frame, str) else json.dumps(frame))
        error = (await until_end(connection))[-1]
        assert error["type"] == "error"
        assert error["status"] in (400, 404)
        assert (error["error"]["code"], error["error"]["param"]) == (code, param)
        await connection.response.create(model="fake", input="one")
        assert (await until_end(connection))[-1]["type"] == "response.completed"


async def test_socket_tells_that_a_response_was_cancelled_by_its_id(serve: Any) -> None:
    expert = FakeExpert("fake", answer=lambda messages: "word " * 500, token_s=0.02)
    async with serve(expert) as doors, connected(doors) as connection:
        await connection.response.create(model="fake", input="one")
        created = json.loads(await connection.recv_bytes())["response"]["id"]
        async with aiohttp.ClientSession() as http:
            await http.post(f"{doors.url}/v1/responses/{created}/cancel")
        assert (await until_end(connection))[-1]["type"] == "response.failed"
        await connection.response.create(model="fake", input="two", max_output_tokens=2)
        while (event := json.loads(await connection.recv_bytes()))["type"] != "response.incomplete":
            assert event["type"] != "error"


async def test_responses_without_an_upgrade_says_what_is_needed(serve: Any) -> None:
    async with serve() as doors, aiohttp.ClientSession() as http:
        found = await http.get(f"{doors.url}/v1/responses")
        assert found.status == 400
        assert (await found.json())["error"]["code"] == "upgrade_required"


async def test_socket_frees_the_expert_when_its_client_leaves(serve: Any, eventually: Any) -> None:
    expert = FakeExpert("fake", answer=lambda messages: "word " * 500, token_s=0.02)
    async with serve(expert) as doors:
        async with connected(doors) as connection:
            await connection.response.create(model="fake", input="one")
            await connection.recv_bytes()
        await eventually(lambda: not expert.running)


async def test_socket_whose_connection_fails_unexpectedly_is_closed_and_logged(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: Any) -> None:
        raise RuntimeError("never seen before")

    monkeypatch.setattr(
        "livemind.orchestrator.server.openai.responses.socket._Connection.run", fail
    )
    url = "/v1/responses"
    async with (
        serve() as doors,
        aiohttp.ClientSession() as http,
        http.ws_connect(doors.url.replace("http", "ws", 1) + url) as socket,
    ):
        assert (await socket.receive()).data == 1011
    assert any("a connection of responses" in text for text in caplog.messages)


async def test_socket_turns_begin_their_clock_with_their_own_frame(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Any] = []
    end = TurnRecord.end

    def kept(record: TurnRecord, *args: Any, **given: Any) -> Any:
        ends.append(end(record, *args, **given))
        return ends[-1]

    monkeypatch.setattr(TurnRecord, "end", kept)
    async with serve(FakeExpert("fake")) as doors, connected(doors) as connection:
        for _ in range(2):
            await asyncio.sleep(0.5)  # since the upgrade, or the frame before
            await connection.response.create(model="fake", input="one", store=False)
            await until_end(connection)
    assert ends
    assert all(done.timings.total_ms < 500 for done in ends)
