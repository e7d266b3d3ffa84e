"""A remote expert of known latency that can be prefilled: it tells how long each prompt was.

    python -m livemind.benchmarks.sessions.expert --port 9000 --latency-ms 100 --tokens 16

What is asked for one token alone (a prefill, a probe) is answered at once.
"""

from __future__ import annotations

from ..harness.fake_server import (
    LAST_EVENT,
    MODEL,
    STREAM,
    WORD,
    FakeServer,
    Json,
    Writes,
    chunk,
    event,
    head_of,
    main,
    timed,
    whole,
)

CHARACTERS_PER_TOKEN = 4
TURN_END_TOKENS = 4
"""What a prompt is shorter by whose last turn stays open."""


class PrefillServer(FakeServer):
    """Answers as vLLM's server does, as far as speculation looks at it."""

    def __init__(self, latency_s: float = 0.0, tokens: int = 16, itl_s: float = 0.0) -> None:
        super().__init__(latency_s, tokens, itl_s)
        self._tokens = tokens
        self._times_s = [latency_s + n * itl_s for n in range(tokens)]

    def models(self) -> Json:
        """Return the answer to ``GET /v1/models``."""
        return {"object": "list", "data": [{"id": MODEL, "max_model_len": 32_768}]}

    def chat(self, asked: Json) -> Writes:
        """Return the answer: first token after the latency, or at once if it is the only one."""
        tokens = 1 if asked.get("max_tokens") == 1 else self._tokens
        usage = _usage(asked, tokens)
        if not asked.get("stream"):
            message = {"role": "assistant", "content": WORD * tokens}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {**head_of("chat.completion"), "choices": [choice], "usage": usage}
            return [(0.0 if tokens == 1 else self._times_s[-1], [whole(answer)])]
        first = STREAM + chunk({"role": "assistant", "content": ""})
        told = event({**head_of("chat.completion.chunk"), "choices": [], "usage": usage})
        end = chunk({}, "stop") + told + LAST_EVENT
        return timed(self._times_s, first, [chunk({"content": WORD})] * self._tokens, end)


def _usage(asked: Json, tokens: int) -> Json:
    characters = sum(len(message["content"] or "") for message in asked["messages"])
    closed = 0 if asked.get("continue_final_message") else TURN_END_TOKENS
    prompt = characters // CHARACTERS_PER_TOKEN + closed
    details = {"cached_tokens": 0}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": tokens,
        "total_tokens": prompt + tokens,
        "prompt_tokens_details": details,
    }


if __name__ == "__main__":
    main(PrefillServer)
