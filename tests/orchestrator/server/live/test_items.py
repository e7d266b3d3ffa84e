"""Items of a conversation over the live protocol and over plain HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.backends.fake import FakeExpert

SESSIONS = "/v1/live/sessions"
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "Hello!"},
]


def remembering(seen: list[Any]) -> FakeExpert:
    """Return an expert that keeps what it was asked."""

    def answer(messages: Any) -> str:
        seen.append([(message.role, message.content) for message in messages])
        return "one two three"

    return FakeExpert("fake", answer=answer, token_s=0.001)


async def items(socket: Any, count: int) -> list[Any]:
    """Return the next items that are told to stand in the conversation."""
    return [(await socket.until("conversation.item.added"))["item"] for _ in range(count)]


async def test_live_items_are_created_retrieved_truncated_and_deleted(serve: Any) -> None:
    seen: list[Any] = []
    async with serve(remembering(seen)) as doors, doors.live() as socket:
        greeting = {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello!"}],
        }
        await socket.send(type="conversation.item.create", item={"id": "item_a", **greeting})
        added = await socket.until("conversation.item.added")
        assert (added["item"]["id"], added["previous_item_id"]) == ("item_a", None)
        assert (await socket.until("conversation.item.done"))["item"]["status"] == "completed"
        await socket.send(type="input_text.commit", text="hi")
        question, answer = await items(socket, 2)
        assert (question["role"], answer["role"]) == ("user", "assistant")
        await socket.until("response.done")
        await socket.send(
            type="conversation.item.truncate",
            item_id=answer["id"],
            content_index=0,
            audio_end_ms=450,
            words=[
                {"text": "one", "start_ms": 0, "end_ms": 200},
                {"text": "two", "start_ms": 200, "end_ms": 400},
                {"text": "three", "start_ms": 400, "end_ms": 700},
            ],
        )
        told = await socket.until("conversation.item.truncated")
        assert (told["item_id"], told["characters"], told["audio_end_ms"]) == (
            answer["id"],
            7,
            450,
        )
        await socket.send(type="conversation.item.retrieve", item_id=answer["id"])
        shown = (await socket.until("conversation.item.retrieved"))["item"]
        assert shown["content"] == [{"type": "output_text", "text": "one two"}]
        await socket.send(type="conversation.item.delete", item_id="item_a")
        assert (await socket.until("conversation.item.deleted"))["item_id"] == "item_a"
        await socket.send(type="input_text.commit", text="more")
        await socket.until("response.done")
        assert seen[-1] == [("user", "hi"), ("assistant", "one two"), ("user", "more")]


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        ({"type": "conversation.item.delete", "item_id": "x"}, "item_not_found", "item_id"),
        ({"type": "conversation.item.retrieve", "item_id": "x"}, "item_not_found", "item_id"),
        (
            {"type": "conversation.item.truncate", "item_id": "x", "audio_end_ms": 1},
            "item_not_found",
            "item_id",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "x"},
            "invalid_value",
            "audio_end_ms",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_audio", "text": ""}],
                },
            },
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {
                "type": "conversation.item.create",
                "previous_item_id": "x",
                "item": {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "a"}],
                },
            },
            "item_not_found",
            "previous_item_id",
        ),
        ({"type": "input_text.append", "text": "a", "turn_id": 5}, "turn_not_found", "turn_id"),
    ],
)
async def test_live_item_frame_that_cannot_be_is_refused_by_name(
    serve: Any, frame: Any, code: str, param: str
) -> None:
    async with serve() as doors, doors.live() as socket:
        await socket.send(**frame, event_id="mine")
        error = await socket.error()
        assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")


async def test_live_session_update_brings_a_conversation(serve: Any) -> None:
    seen: list[Any] = []
    async with serve(remembering(seen)) as doors, doors.live() as socket:
        await socket.send(type="session.update", messages=TALK)
        assert (await socket.until("session.updated"))["session"]["instructions"] == "Be brief."
        await socket.send(type="input_text.commit", text="so?")
        await socket.until("response.done")
        assert seen == [[*((m["role"], m["content"]) for m in TALK), ("user", "so?")]]


async def test_http_session_is_made_with_a_conversation_that_patch_changes(serve: Any) -> None:
    seen: list[Any] = []
    async with serve(remembering(seen)) as doors:
        status, made = await doors.post(SESSIONS, {"messages": TALK, "speculation": "off"})
        assert (status, made["items"], made["instructions"]) == (201, 2, "Be brief.")
        path = f"{SESSIONS}/{made['id']}"
        messages = [*TALK[1:], {"role": "user", "content": "wait"}]
        status, shown = await doors.ask("PATCH", path, json={"messages": messages})
        assert (status, shown["items"], shown["instructions"]) == (200, 3, "Be brief.")
        status, shown = await doors.ask("PATCH", path, json={"segment": "sentence"})
        assert (status, shown["items"], shown["segment"]) == (200, 3, "sentence")
        body = {"messages": [*messages, {"role": "user", "content": "so?"}]}
        headers = {"X-LiveMind-Session": made["id"]}
        status, _ = await doors.post("/v1/chat/completions", body, headers=headers)
        assert status == 200
        said = [(m["role"], m["content"]) for m in [TALK[0], *body["messages"]]]
        assert seen == [said]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"messages": [*TALK, {"role": "robot", "content": "x"}]}, 400, "messages[3].role"),
        ({"messages": TALK, "instructions": "x"}, 400, "messages[0].role"),
        ({"messages": [{"role": "user", "content": "x" * 300}]}, 413, "messages"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:,"}}],
                    }
                ]
            },
            400,
            "messages[0].content",
        ),
    ],
)
async def test_http_conversation_that_cannot_be_is_refused_by_name(
    serve: Any, fields: Any, status: int, param: str
) -> None:
    async with serve(max_text_chars=250) as doors:
        got, answer = await doors.post(SESSIONS, fields)
        assert (got, answer["error"]["param"]) == (status, param)
        assert len(doors.state.registry) == 0


async def test_live_late_transcript_is_told_to_be_ignored(serve: Any) -> None:
    async with serve() as doors, doors.live() as socket:
        assert socket.seen[1]["session"]["turn"] == 0
        await socket.send(type="input_text.commit", text="Is it open?")
        await socket.send(type="input_text.replace", text="is it open")
        await socket.send(type="input_text.append", text="x", turn_id=0)
        assert (await socket.until("input_text.ignored"))["reason"] == "late_transcript"
        assert (await socket.until("input_text.ignored"))["reason"] == "turn_over"


async def test_live_segmented_session_speaks_in_sentences(serve: Any) -> None:
    expert = FakeExpert("fake", answer=lambda messages: "It is. Come in!")
    async with serve(expert) as doors, doors.live() as socket:
        await socket.send(type="session.update", segment="sentence")
        await socket.send(type="input_text.commit", text="open?")
        done = await socket.until("response.done")
        told = [event for event in socket.seen if event["type"] == "response.sentence"]
        assert [event["text"] for event in told] == ["It is. ", "Come in!"]
        assert done["timings"]["first_sentence_ms"] >= done["timings"]["ttft_ms"]


async def test_cancelled_answer_is_counted_with_its_tokens(serve: Any) -> None:
    async with serve(FakeExpert("fake", token_s=3600)) as doors, doors.live() as socket:
        await socket.send(type="input_text.commit", text="one two")
        await socket.until("response.output_text.delta")
        await socket.send(type="response.cancel")
        usage = (await socket.until("response.done"))["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 1)
        _, stats = await doors.ask("GET", "/stats")
        assert stats["server"]["turns_cancelled"] == 1
        assert stats["server"]["prompt_tokens"] == 5
        assert stats["server"]["completion_tokens"] == 1
