"""Tools in live sessions: calls that nobody sees before the commit, results that follow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Message, TokenPrompt, template_options
from livemind.backends.fake import FakeExpert

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = '<tool_call>{"name": "look", "arguments": {"at": "zebra"}}</tool_call>'


BLOCK_TOKENS = 4


class Restyled(FakeExpert):
    """Its template writes calls otherwise than it makes them: they have to be prefilled."""

    def render(self, messages: Sequence[Message], *, open_turn: bool) -> TokenPrompt:
        return super().render(list(map(_restyled, messages)), open_turn=open_turn)


def _restyled(message: Message) -> Message:
    calls = [
        replace(call, arguments=json.dumps(json.loads(call.arguments), indent=1))
        for call in message.details.tool_calls
    ]
    return replace(message, details=replace(message.details, tool_calls=tuple(calls)))


def looking(messages: Sequence[Message]) -> str:
    """Look, then say what was seen; without tools say so."""
    if not template_options(messages).get("tools"):
        return "no tools"
    return f"it is {messages[-1].content}" if messages[-1].role == "tool" else f"wait {CALL}"


async def test_live_call_leaves_after_the_commit_alone_and_its_result_is_answered(
    serve: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", answer=looking)
    async with serve(expert) as doors, doors.live() as socket:
        await socket.send(type="session.update", tools=[LOOK], speculation="draft")
        updated = await socket.until("session.updated")
        assert updated["session"]["tools"] == ["look"]
        await socket.send(type="input_text.append", text="what is it?")
        drafted = (await socket.until("draft.created"))["draft_id"]
        await eventually(lambda: expert.generated_tokens >= 4 and not expert.running)
        before = json.dumps(socket.seen)
        assert "zebra" not in before
        assert "function_call" not in before
        await socket.send(type="input_text.commit")
        done = await socket.until("response.done")
        assert drafted in [e["draft_id"] for e in socket.seen if e["type"] == "draft.adopted"]
        assert done["finish_reason"] == "tool_calls"
        (call,) = done["tool_calls"]
        pieces = [
            event
            for event in socket.seen
            if event["type"] == "response.function_call_arguments.delta"
        ]
        assert (pieces[0]["call_id"], pieces[0]["name"]) == (call["id"], "look")
        assert json.loads("".join(piece["delta"] for piece in pieces)) == {"at": "zebra"}
        results = [{"call_id": call["id"], "output": "a horse"}]
        await socket.send(type="input_text.commit", tool_results=results)
        assert (await socket.until("response.output_text.done"))["text"] == "it is a horse"


async def test_live_prefix_of_what_follows_a_call_is_prefilled_while_the_tool_runs(
    serve: Any, eventually: Any
) -> None:
    expert = Restyled("fake", answer=looking)
    async with serve(expert) as doors, doors.live() as socket:
        await socket.send(type="session.update", tools=[LOOK], speculation="prefill")
        await socket.send(type="input_text.commit", text="what is it?")
        done = await socket.until("response.done")
        await eventually(lambda: expert.started >= 2 and not expert.running)
        results = [{"call_id": done["tool_calls"][0]["id"], "output": "a horse"}]
        await socket.send(type="input_text.commit", tool_results=results)
        after = await socket.until("response.done")
        call = 5  # "look", and its arguments as the template writes them
        said = done["usage"]["prompt_tokens"] + len(["wait"]) + call
        assert after["usage"]["cached_tokens"] > said - BLOCK_TOKENS


async def test_live_tools_go_as_they_came_and_choices_hold(serve: Any) -> None:
    expert = FakeExpert("fake", answer=looking)
    async with serve(expert) as doors, doors.live() as socket:
        await socket.send(type="session.update", tools=[LOOK], tool_choice="none")
        await socket.send(type="session.update", sampling=None)
        await socket.send(type="input_text.commit", text="one")
        done = await socket.until("response.done")
        assert done["finish_reason"] == "stop"
        await socket.send(type="session.update", tools=None)
        assert (await socket.until("session.updated"))["session"]["tools"] == []
        await socket.send(type="input_text.commit", text="two")
        assert (await socket.until("response.output_text.done"))["text"] == "no tools"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "choice without tools": (
        {"type": "session.update", "tool_choice": "required"},
        "tool_choice",
    ),
    "no such function": (
        {
            "type": "session.update",
            "tools": [LOOK],
            "tool_choice": {"type": "function", "function": {"name": "listen"}},
        },
        "tool_choice.function.name",
    ),
    "result of nothing": (
        {"type": "input_text.commit", "tool_results": [{"call_id": "c", "output": "x"}]},
        "tool_results[0].call_id",
    ),
    "kind": ({"type": "session.update", "tools": [{"type": "web_search"}]}, "tools[0].type"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_live_tools_refuse_by_name(serve: Any, name: str) -> None:
    frame, param = WRONG[name]
    async with serve() as doors, doors.live() as socket:
        await socket.send(**frame)
        assert (await socket.error())["param"] == param
