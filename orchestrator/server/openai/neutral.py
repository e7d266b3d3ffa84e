"""Fields of OpenAI's and vLLM's requests that this server does not act on, and what it takes there.

A value that asks for nothing is taken; one that would change the answer is refused by name. Owns
the table, of which ``docs/openai.md`` is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from msgspec import Struct
from pydantic import BaseModel

from ..content import refusal


class Neutral(Struct, frozen=True):
    """What of a field is taken beside null.

    Attributes:
        values: that ask for nothing; empty = null alone, None = any.
        means: what the field is, for people.
    """

    means: str
    values: tuple[Any, ...] | None = ()


LABEL = None
NEUTRAL: Mapping[str, Neutral] = {
    "add_special_tokens": Neutral("the chat template's own tokens alone", (False,)),
    "allowed_token_ids": Neutral("tokens that may be generated", ([],)),
    "audio": Neutral("an answer as sound"),
    "bad_words": Neutral("words that may not be generated", ([],)),
    "best_of": Neutral("answers to choose from", (1,)),
    "chat_template": Neutral("another template than the model's"),
    "detokenize": Neutral("text beside tokens", (True,)),
    "echo": Neutral("the last message once more", (False,)),
    "function_call": Neutral("`tool_choice` before there were tools", ("none", "auto")),
    "functions": Neutral("`tools` before there were tools", ([],)),
    "guided_choice": Neutral("now `structured_outputs.choice`", ([],)),
    "guided_grammar": Neutral("now `structured_outputs.grammar`"),
    "guided_json": Neutral("now `structured_outputs.json`"),
    "guided_regex": Neutral("now `structured_outputs.regex`"),
    "include_reasoning": Neutral("thoughts beside the answer", (True,)),
    "include_stop_str_in_output": Neutral("the stop text in the answer", (False,)),
    "kv_transfer_params": Neutral("a prompt computed elsewhere", ({},)),
    "length_penalty": Neutral("of beams", (1, 1.0)),
    "logit_processors": Neutral("code for the engine", ([],)),
    "logits_processors": Neutral("code for the engine", ([],)),
    "max_tool_calls": Neutral("calls of built-in tools; there are none", LABEL),
    "metadata": Neutral("labels of the request", LABEL),
    "mm_processor_kwargs": Neutral("how images are cut", ({},)),
    "modalities": Neutral("what the answer is made of", (["text"],)),
    "priority": Neutral("place in the engine's queue", (0,)),
    "prompt_cache_retention": Neutral("how long a prompt is kept", ("in_memory", "in-memory")),
    "prompt_logprobs": Neutral("use `echo` with `logprobs` of /v1/completions"),
    "repetition_detection": Neutral("an end for loops", ({},)),
    "request_id": Neutral("a label; the header X-Request-Id counts", LABEL),
    "return_token_ids": Neutral("tokens beside the text", (False,)),
    "return_tokens_as_token_ids": Neutral("tokens in place of their texts", (False,)),
    "safety_identifier": Neutral("a label of the end user", LABEL),
    "service_tier": Neutral("a price class", ("auto", "default", "standard")),
    "spaces_between_special_tokens": Neutral("blanks between them", (True,)),
    "store": Neutral("keeping the answer on the server", (False,)),
    "suffix": Neutral("text behind the answer", ("",)),
    "thinking_token_budget": Neutral("tokens for thoughts"),
    "truncate_prompt_tokens": Neutral("leaving out a prompt's beginning"),
    "use_beam_search": Neutral("several beams", (False,)),
    "verbosity": Neutral("length of the answer", ("medium",)),
    "vllm_xargs": Neutral("for extensions of the engine", ({},)),
    "web_search_options": Neutral("a search of the web"),
}


def without_neutral(
    given: Any, request: type[BaseModel], table: Mapping[str, Neutral] = NEUTRAL
) -> Any:
    """Return a request's fields without those that ask for nothing.

    Args:
        given: a JSON value; one that is no object is returned as it is, for its request to refuse.
        request: its fields stay whatever they are.
        table: of the others.

    Raises:
        PydanticCustomError: a known field asks for what this server cannot do.
    """
    if not isinstance(given, dict):
        return given
    implemented, kept = _implemented(request), {}
    for name, content in given.items():
        known = table.get(name)
        if name in implemented or known is None:
            kept[name] = content
        elif content is not None and known.values is not None and not _among(content, known.values):
            taken = ["null", *map(shown, known.values)]
            message = f"not supported by this server ({known.means}); taken: {', '.join(taken)}"
            raise refusal("unsupported_parameter", name, message)
    return kept


@cache
def _implemented(request: type[BaseModel]) -> frozenset[str]:
    """Return the fields of a request as clients name them."""
    return frozenset(field.alias or name for name, field in request.model_fields.items())


def _among(content: Any, values: tuple[Any, ...]) -> bool:
    """Whether a value is one of these; true is not 1."""
    return any(content == value and type(content) is type(value) for value in values)


def shown(value: Any) -> str:
    """Return a value as JSON has it."""
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
