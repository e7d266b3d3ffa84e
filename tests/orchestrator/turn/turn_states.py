"""States of a turn and their parts, from which the tests of the planner begin."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from livemind.orchestrator.errors import ErrorInfo
from livemind.orchestrator.routing.estimate import RouteEstimate
from livemind.orchestrator.turn.prompt import Context, build
from livemind.orchestrator.turn.values import (
    Action,
    DraftState,
    Policy,
    RouteState,
    TurnState,
)
from livemind.rag.base import Passage, RetrievalResult

POLICY = Policy(fast="fast")
FAILURE = ErrorInfo(504, "too late", "timeout", None, "timeout")
EMPTY = RetrievalResult(1, ())


def turn(text: str = "", typed_s: float = 0.0, **given: Any) -> TurnState:
    """Return a turn whose first input was at 0 and whose last was at ``typed_s``."""
    policy = replace(POLICY, **given.pop("policy", {}))
    state = TurnState(policy, given.pop("context", Context()), "r1", **given)
    if not text:
        return state
    return replace(state, text=text, revision=1, first_input_s=0.0, last_input_s=typed_s)


def routed(state: TurnState, expert: str = "strong", stable: bool = True) -> TurnState:
    estimate = RouteEstimate(expert, expert, 0.9)
    return replace(state, route=RouteState(estimate, state.text.strip(), 2, stable))


def drafted(state: TurnState, expert: str = "strong") -> TurnState:
    messages = build(state.context, state.text)
    return replace(state, draft=DraftState("r1.d1", expert, 1, messages), drafts_made=1)


def of(actions: list[Action], kind: type[Any]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def kinds(actions: list[Action]) -> set[type]:
    return {type(action) for action in actions}


def passage(name: str) -> Passage:
    return Passage(name, f"{name}.md", f"text of {name}", 1.0)
