"""``/v1/chat/completions`` as an OpenAI client sees it."""

from __future__ import annotations

import json
from typing import Any


async def test_chat_whole_answer_has_the_shape_of_a_chat_completion(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.chat("hello there")
        assert status == 200, answer
        assert answer["object"] == "chat.completion"
        assert answer["model"] == "fake"
        choice = answer["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": "HELLO THERE", "refusal": None}
        assert choice["finish_reason"] == "stop"
