"""``/v1/responses`` through the official client: shapes, the order of events, what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import openai
import pytest

from livemind.backends.base import Chunk, Message
from livemind.backends.fake import FakeExpert, echo

PATH = "/v1/responses"
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "tells it",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


def client_of(doors: Any, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{doors.url}/v1", api_key=key, max_retries=0, timeout=10)


def weatherman(messages: Sequence[Message]) -> str:
    """Call the tool, then say what it told."""
    if messages[-1].role == "tool":
        return f"it has {messages[-1].content}"
    return f"let me see {CALL}"


async def test_response_whole_has_text_usage_and_settings(serve: Any) -> None:
    async with serve() as doors, client_of(doors) as client:
        answer = await client.responses.create(
            model="auto", input="one two", instructions="be kind", metadata={"a": "b"}
        )
        assert answer.output_text == "ONE TWO"
        assert (answer.status, answer.model, answer.object) == ("completed", "fake", "response")
        assert answer.usage is not None
        assert answer.usage.output_tokens == 2
        assert answer.instructions == "be kind"
        assert answer.metadata == {"a": "b"}
        assert answer.output[0].type == "message"


async def test_response_stream_has_the_whole_sequence_of_events(serve: Any) -> None:
    async with serve() as doors, client_of(doors) as client:
        async with client.responses.stream(model="auto", input="one two") as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        assert [event.type for event in events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert [event.sequence_number for event in events] == list(range(10))
        assert final.output_text == "ONE TWO"


async def test_response_events_have_names_on_the_wire(serve: Any) -> None:
    async with serve() as doors:
        body = {"input": "one", "stream": True}
        async with doors.http.post(doors.url + PATH, json=body) as response:
            blocks = (await response.text()).split("\n\n")[:-1]
        for block in blocks:
            name, data = block.split("\n")
            assert name.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]


async def test_response_calls_a_tool_and_goes_on_with_its_result(serve: Any) -> None:
    async with serve(FakeExpert("fake", answer=weatherman)) as doors, client_of(doors) as client:
        first = await client.responses.create(model="auto", input="hot?", tools=[TOOL])
        said, call = first.output
        assert said.type == "message"
        assert call.type == "function_call"
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Bern"})
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "12"}
        second = await client.responses.create(
            model="auto", input=[result], previous_response_id=first.id, tools=[TOOL]
        )
        assert second.output_text == "it has 12"
        items: Any = [{"role": "user", "content": "hot?"}, *first.output, result]
        given: Any = [item if isinstance(item, dict) else item.model_dump() for item in items]
        third = await client.responses.create(model="auto", input=given, tools=[TOOL])
        assert third.output_text == "it has 12"


async def test_response_stream_tells_of_calls_in_pieces(serve: Any) -> None:
    async with serve(FakeExpert("fake", answer=weatherman)) as doors, client_of(doors) as client:
        async with client.responses.stream(model="auto", input="hot?", tools=[TOOL]) as stream:
            events = [event async for event in stream]
        kinds = [event.type for event in events]
        assert kinds.count("response.output_item.added") == 2
        assert kinds.index("response.output_text.done") < kinds.index(
            "response.function_call_arguments.delta"
        )
        assert kinds[-3:] == [
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
        done: Any = events[-3]
        assert json.loads(done.arguments) == {"city": "Bern"}


async def test_response_with_thoughts_has_an_item_of_them(serve: Any) -> None:
    class Thinking(FakeExpert):
        async def generate(self, *args: Any, **more: Any) -> Any:
            yield Chunk("", reasoning="let me think")
            async for chunk in super().generate(*args, **more):
                yield chunk

    async with serve(Thinking("fake")) as doors, client_of(doors) as client:
        answer = await client.responses.create(model="auto", input="one")
        thoughts, said = answer.output
        assert thoughts.type == "reasoning"
        assert thoughts.content is not None
        assert thoughts.content[0].text == "let me think"
        assert said.type == "message"
        async with client.responses.stream(model="auto", input="one") as stream:
            kinds = [event.type async for event in stream]
        assert "response.reasoning_text.delta" in kinds
        _, answered = await doors.chat("one")
        assert answered["choices"][0]["message"]["reasoning_content"] == "let me think"


async def test_response_follows_the_one_before_it(serve: Any) -> None:
    seen: list[tuple[str, str]] = []

    def answer(messages: Sequence[Message]) -> str:
        seen[:] = [(message.role, message.content) for message in messages]
        return echo(messages)

    async with serve(FakeExpert("fake", answer=answer)) as doors, client_of(doors) as client:
        first = await client.responses.create(model="auto", input="one", instructions="be kind")
        await client.responses.create(model="auto", input="two", previous_response_id=first.id)
        assert seen == [("user", "one"), ("assistant", "ONE"), ("user", "two")]
        kept = await client.responses.retrieve(first.id)
        assert kept.output_text == "ONE"
        items = await client.responses.input_items.list(first.id)
        assert [item.type for item in items.data] == ["message"]
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
        with pytest.raises(openai.NotFoundError) as gone:
            await client.responses.create(model="auto", input="x", previous_response_id=first.id)
        assert gone.value.param == "previous_response_id"


async def test_response_that_is_not_to_be_kept_is_not(serve: Any) -> None:
    async with serve() as doors, client_of(doors) as client:
        answer = await client.responses.create(model="auto", input="one", store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)
        assert len(doors.state.responses) == 0


async def test_responses_that_are_kept_are_bounded_and_private(serve: Any) -> None:
    keys = ["a", "b"]
    async with serve(api_keys=keys, max_stored_responses=2) as doors:
        async with client_of(doors, "a") as client:
            made = [await client.responses.create(model="auto", input="one") for _ in range(3)]
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve(made[0].id)
            await client.responses.retrieve(made[2].id)
        async with client_of(doors, "b") as other:
            with pytest.raises(openai.NotFoundError):
                await other.responses.retrieve(made[2].id)
    async with serve(max_stored_bytes=10) as doors, client_of(doors) as client:
        await client.responses.create(model="auto", input="one")
        assert len(doors.state.responses) == 0


async def test_response_form_and_limit_reach_the_expert(serve: Any) -> None:
    seen = []

    class Seeing(FakeExpert):
        def generate(self, prompt: Any, params: Any, **more: Any) -> Any:
            seen.append(params)
            return super().generate(prompt, params, **more)

    async with serve(Seeing("fake")) as doors, client_of(doors) as client:
        schema: Any = {
            "type": "json_schema",
            "name": "x",
            "schema": {"type": "object"},
            "strict": True,
        }
        answer = await client.responses.create(
            model="auto", input="one two", text={"format": schema}, max_output_tokens=1
        )
        assert answer.status == "incomplete"
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "max_output_tokens"
        assert json.loads(seen[0].structured.json) == {"type": "object"}
        assert seen[0].max_tokens == 1


async def test_response_logprobs_come_with_the_text(serve: Any) -> None:
    async with serve() as doors, client_of(doors) as client:
        answer = await client.responses.create(
            model="auto",
            input="one two",
            top_logprobs=1,
            include=["message.output_text.logprobs"],
        )
        content: Any = answer.output[0]
        assert [entry.token for entry in content.content[0].logprobs] == ["ONE", " TWO"]


async def test_response_that_is_written_can_be_cancelled(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=0.05)
    async with serve(expert) as doors:
        body = {"input": "w " * 400, "stream": True, "max_output_tokens": 400}
        async with doors.http.post(doors.url + PATH, json=body) as response:
            await response.content.readline()
            data = await response.content.readline()
            made = json.loads(data.decode().removeprefix("data: "))["response"]["id"]
            _, unfinished = await doors.ask("GET", f"{PATH}/{made}")
            assert unfinished["status"] == "in_progress"
            follow = {"input": "and?", "previous_response_id": made}
            async with doors.http.post(doors.url + PATH, json=follow) as refused:
                assert refused.status == 409
                assert int(refused.headers["Retry-After"]) >= 1
                error = (await refused.json())["error"]
                assert error["param"] == "previous_response_id"
            assert (await doors.ask("DELETE", f"{PATH}/{made}"))[0] == 409
            status, stopped = await doors.post(f"{PATH}/{made}/cancel")
            assert (status, stopped["status"]) == (200, "cancelled")
        await doors.quiet()
        assert expert.aborted == 1
        _, done = await doors.post(PATH, {"input": "one"})
        status, answer = await doors.post(f"{PATH}/{done['id']}/cancel")
        assert (status, answer["error"]["code"]) == (400, "response_ended")


async def test_response_that_fails_in_mid_stream_says_so_in_its_last_event(serve: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors, client_of(doors) as client:
        expert.crash_after_tokens = 1
        stream = await client.responses.create(model="auto", input="one two three", stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.failed"
        assert events[-1].response.status == "failed"


WRONG: dict[str, tuple[Any, str]] = {
    "kind of item": ({"input": [{"type": "image_generation_call"}]}, "input[0]"),
    "role": ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    "part": (
        {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "input[0].content[0]",
    ),
    "empty": ({"input": ""}, "input[0].content"),
    "tool": ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
    "choice": ({"input": "x", "tool_choice": "required"}, "tool_choice"),
    "background": ({"input": "x", "background": True}, "background"),
    "conversation": ({"input": "x", "conversation": "c"}, "conversation"),
    "unknown": ({"input": "x", "wisdom": 1}, "wisdom"),
    "limit": ({"input": "x", "model": "fake", "max_output_tokens": 4096}, "max_output_tokens"),
    "form": (
        {"input": "x", "text": {"format": {"type": "json_schema", "name": "x"}}},
        "text.format.schema",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_response_request_that_cannot_be_is_refused_in_its_own_names(
    serve: Any, name: str
) -> None:
    body, param = WRONG[name]
    async with serve(FakeExpert("fake", max_model_len=64), FakeExpert("other")) as doors:
        status, answer = await doors.post(PATH, body)
        assert (status, answer["error"]["param"]) == (400, param), answer


async def test_response_of_a_live_session_adopts_what_it_prepared(serve: Any) -> None:
    async with serve() as doors:
        _, session = await doors.post("/v1/live/sessions", {"speculation": "off"})
        headers = {"X-LiveMind-Session": session["id"]}
        async with doors.http.post(
            doors.url + PATH, json={"input": "one two"}, headers=headers
        ) as response:
            assert response.headers["X-LiveMind-Session-Status"] == "adopted"
            assert (await response.json())["output"][0]["content"][0]["text"] == "ONE TWO"
        _, shown = await doors.ask("GET", f"/v1/live/sessions/{session['id']}")
        assert shown["items"] == 2


async def test_responses_side_by_side_keep_apart(serve: Any) -> None:
    async with serve(FakeExpert("fake", token_s=0.001)) as doors, client_of(doors) as client:
        texts = [f"word{n} again" for n in range(12)]
        answers = await asyncio.gather(
            *(client.responses.create(model="auto", input=text) for text in texts)
        )
        assert [answer.output_text for answer in answers] == [text.upper() for text in texts]
