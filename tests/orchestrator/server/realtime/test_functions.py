"""Functions on ``/v1/realtime``, with the unmodified ``openai`` client: calls, results, choices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from livemind.backends.base import Message, template_options
from livemind.backends.fake import FakeExpert

LOOK = {
    "type": "function",
    "name": "look",
    "description": "Looks there.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}
HEAR = {"type": "function", "name": "hear", "parameters": {"type": "object", "properties": {}}}
CALL = '<tool_call>{"name": "look", "arguments": {"at": "zebra"}}</tool_call>'
SECOND = '<tool_call>{"name": "hear", "arguments": {}}</tool_call>'
CALL_EVENTS = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


def looking(messages: Sequence[Message]) -> str:
    """Look, then say what was seen; without tools say so."""
    if not template_options(messages).get("tools"):
        return "no tools"
    if messages[-1].role == "tool":
        return "it is " + " and ".join(m.content for m in messages if m.role == "tool")
    if "both" in messages[-1].content:
        return f"wait {CALL}{SECOND}"
    return CALL if "look" in messages[-1].content else "nothing to see"


async def returned(call: Any, call_id: str, output: str, **fields: Any) -> Any:
    item = {"type": "function_call_output", "call_id": call_id, "output": output}
    await call.client.conversation.item.create(item=item, **fields)
    return (await call.until("conversation.item.done")).item


async def test_call_is_an_item_of_its_own_and_its_result_is_answered(serve: Any, dial: Any) -> None:
    expert = FakeExpert("fake", answer=looking)
    async with serve(expert) as doors, dial(doors, tools=[LOOK], tool_choice="auto") as call:
        await call.say("look")
        before = len(call.seen)
        done = await call.answer()
        kinds = [kind for n, kind in enumerate(call.kinds()[before:])]
        assert list(dict.fromkeys(kinds)) == CALL_EVENTS
        assert done.status == "completed"
        (made,) = done.output
        assert (made.type, made.name, made.status) == ("function_call", "look", "completed")
        assert json.loads(made.arguments) == {"at": "zebra"}
        pieces = [e for e in call.seen if e.type == "response.function_call_arguments.delta"]
        assert "".join(piece.delta for piece in pieces) == made.arguments
        assert {(piece.item_id, piece.call_id) for piece in pieces} == {(made.id, made.call_id)}
        shown = await returned(call, made.call_id, "a horse")
        assert (shown.type, shown.output) == ("function_call_output", "a horse")
        place = len(call.seen)
        done = await call.answer()
        assert done.output[0].content[0].text == "it is a horse"
        told = [e for e in call.seen[place:] if e.type == "conversation.item.added"]
        assert [event.item.role for event in told] == ["assistant"]
        assert told[0].previous_item_id == shown.id
        await call.say("and then?")
        assert (await call.answer()).output[0].content[0].text == "nothing to see"


async def test_words_and_several_calls_are_items_in_their_order(serve: Any, dial: Any) -> None:
    expert = FakeExpert("fake", answer=looking)
    async with serve(expert) as doors, dial(doors, tools=[LOOK, HEAR]) as call:
        await call.say("both")
        done = await call.answer()
        assert [item.type for item in done.output] == ["message", "function_call", "function_call"]
        assert len({item.id for item in done.output}) == 3
        places = [
            (event.output_index, event.item.id)
            for event in call.seen
            if event.type == "response.output_item.done"
        ]
        assert sorted(places) == [(n, item.id) for n, item in enumerate(done.output)]
        await returned(call, done.output[1].call_id, "a horse")
        await returned(call, done.output[2].call_id, "a bell")
        assert (await call.answer()).output[0].content[0].text == "it is a horse and a bell"


async def test_result_before_the_users_words_stands_before_them(serve: Any, dial: Any) -> None:
    seen: list[Any] = []

    def answer(messages: Sequence[Message]) -> str:
        seen.append([message.role for message in messages if message.role != "template"])
        return looking(messages)

    async with (
        serve(FakeExpert("fake", answer=answer)) as doors,
        dial(doors, tools=[LOOK], livemind={"speculation": "off"}) as call,
    ):
        await call.say("look")
        made = (await call.answer()).output[0]
        await returned(call, made.call_id, "a horse")
        await call.say("thanks")
        assert (await call.answer()).output[0].content[0].text == "nothing to see"
        assert seen[-1] == ["user", "assistant", "tool", "user"]


async def test_choice_and_functions_of_one_response_hold_for_it_alone(
    serve: Any, dial: Any
) -> None:
    expert = FakeExpert("fake", answer=looking)
    async with serve(expert) as doors, dial(doors) as call:
        await call.say("look")
        assert (await call.answer(tools=[LOOK])).output[0].type == "function_call"
        await call.say("look")
        assert (await call.answer()).output[0].content[0].text == "no tools"


async def test_session_shows_its_functions_and_keeps_them_through_other_updates(
    serve: Any, dial: Any
) -> None:
    choice = {"type": "function", "name": "look"}
    async with serve() as doors, dial(doors, tools=[LOOK, HEAR], tool_choice=choice) as call:
        shown = call.seen[-1].session
        assert [tool.name for tool in shown.tools] == ["look", "hear"]
        assert (shown.tool_choice.type, shown.tool_choice.name) == ("function", "look")
        await call.client.session.update(session={"type": "realtime", "tool_choice": "none"})
        shown = (await call.until("session.updated")).session
        assert (len(shown.tools), shown.tool_choice) == (2, "none")
        await call.client.session.update(session={"type": "realtime", "instructions": "Be kind."})
        assert len((await call.until("session.updated")).session.tools) == 2
        await call.client.session.update(
            session={"type": "realtime", "tools": [], "tool_choice": "auto"}
        )
        assert (await call.until("session.updated")).session.tools == []


async def test_call_that_was_made_elsewhere_takes_its_result(serve: Any, dial: Any) -> None:
    expert = FakeExpert("fake", answer=looking)
    async with serve(expert) as doors, dial(doors, tools=[LOOK]) as call:
        await call.say("look")
        item = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
        await call.client.conversation.item.create(item=item)
        shown = (await call.until("conversation.item.done")).item
        assert (shown.type, shown.call_id) == ("function_call", "c1")
        await returned(call, "c1", "a cat")
        assert (await call.answer()).output[0].content[0].text == "it is a cat"
        await call.client.conversation.item.retrieve(item_id=shown.id)
        assert (await call.until("conversation.item.retrieved")).item.type == "function_call"


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": "c", "output": "x"},
        },
        "item.call_id",
    ),
    (
        {"type": "conversation.item.create", "item": {"type": "function_call", "name": "x"}},
        "item.arguments",
    ),
    (
        {"type": "session.update", "session": {"type": "realtime", "tool_choice": "required"}},
        "session.tool_choice",
    ),
    (
        {
            "type": "session.update",
            "session": {"type": "realtime", "tools": [{"type": "mcp", "server_label": "x"}]},
        },
        "session.tools[0].type",
    ),
]


@pytest.mark.parametrize(("frame", "param"), WRONG)
async def test_wrong_function_frame_is_refused_by_name_and_changes_nothing(
    serve: Any, dial: Any, frame: dict[str, Any], param: str
) -> None:
    async with serve(FakeExpert("fake", answer=looking)) as doors, dial(doors) as call:
        await call.client.send_raw(json.dumps(frame))
        assert (await call.error()).param == param
        await call.say("look")
        assert (await call.answer()).output[0].content[0].text == "no tools"
