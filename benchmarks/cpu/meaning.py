"""What the numbers of a ``cpu`` summary say."""

from __future__ import annotations

from .perplexity import TOKENS
from .work import ANSWER_TOKENS, PROMPT_TOKENS, STREAMS

MEANING = {
    "prefill": f"tokens per second of a prompt of {PROMPT_TOKENS} tokens that nothing is cached of",
    "decode": f"tokens per second of one answer, from its first token to its {ANSWER_TOKENS}th",
    "perplexity": f"perplexity of {TOKENS} tokens of the sample handbook, the file's own weights",
    "streams": f"tokens per second of {STREAMS} such answers at a time, prompts included",
}


def meaning(key: str) -> str:
    """Return what one number of the summary says."""
    figure = next((n for n in MEANING if f".{n}_" in key or key.endswith(f".{n}")), None)
    if figure is None:
        return ""
    over = ", over llama.cpp's" if "over_llama_cpp" in key else ""
    over += " in the same round" if over and figure != "perplexity" else ""
    return f"{MEANING[figure]}{over}"
