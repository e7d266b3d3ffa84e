"""The bodies of requests to OpenAI's API. Unknown fields are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import takewhile
from typing import Any, Literal, Self

from msgspec import json
from msgspec.structs import replace
from pydantic import Field, ValidationInfo, field_validator, model_validator

from ....backends.base import GenerationParams, Image, Message
from ...turn.values import Mode, OnCold
from ..consensus_schema import ConsensusField
from ..content import refusal, texts_of
from ..messages import MAX_MESSAGES, ChatMessage, is_instruction
from ..schema import INT32_MAX, MAX_DOCUMENTS, CacheSalt, Sampling, check_length, check_total
from ..strict import Strict

MAX_TOP_LOGPROBS = 20
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


class StreamOptions(Strict):
    """``stream_options`` of the OpenAI API."""

    include_usage: bool | None = None


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
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

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
        check_total(info, "messages", sum(message.length for message in self.messages))
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

    @cached_property
    def _places(self) -> tuple[int, int]:
        """Where the instructions end, and where the user last said something; -1 = nowhere.

        Instructions alone end before the last of them, which is what is to be answered.
        """
        messages = self.messages
        opening = sum(1 for _ in takewhile(is_instruction, messages))
        spoken = [n for n, message in enumerate(messages) if message.role == "user"]
        said = [n for n in spoken if messages[n].says]
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
    def template(self) -> str | None:
        """What the chat template is given beside the messages, as JSON; None for nothing."""
        given: dict[str, object] = {}
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
