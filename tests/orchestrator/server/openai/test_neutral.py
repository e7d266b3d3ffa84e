"""Values that ask for nothing are taken; what would change the answer is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.backends.remote.affinity import affinity_key
from livemind.orchestrator.server.openai.neutral import NEUTRAL

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
TAKEN: dict[str, Any] = {
    "metadata": {"run": "7"},
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "verbosity": "medium",
    "reasoning_effort": "low",
    "parallel_tool_calls": True,
    "store": False,
    "user": "u",
    "safety_identifier": "s",
    "tools": [],
    "tool_choice": "auto",
    "response_format": {"type": "text"},
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "stop": [],
    "logit_bias": {},
    "stream": False,
    "stream_options": {"include_usage": False},
    "modalities": ["text"],
    "functions": [],
    "function_call": "none",
    "max_tool_calls": 3,
    "chat_template_kwargs": {},
    "min_tokens": 0,
    "stop_token_ids": [],
    "skip_special_tokens": True,
    "use_beam_search": False,
    "include_stop_str_in_output": False,
    "prompt_cache_retention": "in_memory",
    "return_token_ids": False,
    "priority": 0,
}
NULLS = (*NEUTRAL, *TAKEN)


@pytest.mark.parametrize("field", TAKEN)
async def test_value_that_asks_for_nothing_is_taken(serve: Any, field: str) -> None:
    async with serve() as doors:
        status, answer = await doors.chat(**{field: TAKEN[field]})
        assert status == 200, answer
        assert answer["choices"][0]["message"]["content"] == "HELLO THERE"


async def test_null_is_taken_in_every_field(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.chat(**dict.fromkeys(NULLS))
        assert status == 200, answer
        fields = {name: None for name in NULLS if name not in {"tools", "messages"}}
        for name in ("tool_choice", "parallel_tool_calls", "reasoning_effort", "top_logprobs"):
            fields.pop(name, None)
        fields.pop("chat_template_kwargs")
        status, answer = await doors.post(TEXT, {"prompt": "a", **fields})
        assert status == 200, answer


REFUSED = {
    "audio": {"voice": "alloy", "format": "wav"},
    "modalities": ["text", "audio"],
    "service_tier": "priority",
    "store": True,
    "verbosity": "low",
    "best_of": 2,
    "suffix": "x",
    "web_search_options": {},
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "use_beam_search": True,
    "guided_json": {"type": "object"},
    "return_token_ids": 1,
}


@pytest.mark.parametrize("field", REFUSED)
async def test_value_that_would_change_the_answer_is_refused_by_name(
    serve: Any, field: str
) -> None:
    async with serve() as doors:
        for path, body in (
            (CHAT, {"messages": [{"role": "user", "content": "x"}]}),
            (TEXT, {"prompt": "x"}),
        ):
            status, answer = await doors.post(path, {**body, field: REFUSED[field]})
            error = answer["error"]
            assert (status, error["param"], error["code"]) == (400, field, "unsupported_parameter")
            assert "taken: null" in error["message"]


async def test_cache_key_keeps_requests_together_as_user_does(serve: Any) -> None:
    seen = []

    def answer(messages: Any) -> str:
        seen.append(affinity_key.get())
        return "x"

    async with serve(FakeExpert("fake", answer=answer)) as doors:
        await doors.chat(user="u")
        await doors.chat(user="u", prompt_cache_key="k")
        assert seen == ["u", "k"]
