"""The requests of the HTTP and live doors, field by field. Unknown fields are refused by name.

Owns types and limits; what the fields do is decided by the doors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import dropwhile, takewhile
from typing import Annotated, Any, Literal, Self

from msgspec.structs import replace
from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ...backends.base import GenerationParams, Image, Message
from ..turn.values import Mode, OnCold
from .consensus_schema import ConsensusField
from .content import refusal, split, texts_of
from .strict import Strict

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
MAX_TOP_LOGPROBS = 20
MAX_DOCUMENTS = 64
MAX_MESSAGES = 2048
KNOWN_UNSUPPORTED = frozenset(
    {
        "audio",
        "best_of",
        "echo",
        "function_call",
        "functions",
        "guided_json",
        "max_tool_calls",
        "metadata",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "store",
        "suffix",
        "tool_choice",
        "tools",
        "verbosity",
        "web_search_options",
    }
)


CacheSalt = Annotated[str, Field(min_length=1, max_length=256)]


StopText = Annotated[str, Field(min_length=1, max_length=256)]
StopTexts = Annotated[list[StopText], Field(max_length=4)]
LogitBias = Annotated[
    dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=300, json_schema_extra={"additionalProperties": False}),
]


def _stop_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Sampling(Strict):
    """Sampling fields shared by all doors, in the names of the OpenAI API and vLLM."""

    max_tokens: int | None = Field(None, ge=1, le=INT32_MAX)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=INT32_MAX)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    seed: int | None = Field(None, ge=-INT64_MAX - 1, le=INT64_MAX)
    stop: (
        Annotated[
            StopTexts,
            BeforeValidator(_stop_list, json_schema_input_type=StopText | StopTexts),
        ]
        | None
    ) = None
    logit_bias: LogitBias | None = None
    ignore_eos: bool | None = None

    def onto(self, params: GenerationParams) -> GenerationParams:
        """Return ``params`` with the fields this request gives."""
        return replace(params, **self._given())

    def _given(self) -> dict[str, Any]:
        """Return the sampling parameters of this request by name."""
        given = {
            name: value
            for name in SAMPLING_FIELDS & self.model_fields_set
            if (value := getattr(self, name)) is not None
        }
        if "stop" in given:
            given["stop"] = tuple(given["stop"])
        if "logit_bias" in given:
            given["logit_bias"] = tuple((int(k), v) for k, v in given["logit_bias"].items())
        return given


SAMPLING_FIELDS = frozenset(Sampling.model_fields)


class StreamOptions(Strict):
    """``stream_options`` of the OpenAI API."""

    include_usage: bool | None = None


class ChatMessage(Strict):
    """One message; text parts are joined with newlines, images come before the text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    _urls: tuple[tuple[int, str], ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _split_parts(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        parts = value.get("content") if isinstance(value, dict) else None
        if not isinstance(parts, list):
            return handler(value)
        text, urls = split(parts)
        message = handler({**value, "content": text})
        if urls and message.role != "user":
            place = f"content[{urls[0][0]}]"
            raise refusal("unsupported_content", place, "only a user message may hold images")
        message._urls = urls
        return message

    def image_urls(self) -> tuple[tuple[int, str], ...]:
        """Return (place among the parts, URL) of each image."""
        return self._urls

    def images(self, loaded: Mapping[str, Image]) -> tuple[Image, ...]:
        """Return its images, given those of all URLs."""
        return tuple(loaded[url] for _, url in self._urls)


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
    n: Literal[1] | None = None
    user: str | None = Field(None, max_length=512)

    @model_validator(mode="before")
    @classmethod
    def _refuse_known(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, content in value.items():
            if name not in KNOWN_UNSUPPORTED or name in cls.model_fields:
                kept[name] = content
            elif content is not None:
                raise refusal("unsupported_parameter", name, "not supported by this server")
        return kept

    @model_validator(mode="after")
    def _check_stream_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise refusal("unsupported_parameter", "stream_options", "only together with stream")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options is not None and self.stream_options.include_usage)


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

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        last = len(self.messages) - 1
        if self.messages[last].role != "user":
            raise refusal(
                "invalid_value", f"messages[{last}].role", "the last message must be the user's"
            )
        if not self.messages[last].content.strip():
            raise refusal("invalid_value", f"messages[{last}].content", "the last message is empty")
        if self.top_logprobs is not None and not self.logprobs:
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
        check_length(info, "messages", [message.content for message in self.messages])
        check_length(info, "documents", self.documents or [])
        if self.prediction is not None:
            check_length(info, "prediction", [self.prediction.content])
        return self

    def params(self, base: GenerationParams) -> GenerationParams:
        """Return ``base`` with what this request gives."""
        given = self._given()
        if self.max_completion_tokens is not None:
            given["max_tokens"] = self.max_completion_tokens
        if self.logprobs:
            given["logprobs"] = self.top_logprobs or 0
        if self.prediction is not None:
            given["prediction"] = self.prediction.content
        return replace(base, **given)

    @property
    def instructions(self) -> str | None:
        """The system messages that open the conversation, None without any."""
        return opening_instructions(self.messages)

    def history(self, loaded: Mapping[str, Image]) -> tuple[Message, ...]:
        """Return the messages between the instructions and the last one, with their images."""
        return spoken(self.messages[:-1], loaded)

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

    @property
    def text(self) -> str:
        """What the user commits: the last message."""
        return self.messages[-1].content


class CompletionRequest(GenerationRequest):
    """``POST /v1/completions``: one prompt string."""

    prompt: str = Field(min_length=1)
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        check_length(info, "prompt", [self.prompt])
        return self

    def params(self) -> GenerationParams:
        """Return the sampling parameters; OpenAI's default of 16 tokens holds."""
        params = self.onto(GenerationParams(max_tokens=16))
        return params if self.logprobs is None else replace(params, logprobs=self.logprobs)


def opening_instructions(messages: Sequence[ChatMessage]) -> str | None:
    """Return the system messages that open a conversation as one, None without any."""
    opening = list(takewhile(_is_instruction, messages))
    return "\n\n".join([message.content for message in opening]) if opening else None


def spoken(messages: Sequence[ChatMessage], loaded: Mapping[str, Image]) -> tuple[Message, ...]:
    """Return what stands behind the system messages that open a conversation."""
    return tuple(
        Message(
            "system" if message.role == "developer" else message.role,
            message.content,
            message.images(loaded),
        )
        for message in dropwhile(_is_instruction, messages)
    )


def _is_instruction(message: ChatMessage) -> bool:
    return message.role in ("system", "developer")


def check_length(info: ValidationInfo, param: str, texts: list[str]) -> None:
    """Refuse texts that together exceed ``server.max_text_chars``."""
    limit = (info.context or {}).get("max_text_chars")
    total = sum(map(len, texts))
    if limit is not None and total > limit:
        message = f"got {total} characters, the limit is {limit} (server.max_text_chars)"
        raise refusal("text_too_long", param, message)
