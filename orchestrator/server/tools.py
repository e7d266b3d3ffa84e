"""Functions that an answer may call, as requests name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from ...backends.base import ToolChoice
from .content import refusal
from .strict import Strict

MAX_TOOLS = 256
TOLD = frozenset({"cache_control", "defer_loading", "allowed_callers", "input_examples"})
"""Fields of a tool that are for other servers' caches and catalogues."""
FunctionName = Annotated[str, Field(min_length=1, max_length=256)]


class Function(Strict):
    """A function: ``parameters`` is the JSON schema of its arguments, none = it takes none."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Declared(Strict):
    """A declaration in which some fields say nothing to this server and are taken."""

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(value, dict):
            value = {name: content for name, content in value.items() if name not in TOLD}
        return handler(value)


class Tool(_Declared):
    """A tool; functions are the only kind that can be called here."""

    type: Literal["function"]
    function: Function

    def told(self) -> dict[str, Any]:
        """Return the tool as chat templates are given it."""
        function = self.function.model_dump()
        if self.function.strict is None:
            del function["strict"]
        return {"type": self.type, "function": function}


class FlatTool(_Declared):
    """A function that may be called, as the Responses and the Realtime API have it."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def nested(self) -> dict[str, Any]:
        """Return it as chat completions have it."""
        return {
            "type": "function",
            "function": self.model_dump(exclude={"type"}, exclude_none=True),
        }


def nested_choice(choice: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Return a flat ``tool_choice`` as chat completions have it; what is no choice as it is."""
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("type") == "allowed_tools":
        tools = [nested_choice(tool) for tool in choice.get("tools") or ()]
        allowed = {"mode": choice.get("mode", "auto"), "tools": tools}
        return {"type": "allowed_tools", "allowed_tools": allowed}
    return choice


class NamedFunction(Strict):
    """A function by its name."""

    name: FunctionName


class NamedTool(Strict):
    """The tool that has to be called."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Strict):
    """Some of the tools, of which one may or has to be called."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=MAX_TOOLS)


class AllowedChoice(Strict):
    """``tool_choice`` that leaves some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


Choice = Literal["auto", "none", "required"] | NamedTool | AllowedChoice


def chosen(
    tools: Sequence[Tool], choice: Choice | None
) -> tuple[tuple[Tool, ...], ToolChoice | None, str | None]:
    """Return the tools that may be called, how, and which one has to be.

    Raises:
        PydanticCustomError: the choice names a tool that is not there, or needs one.
    """
    known = {tool.function.name for tool in tools}
    if isinstance(choice, NamedTool):
        _check_known(choice.function.name, known, "tool_choice.function.name")
        return tuple(tools), "named", choice.function.name
    if isinstance(choice, AllowedChoice):
        allowed = [tool.function.name for tool in choice.allowed_tools.tools]
        for number, name in enumerate(allowed):
            place = f"tool_choice.allowed_tools.tools[{number}].function.name"
            _check_known(name, known, place)
        left = tuple(tool for tool in tools if tool.function.name in allowed)
        return left, choice.allowed_tools.mode, None
    if choice == "required" and not tools:
        raise refusal("invalid_value", "tool_choice", "required, but there are no tools")
    return tuple(tools), choice if tools else None, None


def _check_known(name: str, known: set[str], place: str) -> None:
    if name not in known:
        raise refusal("invalid_value", place, "names no function of tools")
