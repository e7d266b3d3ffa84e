"""What the numbers of a ``cpu`` summary say."""

from __future__ import annotations

from .work import ANSWER_TOKENS, PROMPT_TOKENS, STREAMS

MEANING = {
    "prefill": f"tokens per second of a prompt of {PROMPT_TOKENS} tokens that nothing is cached of",
    "decode": f"tokens per second of one answer, from its first token to its {ANSWER_TOKENS}th",
    "streams": f"tokens per second of {STREAMS} such answers at a time, prompts included",
}


def meaning(key: str) -> str:
    """Return what one number of the summary says."""
    figure = next((name for name in MEANING if f".{name}_" in key), None)
    if figure is None:
        return ""
    over = ", over llama.cpp's in the same round" if key.endswith("over_llama_cpp.p50") else ""
    return f"{MEANING[figure]}{over}"
