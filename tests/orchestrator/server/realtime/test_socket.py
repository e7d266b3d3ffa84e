"""``ws /v1/realtime``: the text program of the Realtime API, with its unmodified client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import openai
import pytest
from websockets.exceptions import ConnectionClosed

from livemind.backends.fake import FakeExpert

OFF = {"speculation": "off"}
CLOSING = [
    "response.output_text.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]


def remembering(seen: list[Any], **fields: Any) -> FakeExpert:
    """Return an expert that keeps what it was asked and says so many words as it has messages."""

    def answer(messages: Any) -> str:
        seen.append([(message.role, message.content) for message in messages])
        return "one two three"

    return FakeExpert("fake", answer=answer, **fields)


async def test_session_is_told_as_the_api_has_it_and_updated(serve: Any, dial: Any) -> None:
    async with serve(FakeExpert("one"), FakeExpert("two")) as doors, dial(doors, "two") as call:
        shown = call.seen[0].session
        assert (shown.type, shown.model, shown.output_modalities) == ("realtime", "two", ["text"])
        assert (shown.instructions, shown.max_output_tokens) == ("", "inf")
        await call.client.session.update(
            session={
                "type": "realtime",
                "output_modalities": ["text"],
                "instructions": "Be brief.",
                "max_output_tokens": 7,
                "tools": [],
                "tool_choice": "auto",
                "truncation": "auto",
                "audio": {"input": {"turn_detection": None}},
            }
        )
        shown = (await call.until("session.updated")).session
        assert (shown.instructions, shown.max_output_tokens) == ("Be brief.", 7)
        await call.client.session.update(
            session={"type": "realtime", "instructions": "", "max_output_tokens": "inf"}
        )
        shown = (await call.until("session.updated")).session
        assert (shown.instructions, shown.max_output_tokens) == ("", "inf")


async def test_turn_is_told_in_the_order_of_the_api(serve: Any, dial: Any) -> None:
    async with serve() as doors, dial(doors, livemind=OFF) as call:
        del call.seen[:]
        question = await call.say("hello there", id="item_mine")
        done = await call.answer(metadata={"turn": "first"})
        assert call.kinds() == [
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        assert (question.id, question.status) == ("item_mine", "completed")
        created, added, standing, part, *deltas, text = call.seen[2:9]
        assert (created.response.id, created.response.status) == (done.id, "in_progress")
        assert (added.item.status, added.item.content) == ("in_progress", [])
        assert standing.previous_item_id == "item_mine"
        assert {event.item_id for event in (part, *deltas, text)} == {added.item.id}
        assert "".join(event.delta for event in deltas) == text.text == "HELLO THERE"
        assert done.status == "completed"
        assert done.output[0].content[0].text == "HELLO THERE"
        assert done.metadata == created.response.metadata == {"turn": "first"}
        assert done.conversation_id.startswith("conv_")
        usage = done.usage
        assert usage.input_tokens > 0
        assert usage.output_tokens == 2
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        assert len({event.event_id for event in call.seen}) == len(call.seen)


async def test_program_of_twenty_turns_with_truncation(serve: Any, dial: Any) -> None:
    seen: list[Any] = []
    told: list[tuple[str, str]] = []
    async with serve(remembering(seen)) as doors, dial(doors, instructions="Be brief.") as call:
        for number in range(20):
            question = await call.say(f"question {number}")
            done = await call.answer()
            assert done.status == "completed"
            answer = done.output[0]
            assert seen[-1] == [("system", "Be brief."), *told, ("user", f"question {number}")]
            told += [("user", f"question {number}"), ("assistant", "one two three")]
            item = call.client.conversation.item
            if number % 3 == 1:
                # 15 characters a second: 7 of them, "one two"
                await item.truncate(item_id=answer.id, content_index=0, audio_end_ms=500)
                cut = await call.until("conversation.item.truncated")
                assert (cut.item_id, cut.content_index, cut.audio_end_ms) == (answer.id, 0, 500)
                await item.retrieve(item_id=answer.id)
                shown = (await call.until("conversation.item.retrieved")).item
                assert (shown.content[0].text, shown.status) == ("one two", "incomplete")
                told[-1] = ("assistant", "one two")
            if number % 7 == 3:
                for gone in (question, answer):
                    await item.delete(item_id=gone.id)
                    deleted = await call.until("conversation.item.deleted")
                    assert deleted.item_id == gone.id
                del told[-2:]
        assert len(seen) == 20
        assert "error" not in call.kinds()


async def test_items_said_elsewhere_are_what_the_model_sees(serve: Any, dial: Any) -> None:
    seen: list[Any] = []
    async with serve(remembering(seen)) as doors, dial(doors, livemind=OFF) as call:
        item = call.client.conversation.item
        await call.say("how are you")
        greeting = [{"type": "output_text", "text": "Hello!"}]
        await item.create(
            item={"type": "message", "role": "assistant", "content": greeting},
            previous_item_id="root",
        )
        first = (await call.until("conversation.item.done")).item
        rule = [{"type": "input_text", "text": "Rhyme."}]
        await item.create(
            item={"type": "message", "role": "system", "content": rule}, previous_item_id=first.id
        )
        await call.until("conversation.item.done")
        await call.say("and you?")
        await call.answer()
        assert seen == [
            [
                ("assistant", "Hello!"),
                ("system", "Rhyme."),
                ("user", "how are you"),
                ("user", "and you?"),
            ]
        ]


async def test_partial_text_before_an_item_is_the_turns_head_start(
    serve: Any, dial: Any, eventually: Any
) -> None:
    async with (
        serve(FakeExpert("fake", token_s=0.001)) as doors,
        dial(doors, extensions=True, livemind={"events": True}) as call,
    ):
        text = "What is the port of Kestrel?"
        for end in range(8, len(text) + 1, 5):
            frame = {"type": "input_text.replace", "text": text[:end]}
            await call.client.send_raw(json.dumps(frame))
        await call.client.send_raw(json.dumps({"type": "input_text.replace", "text": text}))
        [live] = doors.state.registry._tasks
        await eventually(lambda: live.status().draft is not None)
        await asyncio.sleep(0.1)
        await call.say(text)
        done = await call.answer()
        assert done.output[0].content[0].text == text.upper()
        ledger = done.livemind["ledger"]
        assert (ledger["drafts"], ledger["draft_adopted"] > 0) == (1, True)
        assert ledger["draft_wasted"] == ledger["prefill_wasted"] == 0
        assert done.livemind["timings"]["draft_lead_ms"] > 0


async def test_item_that_was_created_is_prepared_before_its_response(
    serve: Any, dial: Any, eventually: Any
) -> None:
    async with serve() as doors, dial(doors) as call:
        await call.say("What is the port of Kestrel?")
        [live] = doors.state.registry._tasks
        await eventually(lambda: live.status().draft is not None)
        await asyncio.sleep(0.05)
        assert (await call.answer()).livemind["ledger"]["draft_adopted"] > 0


async def test_typed_text_is_answered_without_an_item(serve: Any, dial: Any) -> None:
    async with serve() as doors, dial(doors, livemind=OFF) as call:
        await call.client.send_raw(json.dumps({"type": "input_text.append", "text": "so "}))
        await call.client.send_raw(json.dumps({"type": "input_text.append", "text": "what"}))
        assert (await call.answer()).output[0].content[0].text == "SO WHAT"
        frame = {"type": "input_text.commit", "text": "and now"}
        await call.client.send_raw(json.dumps(frame))
        done = (await call.until("response.done")).response
        assert done.output[0].content[0].text == "AND NOW"
        assert call.kinds().count("conversation.item.added") == 4


async def test_text_typed_behind_an_item_is_not_part_of_it(serve: Any, dial: Any) -> None:
    async with serve() as doors, dial(doors, livemind=OFF) as call:
        await call.say("the item")
        await call.client.send_raw(json.dumps({"type": "input_text.append", "text": "typed"}))
        await call.client.send_raw(json.dumps({"type": "input_text.commit"}))
        done = (await call.until("response.done")).response
        assert done.output[0].content[0].text == "TYPED"
        await call.say("another")
        await call.client.send_raw(json.dumps({"type": "input_text.append", "text": "and more"}))
        assert (await call.answer()).output[0].content[0].text == "ANOTHER"
        assert (await call.answer()).output[0].content[0].text == "AND MORE"


async def test_response_has_settings_of_its_own(serve: Any, dial: Any) -> None:
    seen: list[Any] = []
    async with serve(remembering(seen)) as doors, dial(doors, instructions="Be brief.") as call:
        await call.say("one")
        done = await call.answer(instructions="Be verbose.", max_output_tokens=2)
        assert done.status == "incomplete"
        assert done.status_details.reason == "max_output_tokens"
        assert done.max_output_tokens == 2
        await call.say("two")
        done = await call.answer()
        assert (done.status, done.max_output_tokens) == ("completed", "inf")
        assert [asked[0] for asked in seen] == [("system", "Be verbose."), ("system", "Be brief.")]


async def test_cancelled_response_is_closed_in_order(serve: Any, dial: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors, dial(doors, livemind=OFF) as call:
        await call.say("one two")
        await call.client.response.create()
        await call.until("response.output_text.delta")
        del call.seen[:]
        await call.client.response.cancel()
        done = (await call.until("response.done")).response
        assert call.kinds() == CLOSING
        assert call.seen[0].text == call.seen[2].item.content[0].text == "ONE"
        assert call.seen[2].item.status == "incomplete"
        assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
        assert expert.running == 0
        await call.client.response.cancel(event_id="mine")
        error = await call.error()
        assert (error.code, error.event_id) == ("response_cancel_not_active", "mine")


async def test_newer_response_takes_the_place_of_a_running_one(serve: Any, dial: Any) -> None:
    seen: list[Any] = []
    async with (
        serve(remembering(seen, token_s=0.05)) as doors,
        dial(doors, livemind=OFF) as call,
    ):
        await call.say("first")
        await call.client.response.create()
        await call.until("response.output_text.delta")
        await call.client.response.create(event_id="again")
        error = await call.error()
        assert error.code == "conversation_already_has_active_response"
        assert error.event_id == "again"
        second = await call.say("second")
        await call.client.response.create()
        old = (await call.until("response.done")).response
        assert (old.status, old.status_details.reason) == ("cancelled", "turn_detected")
        new = (await call.until("response.done")).response
        assert new.status == "completed"
        heard = old.output[0].content[0].text
        assert seen[-1] == [("user", "first"), ("assistant", heard), ("user", "second")]
        added = [e.item.id for e in call.seen if e.type == "conversation.item.added"]
        assert added.count(second.id) == 1
        await call.client.conversation.item.retrieve(item_id=second.id)
        assert (await call.until("conversation.item.retrieved")).item.id == second.id


async def test_question_that_lost_its_answer_is_asked_again(serve: Any, dial: Any) -> None:
    seen: list[Any] = []
    async with serve(remembering(seen)) as doors, dial(doors, livemind=OFF) as call:
        question = await call.say("again?")
        answer = (await call.answer()).output[0]
        await call.client.conversation.item.delete(item_id=answer.id)
        await call.until("conversation.item.deleted")
        assert (await call.answer()).status == "completed"
        assert seen == [[("user", "again?")]] * 2
        await call.client.conversation.item.retrieve(item_id=question.id)
        assert (await call.until("conversation.item.retrieved")).item.id == question.id
        await call.client.response.create()
        assert (await call.error()).code == "nothing_to_answer"


async def test_item_deleted_before_its_response_is_not_answered(serve: Any, dial: Any) -> None:
    async with serve() as doors, dial(doors, livemind=OFF) as call:
        item = await call.say("never mind")
        await call.client.conversation.item.delete(item_id=item.id)
        await call.until("conversation.item.deleted")
        await call.client.response.create()
        assert (await call.error()).code == "nothing_to_answer"


def item_of(part: dict[str, Any], **fields: Any) -> dict[str, Any]:
    message = {"type": "message", "role": "user", "content": [part], **fields}
    return {"type": "conversation.item.create", "item": message}


TEXT = {"type": "input_text", "text": "a"}
SESSION = {"type": "session.update"}
RESPONSE = {"type": "response.create"}


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "unsupported_event", "type"),
    ({"type": "input_audio_buffer.commit"}, "unsupported_event", "type"),
    ({"type": "output_audio_buffer.clear"}, "unsupported_event", "type"),
    ({"type": "no.such"}, "unknown_event", "type"),
    ({"typ": "x"}, "missing_parameter", "type"),
    ({**SESSION}, "missing_parameter", "session"),
    ({**SESSION, "session": {}}, "missing_parameter", "session.type"),
    ({**SESSION, "session": {"type": "transcription"}}, "invalid_value", "session.type"),
    (
        {**SESSION, "session": {"type": "realtime", "output_modalities": ["audio"]}},
        "unsupported_parameter",
        "session.output_modalities",
    ),
    (
        {
            **SESSION,
            "session": {
                "type": "realtime",
                "audio": {"input": {"turn_detection": {"type": "semantic_vad"}}},
            },
        },
        "unsupported_parameter",
        "session.audio.input.turn_detection.type",
    ),
    (
        {**SESSION, "session": {"type": "realtime", "tools": [{"type": "function"}]}},
        "missing_parameter",
        "session.tools[0].name",
    ),
    (
        {**SESSION, "session": {"type": "realtime", "truncation": "disabled"}},
        "unsupported_parameter",
        "session.truncation",
    ),
    (
        {**SESSION, "session": {"type": "realtime", "max_output_tokens": 0}},
        "invalid_value",
        "session.max_output_tokens",
    ),
    (
        {**SESSION, "session": {"type": "realtime", "model": "gpt-realtime"}},
        "model_not_found",
        "model",
    ),
    (
        {**SESSION, "session": {"type": "realtime", "livemind": {"model": "fake"}}},
        "unsupported_parameter",
        "session.livemind.model",
    ),
    (
        {**RESPONSE, "response": {"conversation": "none"}},
        "unsupported_parameter",
        "response.conversation",
    ),
    (
        {**RESPONSE, "response": {"input": [{"type": "message"}]}},
        "unsupported_parameter",
        "response.input",
    ),
    (
        {**RESPONSE, "response": {"tool_choice": "required"}},
        "invalid_value",
        "response.tool_choice",
    ),
    ({**RESPONSE}, "nothing_to_answer", None),
    (item_of({"type": "input_audio", "audio": "AA"}), "invalid_value", "item.content[0].type"),
    (item_of(TEXT, type="mcp_call"), "invalid_value", "item.type"),
    (item_of(TEXT, type="function_call"), "missing_parameter", "item.name"),
    (
        {**item_of(TEXT), "previous_item_id": "x"},
        "item_not_found",
        "previous_item_id",
    ),
    (
        {
            "type": "conversation.item.truncate",
            "item_id": "x",
            "content_index": 0,
            "audio_end_ms": 1,
        },
        "item_not_found",
        "item_id",
    ),
    ({"type": "response.cancel"}, "response_cancel_not_active", None),
]


async def test_frame_that_cannot_be_done_is_refused_by_name(serve: Any, dial: Any) -> None:
    async with serve() as doors, dial(doors) as call:
        for number, (frame, code, param) in enumerate(REFUSED):
            await call.client.send_raw(json.dumps({**frame, "event_id": f"mine {number}"}))
            error = await call.error()
            assert (error.code, error.param, error.event_id) == (code, param, f"mine {number}")
        assert len([*next(iter(doors.state.registry._tasks)).session.items]) == 0
        await call.say("still there")
        assert (await call.answer()).status == "completed"


async def test_proposed_item_is_an_item_like_others(serve: Any, dial: Any) -> None:
    async with serve() as doors, dial(doors, livemind=OFF) as call:
        item = await call.say("hi", id="item_a")
        await call.client.conversation.item.retrieve(item_id=item.id)
        assert (await call.until("conversation.item.retrieved")).item.content[0].text == "hi"
        await call.client.send_raw(json.dumps(item_of(TEXT, id="item_a")))
        assert (await call.error()).code == "item_id_taken"
        await call.client.conversation.item.truncate(
            item_id="item_a", content_index=0, audio_end_ms=1
        )
        assert (await call.error()).code == "not_truncatable"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"model": "gpt-realtime"}, 404, "model_not_found"),
        ({"call_id": "x"}, 400, "unsupported_parameter"),
        ({"intent": "transcription"}, 400, "unsupported_parameter"),
        ({"modle": "fake"}, 400, "unknown_parameter"),
    ],
)
async def test_connection_that_cannot_be_is_refused_before_the_upgrade(
    serve: Any, query: Any, status: int, code: str
) -> None:
    async with serve() as doors:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await doors.http.ws_connect(f"{doors.url}/v1/realtime", params=query)
        assert refused.value.status == status
        await doors.quiet()


async def test_realtime_needs_the_key_and_an_upgrade(serve: Any) -> None:
    async with serve(api_keys=["secret"]) as doors:
        status, answer = await doors.ask("GET", "/v1/realtime")
        assert (status, answer["error"]["code"]) == (401, "missing_api_key")
        headers = {"Authorization": "Bearer secret"}
        status, answer = await doors.ask("GET", "/v1/realtime", headers=headers)
        assert (status, answer["error"]["code"]) == (400, "upgrade_required")
        client = openai.AsyncOpenAI(base_url=f"{doors.url}/v1", api_key="secret")
        async with client, client.realtime.connect(model="fake") as connection:
            assert (await connection.recv()).type == "session.created"


async def test_client_that_leaves_frees_expert_and_session(serve: Any, dial: Any) -> None:
    async with serve(FakeExpert("fake", token_s=3600)) as doors:
        async with dial(doors, livemind=OFF) as call:
            await call.say("one two")
            await call.client.response.create()
            await call.until("response.output_text.delta")
        await doors.quiet()
        _, stats = await doors.ask("GET", "/stats")
        assert stats["server"]["turns_cancelled"] == 1


async def test_failed_response_says_why(serve: Any, dial: Any) -> None:
    expert = FakeExpert("fake", token_s=0.001)
    async with serve(expert) as doors, dial(doors, livemind=OFF) as call:
        expert.crash_after_tokens = 1
        await call.say("one two three")
        done = await call.answer()
        assert (done.status, done.status_details.type) == ("failed", "failed")
        assert done.status_details.error.code == "expert_unavailable"
        assert done.output[0].status == "incomplete"
        assert call.kinds()[-5:] == CLOSING


async def test_response_whose_item_is_deleted_is_closed_in_order(serve: Any, dial: Any) -> None:
    async with (
        serve(FakeExpert("fake", token_s=3600)) as doors,
        dial(doors, livemind=OFF) as call,
    ):
        await call.say("one two")
        await call.client.response.create()
        delta = await call.until("response.output_text.delta")
        await call.client.conversation.item.delete(item_id=delta.item_id)
        done = (await call.until("response.done")).response
        assert done.output[0].status == "incomplete"
        assert call.kinds()[-5:] == ["conversation.item.deleted", *CLOSING[:2], *CLOSING[3:]]


async def test_response_that_never_began_is_created_and_done(serve: Any, dial: Any) -> None:
    expert = FakeExpert("fake", ttft_s=3600)
    async with serve(expert) as doors, dial(doors, livemind=OFF) as call:
        for text in ("one", "two", "three"):
            await call.say(text)
            await call.client.response.create()
        await call.client.response.cancel()
        for _ in range(3):
            done = (await call.until("response.done")).response
            assert done.status == "cancelled"
        kinds = call.kinds()
        assert kinds.count("response.created") == kinds.count("response.done") == 3
        session = next(iter(doors.state.registry._tasks)).session
        said = [(item.role, item.text) for item in session.items if item.text]
        assert said == [("user", "one"), ("user", "two"), ("user", "three")]


async def test_shutdown_is_told_before_the_connection_is_closed(serve: Any, dial: Any) -> None:
    async with serve() as doors, dial(doors) as call:
        doors.state.in_flight.stopping.set()
        assert (await call.error()).code == "unavailable"
        with pytest.raises(ConnectionClosed):
            await call.next()
