"""Messages as OpenAI's clients write them: what experts then see, and how a request may end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from livemind.backends.base import Message, MessageDetails, ToolCall
from livemind.backends.fake import FakeExpert

pytestmark = pytest.mark.usefixtures("both_ways")

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
CALLED = MessageDetails(tool_calls=(ToolCall("call_1", "f", '{"x": 1}'),))
HELLO = {"role": "user", "content": "hello"}


class Listener:
    """An expert's answer that remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: tuple[Message, ...] = ()

    def __call__(self, messages: Sequence[Message]) -> str:
        self.seen = tuple(messages)
        return "well then"


async def asked(serve: Any, body: Any, messages: list[Any], **fields: Any) -> Any:
    """Return what the expert saw of these messages, and the answer."""
    listener = Listener()
    async with serve(FakeExpert("fake", answer=listener)) as doors:
        request = {**body(), **fields, "messages": messages}
        status, answer = await doors.post("/v1/chat/completions", request)
        assert status == 200, answer
        return listener.seen, answer


async def test_message_the_server_sent_is_taken_back(serve: Any, body: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.post("/v1/chat/completions", body("one"))
        given = answer["choices"][0]["message"]
        parsed = ChatCompletionMessage.model_validate(given)
        for said in (given, parsed.model_dump(), parsed.to_dict()):
            request = {**body(), "messages": [HELLO, said, {"role": "user", "content": "two"}]}
            status, answer = await doors.post("/v1/chat/completions", request)
            assert (status, answer["choices"][0]["message"]["content"]) == (200, "TWO")


SAID_BEFORE: dict[str, tuple[Any, Message]] = {
    "nulls": (
        {
            "role": "assistant",
            "content": "x",
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": None,
        },
        Message("assistant", "x"),
    ),
    "citations": (
        {"role": "assistant", "content": "x", "annotations": [{"type": "url_citation"}]},
        Message("assistant", "x"),
    ),
    "refusal": (
        {"role": "assistant", "content": None, "refusal": "I may not"},
        Message("assistant", "I may not"),
    ),
    "refusal part": (
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I may not"}]},
        Message("assistant", "I may not"),
    ),
    "name": (
        {"role": "user", "content": "x", "name": "ann"},
        Message("user", "x", details=MessageDetails(name="ann")),
    ),
    "reasoning_content": (
        {"role": "assistant", "content": "x", "reasoning_content": "hm"},
        Message("assistant", "x", details=MessageDetails(reasoning="hm")),
    ),
    "reasoning": (
        {"role": "assistant", "content": "x", "reasoning": "hm"},
        Message("assistant", "x", details=MessageDetails(reasoning="hm")),
    ),
    "calls without content": (
        {"role": "assistant", "tool_calls": [CALL]},
        Message("assistant", "", details=CALLED),
    ),
    "calls with null content": (
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "index": 0}]},
        Message("assistant", "", details=CALLED),
    ),
    "function call": (
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        Message(
            "assistant", "", details=MessageDetails(tool_calls=(ToolCall("", "f", '{"x": 1}'),))
        ),
    ),
    "parsed": (
        {"role": "assistant", "content": "{}", "parsed": {"a": 1}},
        Message("assistant", "{}"),
    ),
    "cache control": (
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "y", "id": "p2"},
            ],
        },
        Message("user", "x\ny"),
    ),
    "developer later": (
        {"role": "developer", "content": "be brief"},
        Message("system", "be brief"),
    ),
    "tool": (
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "12"}]},
        Message("tool", "12", details=MessageDetails(tool_call_id="call_1")),
    ),
    "function": (
        {"role": "function", "name": "f", "content": "12"},
        Message("tool", "12", details=MessageDetails(name="f")),
    ),
    "tool without text": (
        {"role": "tool", "tool_call_id": "call_1", "content": None},
        Message("tool", "", details=MessageDetails(tool_call_id="call_1")),
    ),
}


@pytest.mark.parametrize("name", SAID_BEFORE)
async def test_message_of_a_client_reaches_the_expert_whole(
    serve: Any, body: Any, name: str
) -> None:
    given, expected = SAID_BEFORE[name]
    question = {"role": "user", "content": "and now?"}
    seen, _ = await asked(serve, body, [HELLO, given, question])
    assert seen == (Message("user", "hello"), expected, Message("user", "and now?"))


