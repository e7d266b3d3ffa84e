"""Calls of functions, and what they returned, as items of the Realtime API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...item_events import Item

Frame = dict[str, Any]


@dataclass(slots=True)
class Call:
    """A call of a function, an item of its own here."""

    item_id: str
    call_id: str
    name: str
    output_index: int
    arguments: str = ""
    status: str = "in_progress"

    def view(self) -> Frame:
        """Return the item as the API has it."""
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": self.status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
        }

    def output(self, response_id: str) -> Frame:
        """Return where it stands among what a response says."""
        return {"response_id": response_id, "output_index": self.output_index}

    def place(self, response_id: str) -> Frame:
        """Return the same, and which item it is."""
        return {**self.output(response_id), "item_id": self.item_id, "call_id": self.call_id}


def returned_view(item: Item) -> Frame:
    """Return an item of the client's about a function as the API has it."""
    about: Frame = {"id": item.id, "object": "realtime.item", "status": "completed"}
    if item.role == "tool":
        details = {"call_id": item.details.tool_call_id, "output": item.text}
        return {**about, "type": "function_call_output", **details}
    (call,) = item.details.tool_calls
    called = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
    return {**about, "type": "function_call", **called}
