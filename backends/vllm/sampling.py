"""From LiveMind's parameters to vLLM's, and vLLM's log-probabilities back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..base import GenerationParams, TokenLogprob, TokenPrompt
from ..errors import PromptRejected
from .answer_reader import AnswerReader, structured_outputs
from .json_whitespace import bounded

# GenerationParams that vLLM's SamplingParams calls by the same name.
_SAME_NAMES = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "logprobs",
    "min_tokens",
    "skip_special_tokens",
)


def sampling_params(
    params: GenerationParams,
    defaults: Mapping[str, Any],
    reader: AnswerReader | None,
    *,
    room: int,
    max_tokens_default: int,
    json_whitespace: int | None = None,
) -> Any:
    """Return vLLM's ``SamplingParams``; outputs come as deltas.

    Args:
        params: every field that is not None reaches the engine.
        defaults: of the model, for what ``params`` leaves open.
        reader: of the answer, which may want another grammar and the special tokens.
        room: tokens that the context has behind the prompt; ``params.max_tokens`` is within it.
        max_tokens_default: where ``params`` names no limit.
        json_whitespace: most white spaces in a row of JSON that a grammar asks for; None = any.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    settings = dict(defaults)
    settings.update(
        (name, value) for name in _SAME_NAMES if (value := getattr(params, name)) is not None
    )
    wanted = min(max_tokens_default, room) if params.max_tokens is None else params.max_tokens
    structured = structured_outputs(params)
    if reader is not None:
        structured = reader.structured
        settings["skip_special_tokens"] = reader.skip_special_tokens
    return SamplingParams(
        **settings,
        max_tokens=max(1, min(wanted, room)),
        stop=list(params.stop),
        stop_token_ids=list(params.stop_token_ids),
        logit_bias=dict(params.logit_bias) or None,
        ignore_eos=params.ignore_eos,
        structured_outputs=bounded(structured, json_whitespace),
        prompt_logprobs=params.logprobs if params.echo else None,
        output_kind=RequestOutputKind.DELTA,
    )


def check_room(expert_id: str, params: GenerationParams, prompt_tokens: int, limit: int) -> None:
    """Refuse an answer that is longer than what the prompt leaves of the context, unless clamped.

    Raises:
        PromptRejected: with the name that the client gave the limit.
    """
    wanted, name = params.max_tokens, params.max_tokens_name
    if wanted is not None and wanted < (0 if params.echo else 1):
        message = f"{name}={wanted}: nothing can be generated"
        raise PromptRejected(expert_id, message, param=name)
    if wanted is None or params.clamp or wanted <= limit - prompt_tokens:
        return
    message = (
        f"{name}={wanted} and the prompt of {prompt_tokens} tokens "
        f"are together more than the context limit of {limit} tokens"
    )
    raise PromptRejected(expert_id, message, param=name)


def token_logprobs(
    token_ids: Sequence[int],
    entries: Sequence[Mapping[int, Any] | None] | None,
    wanted: int | None,
    first: str = "",
) -> tuple[TokenLogprob, ...] | None:
    """Return one TokenLogprob per token, its ``wanted`` best alternatives best first.

    What vLLM tells nothing of, the first token of a prompt, has NaN; ``first`` is its text.
    """
    if wanted is None or entries is None:
        return None
    found = []
    for token_id, candidates in zip(token_ids, entries, strict=True):
        if candidates is None:
            found.append(TokenLogprob(first, token_id, float("nan")))
            continue
        best = sorted(candidates.items(), key=lambda item: item[1].rank)[:wanted]
        top = tuple((entry.decoded_token or "", other, entry.logprob) for other, entry in best)
        chosen = candidates[token_id]
        found.append(TokenLogprob(chosen.decoded_token or "", token_id, chosen.logprob, top))
    return tuple(found)


def echoed_text(prompt: TokenPrompt, tokenizer: Any) -> str:
    """Return a plain prompt as text."""
    text = prompt.text or tokenizer.decode(list(prompt.token_ids))
    return str(text)
