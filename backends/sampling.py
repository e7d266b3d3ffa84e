"""How an answer is sampled, and what it must look like: the values of a request.

``base.py`` gives them to everyone else. Nothing is checked here.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, structs

ToolChoice = Literal["auto", "none", "required", "named"]
HINTS = ("prediction", "clamp", "max_tokens_name")
"""Parameters, the last ones, that change no answer."""


class StructuredOutput(Struct, frozen=True):
    """What an answer must look like; exactly one field says it.

    Attributes:
        json: a JSON schema, as JSON.
        json_object: any JSON object.
        regex: a regular expression that matches the whole answer.
        choice: the answer is one of these.
        grammar: a context-free grammar, in EBNF or Lark.
        structural_tag: xgrammar's structural tags, as JSON.
    """

    json: str | None = None
    json_object: bool = False
    regex: str | None = None
    choice: tuple[str, ...] = ()
    grammar: str | None = None
    structural_tag: str | None = None


class GenerationParams(Struct, frozen=True):
    """Sampling parameters in the names of the OpenAI API and vLLM. None means the engine's default.

    Nothing is checked here: an engine refuses what it cannot do with ``PromptRejected``, which
    names the parameter.

    Attributes:
        max_tokens: tokens to generate at most; None = up to the context limit. 0 with ``echo``:
            nothing is generated.
        temperature: 0 = greedy.
        top_p, top_k, min_p: the candidates of each token: the likeliest that together have this
            probability; so many; those of at least this share of the likeliest one's.
        presence_penalty, frequency_penalty: -2..2, subtracted from the logits of tokens that the
            answer has, once or per occurrence.
        repetition_penalty: > 0; above 1 tokens that prompt or answer have become less likely.
        seed: makes a sample repeatable, as far as the engine's arithmetic is.
        stop: texts at which the answer ends; they are not part of it.
        stop_token_ids: tokens at which it ends.
        logit_bias: (token id, added to its logit).
        logprobs: alternatives reported per token (0 = the chosen token only), None = none.
        ignore_eos: generate ``max_tokens`` whatever the model says; for benchmarks.
        min_tokens: before them the answer does not end.
        skip_special_tokens: whether the text leaves special tokens out; None = it does.
        structured: what the answer must look like; None = anything.
        tool_choice: whether the answer calls tools: as the model likes, not at all, at least one,
            or ``tool_name``; None = ``auto`` where the prompt has tools.
        tool_name: the function to be called, for ``named``.
        parallel_tool_calls: whether the answer may make several calls; None = it may.
        echo: the answer begins with the prompt (plain prompts alone), whose log-probabilities are
            told with ``logprobs``.
        prediction: how the answer probably reads: the draft of a request that brings no other.
        clamp: a ``max_tokens`` that does not fit is an upper bound, and no error.
        max_tokens_name: what the client calls ``max_tokens``.

    The last three change no answer: params differing in them alone are equal.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    min_tokens: int | None = None
    skip_special_tokens: bool | None = None
    structured: StructuredOutput | None = None
    tool_choice: ToolChoice | None = None
    tool_name: str | None = None
    parallel_tool_calls: bool | None = None
    echo: bool = False
    prediction: str | None = None
    clamp: bool = False
    max_tokens_name: str = "max_tokens"

    def _telling(self) -> tuple[Any, ...]:
        return structs.astuple(self)[: -len(HINTS)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GenerationParams):
            return NotImplemented
        return self._telling() == other._telling()

    def __hash__(self) -> int:
        return hash(self._telling())
