"""What the requests of all doors have in common: sampling, limits.

Owns types and limits; what the fields do is decided by the doors.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec.structs import replace
from pydantic import BeforeValidator, Field, ValidationInfo

from ...backends.base import GenerationParams
from .content import refusal
from .strict import Strict

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
MAX_DOCUMENTS = 64
CacheSalt = Annotated[str, Field(min_length=1, max_length=256)]


StopText = Annotated[str, Field(min_length=1, max_length=256)]
StopTexts = Annotated[list[StopText], Field(max_length=64)]
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


def check_length(info: ValidationInfo, param: str, texts: list[str]) -> None:
    """Refuse texts that together exceed ``server.max_text_chars``."""
    check_total(info, param, sum(map(len, texts)))


def check_total(info: ValidationInfo, param: str, total: int) -> None:
    """Refuse so many characters where they exceed ``server.max_text_chars``."""
    limit = (info.context or {}).get("max_text_chars")
    if limit is not None and total > limit:
        message = f"got {total} characters, the limit is {limit} (server.max_text_chars)"
        raise refusal("text_too_long", param, message)
