"""The bodies of requests to OpenAI's API. Unknown fields are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import takewhile
from typing import Annotated, Any, Literal, Self

from msgspec import json
from msgspec.structs import replace
from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ....backends.base import GenerationParams, Image, Message, StructuredOutput, ToolChoice
from ...turn.values import Mode, OnCold
from ..consensus_schema import ConsensusField
from ..content import refusal, texts_of
from ..messages import MAX_MESSAGES, ChatMessage, is_instruction
from ..schema import INT32_MAX, MAX_DOCUMENTS, CacheSalt, Sampling, check_length, check_total
from ..strict import Strict
from ..tools import MAX_TOOLS, Choice, Tool, chosen
from .neutral import without_neutral
from .structured import ResponseFormat, StructuredOutputs, structured

MAX_TOP_LOGPROBS = 20
MAX_ANSWERS = 128
MAX_PROMPTS = 2048
TokenId = Annotated[int, Field(ge=0, le=INT32_MAX)]
Label = Annotated[str, Field(max_length=512)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class StreamOptions(Strict):
    """``stream_options`` of the OpenAI API and vLLM."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None

    @property
    def asks(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.include_usage or self.continuous_usage_stats or self.include_obfuscation)


class Prediction(Strict):
    """``prediction`` of the OpenAI API: how the answer probably reads; text parts are joined."""

    type: Literal["content"]
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return "".join(texts_of(value))


class GenerationRequest(Sampling):
    """What ``/v1/chat/completions`` and ``/v1/completions`` have in common."""

    model: str | None = Field(None, min_length=1, max_length=256)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=MAX_ANSWERS)
    user: Label | None = None
    prompt_cache_key: Label | None = None
    session: Label | None = None
    min_tokens: int | None = Field(None, ge=0, le=INT32_MAX)
    stop_token_ids: list[TokenId] | None = Field(None, max_length=128)
    skip_special_tokens: bool | None = None
    max_tokens_policy: Literal["refuse", "clamp"] | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="before")
    @classmethod
    def _pass_over_neutral(cls, value: Any) -> Any:
        return without_neutral(value, cls)

    @model_validator(mode="after")
    def _check_request(self) -> Self:
        if self.stream_options is not None and self.stream_options.asks and not self.stream:
            raise refusal("unsupported_parameter", "stream_options", "only together with stream")
        limit, least = self.limit, self.min_tokens
        if limit is not None and least is not None and least > limit:
            message = f"got {least}, more than {self.limit_name}, {limit}"
            raise refusal("invalid_value", "min_tokens", message)
        assert self.structured is self.structured
        return self

    @property
    def limit(self) -> int | None:
        """Tokens of an answer at most."""
        return self.max_tokens

    @property
    def limit_name(self) -> str:
        """What the client called that."""
        return "max_tokens"

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options is not None and self.stream_options.include_usage)

    @property
    def counts_on(self) -> bool:
        """Whether every chunk of a stream tells the usage so far."""
        options = self.stream_options
        return bool(options is not None and options.continuous_usage_stats)

    @property
    def obfuscates(self) -> bool:
        """Whether chunks of a stream are padded, so that their sizes do not tell their texts."""
        return bool(self.stream_options is not None and self.stream_options.include_obfuscation)

    @property
    def keys(self) -> dict[str, str | None]:
        """What the caller says of the conversation; see ``affinity.told_key``."""
        return {
            "session": self.session,
            "prompt_cache_key": self.prompt_cache_key,
            "user": self.user,
        }

    @cached_property
    def structured(self) -> StructuredOutput | None:
        """What the answer has to look like."""
        return structured(self.response_format, self.structured_outputs)

    def clamps(self, configured: str) -> bool:
        """Whether a limit that does not fit is an upper bound: always where nobody was named."""
        return self.model in (None, "auto") or (self.max_tokens_policy or configured) == "clamp"

    def _given(self) -> dict[str, Any]:
        given = super()._given()
        if self.limit is not None:
            given |= {"max_tokens": self.limit, "max_tokens_name": self.limit_name}
        if self.min_tokens:
            given["min_tokens"] = self.min_tokens
        if self.stop_token_ids:
            given["stop_token_ids"] = tuple(self.stop_token_ids)
        if self.skip_special_tokens is not None:
            given["skip_special_tokens"] = self.skip_special_tokens
        if self.structured is not None:
            given["structured"] = self.structured
        return given


