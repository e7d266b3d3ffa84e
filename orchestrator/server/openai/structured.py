"""What an answer has to look like, as requests say it: OpenAI's and vLLM's way."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from msgspec import json
from pydantic import Field, model_validator

from ....backends.base import StructuredOutput
from ..content import refusal
from ..strict import Strict

MAX_CHOICES = 1024
Schema = dict[str, Any] | str


class JsonSchema(Strict):
    """``json_schema`` of a response format; the answer follows it, strict or not."""

    name: str | None = Field(None, max_length=256)
    description: str | None = None
    schema_: dict[str, Any] | bool = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """``response_format``: any text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            message = "needs json_schema" if self.json_schema is None else "has no json_schema"
            raise refusal("invalid_value", "json_schema", f"type {self.type} {message}")
        return self


class StructuredOutputs(Strict):
    """``structured_outputs`` of vLLM: one way to say it."""

    json_: Schema | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: str | None = Field(None, min_length=1)
    choice: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, min_length=1, max_length=MAX_CHOICES
    )
    grammar: str | None = Field(None, min_length=1)
    structural_tag: Schema | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [
            name
            for name in ("json_", "json_object", "regex", "choice", "grammar", "structural_tag")
            if getattr(self, name) not in (None, False)
        ]
        if len(given) != 1:
            message = (
                "need exactly one of json, json_object, regex, choice, grammar, structural_tag"
            )
            raise refusal("invalid_value", "", f"{message}; got {len(given)}")
        return self


def structured(
    response_format: ResponseFormat | None,
    outputs: StructuredOutputs | None,
) -> StructuredOutput | None:
    """Return what the answer has to look like; None = anything.

    Raises:
        PydanticCustomError: both say something.
    """
    said = None
    if response_format is not None and response_format.type == "json_object":
        said = StructuredOutput(json_object=True)
    elif response_format is not None and response_format.json_schema is not None:
        said = StructuredOutput(json=_text(response_format.json_schema.schema_))
    if outputs is None:
        return said
    if said is not None:
        message = "response_format says already what the answer has to look like"
        raise refusal("invalid_value", "structured_outputs", message)
    return StructuredOutput(
        json=None if outputs.json_ is None else _text(outputs.json_),
        json_object=bool(outputs.json_object),
        regex=outputs.regex,
        choice=tuple(outputs.choice or ()),
        grammar=outputs.grammar,
        structural_tag=None if outputs.structural_tag is None else _text(outputs.structural_tag),
    )


def _text(schema: dict[str, Any] | bool | str) -> str:
    return schema if isinstance(schema, str) else json.encode(schema).decode()
