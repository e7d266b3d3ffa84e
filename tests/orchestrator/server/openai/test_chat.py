"""``/v1/chat/completions``: whole answers, streams, and what a session header changes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from livemind.backends.base import Message
from livemind.backends.errors import ExpertOverloaded, ExpertUnavailable
from livemind.backends.fake import FakeExpert

pytestmark = pytest.mark.usefixtures("both_ways")


async def events_of(response: Any) -> list[Any]:
    """Read a stream's events; ``[DONE]`` is kept as text."""
    text = (await response.read()).decode()
    assert text.endswith("\n\n")
    lines = [block.removeprefix("data: ") for block in text.split("\n\n")[:-1]]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def stream(doors: Any, body: Any, **fields: Any) -> tuple[Any, list[Any]]:
    request = body("one two three", stream=True, **fields)
    async with doors.http.post(doors.url + "/v1/chat/completions", json=request) as response:
        return response, await events_of(response)


async def test_chat_whole_answer_has_the_shape_of_a_chat_completion(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.chat("hello there")
        assert status == 200
        assert answer["object"] == "chat.completion"
        assert answer["id"].startswith("chatcmpl-")
        assert answer["model"] == "fake"
        choice = answer["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": "HELLO THERE", "refusal": None}
        assert choice["finish_reason"] == "stop"
        usage = answer["usage"]
        assert usage["completion_tokens"] == 2
        assert usage["total_tokens"] == usage["prompt_tokens"] + 2
        assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


PREDICTED = {"type": "content", "content": "ONE TWO four five"}


async def test_chat_prediction_is_verified_and_counted(serve: Any, body: Any) -> None:
    expert = FakeExpert("fake", drafts=True)
    async with serve(expert) as doors:
        parts = [{"type": "text", "text": text} for text in ("ONE TWO ", "THREE")]
        for prediction, steps, accepted, rejected in (
            (PREDICTED, 2, 2, 2),
            ({"type": "content", "content": parts}, 2, 3, 0),
            ({"type": "content", "content": ""}, 3, 0, 0),
        ):
            before = expert.steps
            _, answer = await doors.chat("one two three", prediction=prediction)
            assert answer["choices"][0]["message"]["content"] == "ONE TWO THREE"
            assert expert.steps - before == steps
            counted = {
                "accepted_prediction_tokens": accepted,
                "rejected_prediction_tokens": rejected,
            }
            assert answer["usage"]["completion_tokens_details"] == counted
        options = {"include_usage": True}
        _, events = await stream(doors, body, prediction=PREDICTED, stream_options=options)
        details = events[-2]["usage"]["completion_tokens_details"]
        assert details["accepted_prediction_tokens"] == 2


async def test_chat_prediction_that_cannot_be_verified_counts_nothing(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.chat("one two three", prediction=PREDICTED)
        assert answer["choices"][0]["message"]["content"] == "ONE TWO THREE"
        assert set(answer["usage"]["completion_tokens_details"].values()) == {0}
        _, answer = await doors.chat("one two three")
        assert "completion_tokens_details" not in answer["usage"]


async def test_chat_whole_answer_names_expert_and_times_in_headers(serve: Any, body: Any) -> None:
    async with (
        serve() as doors,
        doors.http.post(doors.url + "/v1/chat/completions", json=body()) as response,
    ):
        assert response.headers["X-LiveMind-Expert"] == "fake"
        assert float(response.headers["X-LiveMind-TTFT-Ms"]) >= 0
        assert float(response.headers["X-LiveMind-Total-Ms"]) >= 0
        assert response.headers["X-LiveMind-Adopted-Tokens"] == "0"


async def test_chat_stream_sends_role_deltas_finish_and_done(serve: Any, body: Any) -> None:
    async with serve() as doors:
        response, events = await stream(doors, body)
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["X-LiveMind-Expert"] == "fake"
        assert events[-1] == "[DONE]"
        deltas = [event["choices"][0]["delta"] for event in events[:-1]]
        assert deltas[0] == {"role": "assistant", "content": ""}
        assert [d["content"] for d in deltas[1:-1]] == ["ONE", " TWO", " THREE"]
        assert deltas[-1] == {}
        reasons = [event["choices"][0]["finish_reason"] for event in events[:-1]]
        assert reasons == [None] * 4 + ["stop"]
        assert len({event["id"] for event in events[:-1]}) == 1
        assert all("usage" not in event for event in events[:-1])


async def test_chat_stream_with_include_usage_ends_with_a_usage_chunk(
    serve: Any, body: Any
) -> None:
    async with serve() as doors:
        _, events = await stream(doors, body, stream_options={"include_usage": True})
        assert events[-2]["choices"] == []
        assert events[-2]["usage"]["completion_tokens"] == 3
        assert all(event["usage"] is None for event in events[:-2])


async def test_chat_stream_sends_each_delta_when_it_comes(serve: Any, body: Any) -> None:
    """The first token must not wait for the second: the expert never gives one."""
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors:
        request = body("one two", stream=True)
        async with doors.http.post(doors.url + "/v1/chat/completions", json=request) as response:
            seen = b""
            async with asyncio.timeout(5):
                while b"ONE" not in seen:
                    seen += await response.content.readany()
        await doors.quiet()


async def test_chat_sampling_fields_reach_the_expert(serve: Any) -> None:
    expert = FakeExpert("fake")
    seen = []
    generate = expert.generate

    def spy(prompt: Any, params: Any, **given: Any) -> Any:
        seen.append(params)
        return generate(prompt, params, **given)

    expert.generate = spy  # type: ignore[method-assign]
    fields = {
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
        "repetition_penalty": 1.1,
        "seed": 42,
        "stop": ["x", "y"],
        "logit_bias": {"17": -100},
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 3,
    }
    async with serve(expert) as doors:
        status, answer = await doors.chat("hello", **fields)
        assert status == 200, answer
    params = seen[0]
    assert params.max_tokens == 5
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.5, 0.9, 7, 0.1)
    assert (params.presence_penalty, params.frequency_penalty) == (0.2, -0.3)
    assert (params.repetition_penalty, params.seed) == (1.1, 42)
    assert params.stop == ("x", "y")
    assert params.logit_bias == ((17, -100.0),)
    assert (params.ignore_eos, params.logprobs) == (True, 3)


async def test_chat_stop_string_ends_the_answer(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.chat("one two three", stop=" TWO")
        assert answer["choices"][0]["message"]["content"] == "ONE"


async def test_chat_max_tokens_finishes_with_length(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.chat("one two three", max_tokens=2)
        assert answer["choices"][0]["message"]["content"] == "ONE TWO"
        assert answer["choices"][0]["finish_reason"] == "length"


async def test_chat_logprobs_come_in_openai_form(serve: Any, body: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.chat("hé", logprobs=True, top_logprobs=1)
        entry = {"token": "HÉ", "logprob": 0.0, "bytes": list("HÉ".encode())}
        content = [{**entry, "top_logprobs": [entry]}]
        assert answer["choices"][0]["logprobs"] == {"content": content, "refusal": None}
        _, events = await stream(doors, body, logprobs=True)
        chunk = events[1]["choices"][0]
        assert chunk["logprobs"]["content"][0]["token"] == "ONE"


async def test_chat_without_logprobs_has_none(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.chat()
        assert answer["choices"][0]["logprobs"] is None


async def test_chat_conversation_reaches_the_expert_in_order(serve: Any) -> None:
    seen: list[Message] = []

    def answer(messages: Any) -> str:
        seen[:] = messages
        return "ok"

    async with serve(FakeExpert("fake", answer=answer)) as doors:
        messages = [
            {"role": "system", "content": "be brief"},
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "answer"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
        ]
        body = {"messages": messages, "documents": ["paper"]}
        status, _ = await doors.post("/v1/chat/completions", body)
        assert status == 200
    assert [(m.role, m.content) for m in seen if m.role != "documents"] == [
        ("system", "be brief\n\nbe kind"),
        ("user", "first"),
        ("assistant", "answer"),
        ("user", "a\nb"),
    ]
    assert any(m.role == "documents" and "paper" in m.content for m in seen)


async def test_chat_model_field_selects_the_expert(serve: Any) -> None:
    async with serve(FakeExpert("one"), FakeExpert("two")) as doors:
        for name in ("one", "two"):
            _, answer = await doors.chat(model=name)
            assert answer["model"] == name


async def test_chat_unknown_model_is_404_naming_the_field(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.chat(model="gpt-x")
        assert status == 404
        assert answer["error"]["code"] == "model_not_found"
        assert answer["error"]["param"] == "model"
        assert "fake" in answer["error"]["message"]


async def test_chat_expert_failure_before_the_first_token_is_an_http_error(
    serve: Any, body: Any
) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        expert.refuse = ExpertOverloaded("fake", "its queue is full", 7)
        request = body(stream=True)
        async with doors.http.post(doors.url + "/v1/chat/completions", json=request) as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == "7"
            assert (await response.json())["error"]["message"] == "its queue is full"


async def test_chat_expert_failure_in_mid_stream_ends_with_one_error_event(
    serve: Any, body: Any
) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        expert.crash_after_tokens = 1
        _, events = await stream(doors, body)
        assert "[DONE]" not in events
        assert [("error" in event) for event in events].count(True) == 1
        assert events[-1]["error"]["code"] == "expert_unavailable"


async def test_chat_prompt_over_the_context_limit_is_400(serve: Any) -> None:
    async with serve(FakeExpert("fake", max_model_len=4)) as doors:
        status, answer = await doors.chat("one two three four five six")
        assert status == 400
        assert answer["error"]["code"] == "context_length_exceeded"
        assert answer["error"]["param"] == "messages"


async def test_chat_expert_that_is_down_is_503_without_details(serve: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        expert.refuse = ExpertUnavailable("fake", "the engine is not running")
        status, answer = await doors.chat()
        assert status == 503
        assert set(answer["error"]) == {"message", "type", "param", "code"}


async def test_chat_unexpected_failure_is_a_bare_500(serve: Any) -> None:
    def broken(messages: Any) -> str:
        raise RuntimeError("secret path /etc/x")

    async with serve(FakeExpert("fake", answer=broken)) as doors:
        status, answer = await doors.chat()
        assert status in (500, 503)
        assert "secret" not in json.dumps(answer)


async def test_chat_sessions_are_gone_after_the_answer(serve: Any) -> None:
    async with serve() as doors:
        await doors.chat()
        assert len(doors.state.registry) == 0
        assert doors.mind.stats()["sessions"] == 0


async def test_chat_over_the_turn_limit_is_429_with_retry_after(serve: Any, body: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert, max_concurrent_turns=1, max_waiting_turns=0) as doors:
        url = doors.url + "/v1/chat/completions"
        async with doors.http.post(url, json=body("a b", stream=True)) as first:
            await first.content.readany()
            async with doors.http.post(url, json=body()) as second:
                assert second.status == 429
                assert int(second.headers["Retry-After"]) >= 1
        await doors.quiet()


async def test_chat_on_cold_fallback_says_who_answered_and_why_and_loads_the_expert(
    serve: Any, eventually: Any
) -> None:
    experts = FakeExpert("fast"), FakeExpert("strong", start_s=0.2)
    lazy = {"warmup_pool_size": 1, "max_loaded_experts": 2}
    async with serve(*experts, lazy_loading=lazy, fast="fast") as doors:
        asked = {"model": "strong", "on_cold": "fallback", "livemind": True}
        _, answer = await doors.chat("hello there", **asked)
        assert answer["model"] == "fast"
        assert answer["livemind"]["degraded"] == ["strong is not loaded yet: fast answers"]
        await eventually(lambda: experts[1].starts == 1)
        _, answer = await doors.chat("hello there", **asked | {"on_cold": "wait"})
        assert (answer["model"], answer["livemind"]["degraded"]) == ("strong", [])


async def test_live_session_on_cold_is_an_option_with_the_configured_default(serve: Any) -> None:
    experts = FakeExpert("fast"), FakeExpert("strong", start_s=60)
    lazy = {"warmup_pool_size": 1, "max_loaded_experts": 2, "on_cold": "fallback"}
    async with serve(*experts, lazy_loading=lazy, fast="fast") as doors, doors.live() as ws:
        await ws.send(type="session.update", model="strong", on_cold=None)
        assert (await ws.next())["session"]["on_cold"] is None
        await ws.send(type="input_text.commit", text="hello")
        done = await ws.until("response.done")
        assert (done["expert"], done["status"]) == ("fast", "completed")