class ChatRequest(GenerationRequest):
    """``POST /v1/chat/completions``; with ``livemind`` the answer says how it came to be."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1, le=INT32_MAX)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    prediction: Prediction | None = None
    documents: list[str] | None = Field(None, max_length=MAX_DOCUMENTS)
    retrieval: bool | None = None
    speculation: Mode | None = None
    cache_salt: CacheSalt | None = None
    consensus: ConsensusField = None
    on_cold: OnCold | None = None
    livemind: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Effort | None = None
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    _limit_name: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        last = len(self.messages) - 1
        if not any(message.says for message in self.messages):
            message = "the conversation says nothing: every text is empty"
            raise refusal("invalid_value", f"messages[{last}].content", message)
        if self.continue_final_message:
            if self.add_generation_prompt:
                raise refusal(
                    "invalid_value",
                    "add_generation_prompt",
                    "must be false where continue_final_message is true",
                )
            if not self.messages[last].content:
                message = "there is no text to be continued (continue_final_message)"
                raise refusal("invalid_value", f"messages[{last}].content", message)
        if self.top_logprobs and not self.logprobs:
            raise refusal("unsupported_parameter", "top_logprobs", "only together with logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and (
            self.max_tokens != self.max_completion_tokens
        ):
            raise refusal(
                "invalid_value",
                "max_tokens",
                f"got {self.max_tokens}, but max_completion_tokens is "
                f"{self.max_completion_tokens}; give one of them",
            )
        check_total(info, "messages", sum(message.length for message in self.messages))
        check_length(info, "documents", self.documents or [])
        if self.prediction is not None:
            check_length(info, "prediction", [self.prediction.content])
        for name in ("tools", "chat_template_kwargs"):
            given = getattr(self, name)
            if given:
                dumped = [tool.told() for tool in given] if name == "tools" else given
                check_total(info, name, len(json.encode(dumped)))
        assert self._chosen is self._chosen
        return self

    @property
    def limit(self) -> int | None:
        """Tokens of an answer at most."""
        fresh = self.max_completion_tokens
        return self.max_tokens if fresh is None else fresh

    @property
    def limit_name(self) -> str:
        """What the client called that."""
        given = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return self._limit_name or given

    def calls_limit(self, name: str) -> None:
        """Let errors call the limit by the name that another door has for it."""
        self._limit_name = name

    @cached_property
    def _chosen(self) -> tuple[tuple[Tool, ...], ToolChoice | None, str | None]:
        return chosen(self.tools or (), self.tool_choice)

    def params(self, base: GenerationParams) -> GenerationParams:
        """Return ``base`` with what this request gives."""
        given = self._given()
        tools, choice, name = self._chosen
        if tools:
            given |= {"tool_choice": choice, "tool_name": name}
            given["parallel_tool_calls"] = self.parallel_tool_calls
        if self.logprobs:
            given["logprobs"] = self.top_logprobs or 0
        if self.prediction is not None:
            given["prediction"] = self.prediction.content
        return replace(base, **given)

    @cached_property
    def _places(self) -> tuple[int, int]:
        """Where the instructions end, and where the user last said something; -1 = nowhere.

        Instructions alone end before the last of them, which is what is to be answered.
        """
        messages = self.messages
        opening = sum(1 for _ in takewhile(is_instruction, messages))
        said = [n for n, message in enumerate(messages) if message.role == "user" and message.says]
        return min(opening, len(messages) - 1), said[-1] if said else -1

    @property
    def instructions(self) -> str | None:
        """The system messages that open the conversation, None without any."""
        opening = self.messages[: self._places[0]]
        return "\n\n".join([message.content for message in opening]) if opening else None

    def history(self, loaded: Mapping[str, Image]) -> tuple[Message, ...]:
        """Return what was said before the user's last text, with its images."""
        opening, last = self._places
        return tuple(message.said(loaded) for message in self.messages[opening : max(last, 0)])

    def follow(self, loaded: Mapping[str, Image]) -> tuple[Message, ...]:
        """Return what stands behind the user's last text: calls, their results, instructions."""
        opening, last = self._places
        return tuple(m.said(loaded) for m in self.messages[max(opening, last + 1) :])

    def images(self, loaded: Mapping[str, Image]) -> tuple[Image, ...]:
        """Return the images that stand before the user's last text."""
        last = self._places[1]
        return () if last < 0 else self.messages[last].images(loaded)

    @property
    def text(self) -> str:
        """What the user commits: the last text of the user; empty where the user said nothing."""
        last = self._places[1]
        return "" if last < 0 else self.messages[last].content

    @property
    def first_text(self) -> str:
        """What the conversation began with: the first message behind the instructions."""
        return self.messages[self._places[0]].content

    @property
    def template(self) -> str | None:
        """What the chat template is given beside the messages, as JSON; None for nothing."""
        given: dict[str, object] = {}
        if self._chosen[0]:
            given["tools"] = [tool.told() for tool in self._chosen[0]]
        if self.reasoning_effort is not None:
            given["reasoning_effort"] = self.reasoning_effort
        if self.chat_template_kwargs:
            given["chat_template_kwargs"] = self.chat_template_kwargs
        if self.continue_final_message:
            given |= {"continue_final_message": True, "add_generation_prompt": False}
        elif self.add_generation_prompt is not None:
            given["add_generation_prompt"] = self.add_generation_prompt
        elif self.messages[-1].role == "assistant":
            given["add_generation_prompt"] = True  # another answer, not the rest of this one
        return json.encode(given).decode() if given else None

    @property
    def has_images(self) -> bool:
        """Whether any message holds an image."""
        return any(message.image_urls() for message in self.messages)

    @property
    def image_urls(self) -> tuple[tuple[str, str], ...]:
        """(request field, URL) of every image, in order."""
        return tuple(
            (f"messages[{number}].content[{place}].image_url.url", url)
            for number, message in enumerate(self.messages)
            for place, url in message.image_urls()
        )


