"""The functions of one Realtime session: which there are, how they are called, what they returned.

Owns the results that the next turn will have; a session's own options hold the rest in the form of
chat completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from ....backends.base import Message, ToolChoice
from ...errors import InvalidRequest
from ...item_events import Item
from ..tools import Choice, FlatTool, NamedTool, Tool, chosen
from .frames import Wish

_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")


@dataclass(frozen=True, slots=True)
class Functions:
    """Functions, and what was returned since the last turn.

    Attributes:
        results: items that stand behind all others, oldest first.
    """

    tools: tuple[FlatTool, ...] = ()
    choice: Choice | None = None
    parallel: bool | None = None
    results: list[Item] = field(default_factory=list)

    def told_by(self, wish: Wish, where: str) -> Functions:
        """Return these with what a session or a response says of them; itself where it is silent.

        ``where``: the field of the frame that says it.

        Raises:
            InvalidRequest: the choice does not fit the functions.
        """
        given = wish.model_fields_set
        if given.isdisjoint(_FIELDS):
            return self
        told = self
        if "tools" in given:
            told = replace(told, tools=tuple(wish.tools or ()))
        if "tool_choice" in given:
            told = replace(told, choice=wish.tool_choice)
        if "parallel_tool_calls" in given:
            told = replace(told, parallel=wish.parallel_tool_calls)
        told.chosen(where)
        return told

    def chosen(
        self, where: str = "session"
    ) -> tuple[tuple[Tool, ...], ToolChoice | None, str | None]:
        """Return them as ``tools.chosen`` does.

        Raises:
            InvalidRequest: the choice does not fit the functions.
        """
        try:
            tools = [Tool.model_validate(tool.nested()) for tool in self.tools]
            return chosen(tools, self.choice)
        except (PydanticCustomError, ValidationError) as error:
            param = f"{where}.tool_choice"
            message = f"{param}: names no function of tools, or there are no tools"
            raise InvalidRequest(message, param=param) from error

    def shown(self) -> list[dict[str, Any]]:
        """Return the functions as a session shows them."""
        return [tool.model_dump(exclude_none=True) for tool in self.tools]

    def shown_choice(self) -> object:
        """Return how they are called, likewise."""
        if isinstance(self.choice, NamedTool):
            return {"type": "function", "name": self.choice.function.name}
        if self.choice is None or isinstance(self.choice, str):
            return self.choice or "auto"
        return self.choice.model_dump()

    @property
    def last_result_id(self) -> str | None:
        """The id of the newest result; None without one."""
        return self.results[-1].id if self.results else None

    def take_results(self) -> list[Item]:
        """Return the results, and have none any more."""
        taken = list(self.results)
        self.results.clear()
        return taken

    def follow(self) -> tuple[Message, ...]:
        """Return the results as messages."""
        return tuple(item.message for item in self.results)


def check_called(item: Item, standing: Sequence[Item]) -> None:
    """Refuse the result of a call that nobody made.

    Raises:
        InvalidRequest: it is one.
    """
    made = {call.id for one in standing for call in one.details.tool_calls}
    if item.details.tool_call_id not in made:
        message = "item.call_id: no answer made this call"
        raise InvalidRequest(message, param="item.call_id", code="unknown_call")