ENDINGS: dict[str, tuple[Any, tuple[Message, ...]]] = {
    "tool results": (
        [HELLO, {"role": "assistant", "tool_calls": [CALL]}, SAID_BEFORE["tool"][0]],
        (
            Message("user", "hello"),
            Message("assistant", "", details=CALLED),
            SAID_BEFORE["tool"][1],
        ),
    ),
    "instruction": (
        [{"role": "system", "content": "a"}, HELLO, {"role": "system", "content": "greet"}],
        (Message("system", "a"), Message("user", "hello"), Message("system", "greet")),
    ),
    "developer": (
        [HELLO, {"role": "developer", "content": "greet"}],
        (Message("user", "hello"), Message("system", "greet")),
    ),
    "instructions alone": (
        [{"role": "developer", "content": "a"}, {"role": "system", "content": "b"}],
        (Message("system", "a"), Message("system", "b")),
    ),
    "one instruction alone": (
        [{"role": "developer", "content": "a"}],
        (Message("system", "a"),),
    ),
    "empty user": (
        [{"role": "system", "content": "a"}, {"role": "user", "content": ""}],
        (Message("system", "a"), Message("user", "")),
    ),
    "empty user later": (
        [HELLO, {"role": "assistant", "content": "x"}, {"role": "user", "content": " "}],
        (Message("user", "hello"), Message("assistant", "x"), Message("user", " ")),
    ),
    "several of a role": (
        [HELLO, HELLO, {"role": "user", "content": "so?"}],
        (Message("user", "hello"), Message("user", "hello"), Message("user", "so?")),
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_conversation_may_end_with_any_role(serve: Any, body: Any, name: str) -> None:
    messages, expected = ENDINGS[name]
    seen, answer = await asked(serve, body, messages)
    assert seen == expected
    assert answer["choices"][0]["message"]["content"] == "well then"


async def test_conversation_of_several_experts_may_end_with_an_instruction(
    serve: Any, body: Any
) -> None:
    async with serve(FakeExpert("a"), FakeExpert("b")) as doors:
        for messages in (ENDINGS["instructions alone"][0], ENDINGS["tool results"][0]):
            status, answer = await doors.post(
                "/v1/chat/completions", {**body(), "messages": messages}
            )
            assert status == 200, answer


async def test_answer_begun_by_the_client_is_continued_only_when_asked(
    serve: Any, body: Any
) -> None:
    messages = [HELLO, {"role": "assistant", "content": "well"}]
    for fields, text in (
        ({}, "well then"),
        ({"add_generation_prompt": True}, "well then"),
        ({"continue_final_message": True}, " then"),
        ({"continue_final_message": True, "add_generation_prompt": False}, " then"),
    ):
        _, answer = await asked(serve, body, messages, **fields)
        assert answer["choices"][0]["message"]["content"] == text, fields


WRONG: dict[str, tuple[Any, str]] = {
    "audio": ([{"role": "assistant", "audio": {"id": "a"}}, HELLO], "messages[0].audio"),
    "custom call": (
        [{"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}, HELLO],
        "messages[0].tool_calls[0].type",
    ),
    "unknown field": ([{"role": "user", "content": "x", "mood": "sad"}], "messages[0].mood"),
    "nothing said": (
        [{"role": "assistant", "content": ""}, {"role": "user", "content": " "}],
        "messages[1].content",
    ),
    "nothing to continue": (
        [HELLO, {"role": "assistant", "content": ""}],
        "messages[1].content",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_message_that_cannot_count_is_refused_by_name(
    serve: Any, body: Any, name: str
) -> None:
    messages, param = WRONG[name]
    async with serve() as doors:
        fields = {"continue_final_message": True} if name == "nothing to continue" else {}
        request = {**body(), "messages": messages, **fields}
        status, answer = await doors.post("/v1/chat/completions", request)
        assert (status, answer["error"]["param"]) == (400, param), answer


async def test_live_session_goes_on_behind_the_results_of_tools(serve: Any, body: Any) -> None:
    listener = Listener()
    async with serve(FakeExpert("fake", answer=listener)) as doors:
        _, session = await doors.post("/v1/live/sessions", {"speculation": "off"})
        headers = {"X-LiveMind-Session": session["id"]}

        async def say(*messages: Any) -> None:
            request = {**body(), "messages": messages}
            status, answer = await doors.post("/v1/chat/completions", request, headers=headers)
            assert status == 200, answer

        calls = {"role": "assistant", "tool_calls": [CALL]}
        said = [HELLO, calls, SAID_BEFORE["tool"][0]]
        await say(*said)
        _, shown = await doors.ask("GET", f"/v1/live/sessions/{session['id']}")
        assert shown["items"] == 4
        said += [{"role": "assistant", "content": "well then"}, {"role": "user", "content": "so?"}]
        await say(*said)
        assert [m.role for m in listener.seen] == ["user", "assistant", "tool", "assistant", "user"]


def conversation(rng: random.Random) -> list[dict[str, Any]]:
    """Return a conversation as the clients' own objects and serialisers make them."""
    messages: list[dict[str, Any]] = []
    if rng.random() < 0.6:
        messages.append({"role": rng.choice(["system", "developer"]), "content": "be kind"})
    for turn in range(rng.randint(1, 4)):
        text: Any = f"question {turn}"
        if rng.random() < 0.3:
            text = [{"type": "text", "text": text}]
        messages.append({"role": "user", "content": text})
        if rng.random() < 0.4:
            calls = [{**CALL, "id": f"call_{turn}_{n}"} for n in range(rng.randint(1, 3))]
            message = ChatCompletionMessage.model_validate(
                {"role": "assistant", "content": None, "tool_calls": calls}
            )
            messages.append(dumped(rng, message))
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": "12 °C"} for call in calls
            ]
        if rng.random() < 0.8:
            message = ChatCompletionMessage(role="assistant", content=f"answer {turn}")
            messages.append(dumped(rng, message))
    return messages


def dumped(rng: random.Random, message: ChatCompletionMessage) -> dict[str, Any]:
    how = rng.choice(["dump", "to_dict", "set"])
    if how == "dump":
        return message.model_dump()
    return message.to_dict() if how == "to_dict" else message.model_dump(exclude_unset=True)


async def test_two_hundred_conversations_of_clients_are_all_answered(serve: Any, body: Any) -> None:
    rng = random.Random(20)
    async with serve() as doors:
        for _ in range(200):
            request = {**body(), "messages": conversation(rng)}
            status, answer = await doors.post("/v1/chat/completions", request)
            assert status == 200, (answer, request["messages"])
