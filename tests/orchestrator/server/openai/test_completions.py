"""``/v1/completions``: plain prompts."""

from __future__ import annotations

import json
from typing import Any

from livemind.backends.fake import FakeExpert
from livemind.backends.remote.affinity import affinity_key

PATH = "/v1/completions"


async def test_completion_whole_has_the_shape_of_a_text_completion(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.post(PATH, {"prompt": "one two"})
        assert status == 200
        assert answer["object"] == "text_completion"
        assert answer["id"].startswith("cmpl-")
        assert answer["model"] == "fake"
        assert answer["choices"] == [
            {"index": 0, "text": "ONE TWO", "logprobs": None, "finish_reason": "stop"}
        ]
        assert answer["usage"]["completion_tokens"] == 2


async def test_completion_default_length_is_sixteen_tokens(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.post(PATH, {"prompt": "w " * 30})
        assert answer["usage"]["completion_tokens"] == 16
        assert answer["choices"][0]["finish_reason"] == "length"


async def test_completion_stream_ends_with_usage_and_done(serve: Any) -> None:
    async with serve() as doors:
        body = {"prompt": "a b", "stream": True, "stream_options": {"include_usage": True}}
        async with doors.http.post(doors.url + PATH, json=body) as response:
            blocks = (await response.text()).split("\n\n")[:-1]
        events = [json.loads(block[6:]) for block in blocks[:-1]]
        assert blocks[-1] == "data: [DONE]"
        assert [e["choices"][0]["text"] for e in events[:-1]] == ["A", " B", ""]
        assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None, None, "stop"]
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["completion_tokens"] == 2


async def test_completion_logprobs_have_running_offsets(serve: Any) -> None:
    async with serve() as doors:
        _, answer = await doors.post(PATH, {"prompt": "ab cd", "logprobs": 1})
        assert answer["choices"][0]["logprobs"] == {
            "tokens": ["AB", " CD"],
            "token_logprobs": [0.0, 0.0],
            "top_logprobs": [{"AB": 0.0}, {" CD": 0.0}],
            "text_offset": [0, 2],
        }


async def test_completion_without_model_uses_the_default_expert(serve: Any) -> None:
    async with serve(FakeExpert("one"), FakeExpert("two")) as doors:
        _, answer = await doors.post(PATH, {"prompt": "x", "model": "auto"})
        assert answer["model"] == doors.mind.settings.default_expert


async def test_completion_client_that_vanishes_frees_the_slot(serve: Any, eventually: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors:
        body = {"prompt": "a b", "stream": True}
        async with doors.http.post(doors.url + PATH, json=body) as response:
            await response.content.readany()
            assert expert.running == 1
        await eventually(lambda: not expert.running)
        assert expert.aborted == 1
        metrics = doors.state.metrics.render().decode()
        assert 'livemind_turns_total{expert="fake",status="cancelled"} 1.0' in metrics


async def test_completion_failure_is_counted_as_failed(serve: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        expert.crash_after_tokens = 0
        status, _ = await doors.post(PATH, {"prompt": "a b"})
        assert status == 503
        assert doors.state.metrics.stats()["turns_failed"] == 1


async def test_completion_over_the_turn_timeout_is_stopped_and_named(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert, turn_timeout_s=0.5) as doors:
        status, answer = await doors.post(PATH, {"prompt": "a b"})
        assert (status, answer["error"]["code"]) == (504, "timeout")
        assert expert.aborted == 1


async def test_completion_user_is_the_affinity_key_of_this_request_alone(serve: Any) -> None:
    seen: list[str | None] = []

    def answer(messages: Any) -> str:
        seen.append(affinity_key.get())
        return "ok"

    async with serve(FakeExpert("fake", answer=answer)) as doors:
        await doors.post(PATH, {"prompt": "a", "user": "ann"})
        await doors.post(PATH, {"prompt": "a", "user": "bob", "stream": False})
        await doors.post(PATH, {"prompt": "a"})
        assert seen == ["ann", "bob", None]