Prompt = str | tuple[int, ...]


def prompts_of(value: Any) -> tuple[Prompt, ...]:
    """Return the prompts of a request: a text, tokens, or a list of either.

    Raises:
        PydanticCustomError: it is nothing of these, or one is empty.
    """
    several = isinstance(value, list) and not all(map(_is_int, value))
    prompts = tuple(map(_prompt, value if several else [value]))
    if len(prompts) > MAX_PROMPTS:
        message = f"got {len(prompts)} prompts, the limit is {MAX_PROMPTS}"
        raise refusal("invalid_value", "", message)
    return prompts


def _prompt(value: Any) -> Prompt:
    if not isinstance(value, str) and not (isinstance(value, list) and all(map(_is_int, value))):
        message = "need a text, a list of token ids, or a list of either"
        raise refusal("invalid_type", "", message)
    if not value:
        raise refusal("invalid_value", "", "the prompt is empty")
    if isinstance(value, str):
        return value
    if wrong := [token for token in value if not _is_token(token)]:
        message = f"got the token {wrong[0]}, need one of 0 to {INT32_MAX}"
        raise refusal("invalid_value", "", message)
    return tuple(value)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_token(value: Any) -> bool:
    return _is_int(value) and 0 <= value <= INT32_MAX


class CompletionRequest(GenerationRequest):
    """``POST /v1/completions``: a prompt, or several; texts or token ids."""

    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(prompts_of)] = Field(alias="prompt")
    max_tokens: int | None = Field(None, ge=0, le=INT32_MAX)
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    echo: bool | None = None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_total(info, "prompt", sum(map(len, self.prompts)))
        if self.max_tokens == 0 and not self.echo:
            message = "0 tokens are an answer only together with echo"
            raise refusal("invalid_value", "max_tokens", message)
        return self

    def params(self) -> GenerationParams:
        """Return the sampling parameters; OpenAI's default of 16 tokens holds."""
        given = {**self._given(), "echo": bool(self.echo)}
        if self.logprobs is not None:
            given["logprobs"] = self.logprobs
        return replace(GenerationParams(max_tokens=16), **given)
