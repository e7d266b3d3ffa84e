"""Payload details that no fake expert produces."""

from __future__ import annotations

from livemind.backends.base import TokenLogprob, Usage
from livemind.orchestrator.server.openai.format import chat_logprobs, usage_json


def test_logprobs_of_half_a_character_have_no_bytes() -> None:
    part = TokenLogprob("\ufffd", 7, -1.0, (("\ufffd", 7, -1.0), ("a", 8, -2.0)))
    content = chat_logprobs([part])["content"]
    assert content == [
        {
            "token": "\ufffd",
            "logprob": -1.0,
            "bytes": None,
            "top_logprobs": [
                {"token": "\ufffd", "logprob": -1.0, "bytes": None},
                {"token": "a", "logprob": -2.0, "bytes": [97]},
            ],
        }
    ]


def test_usage_without_known_cached_tokens_leaves_them_out() -> None:
    assert usage_json(Usage(3, 2)) == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
    }
    assert usage_json(None) is None
