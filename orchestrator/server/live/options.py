"""The options of a live session: from ``session.update`` to the engine, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import json
from msgspec.structs import replace

from ....backends.base import GenerationParams, ToolChoice
from ..consensus_schema import in_force
from ..state import ServerState
from ..tools import Tool, chosen
from .answers import InputSettings, SessionSettings, sampling_in_force
from .schema import InputConfig, SessionConfig
from .session import LiveSession

if TYPE_CHECKING:
    from ...options import SessionOptions

_AS_GIVEN = frozenset(
    {"instructions", "interrupt", "segment", "on_cold", "cache_salt", "consistency"}
)
"""Fields that an option of the same name takes over as they are."""
_OF_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
_CALLING = ("tool_choice", "tool_name", "parallel_tool_calls")
"""Parameters that say how tools are called."""


def reconfigured(state: ServerState, live: LiveSession, config: SessionConfig) -> SessionOptions:
    """Return the session's options with the fields that ``config`` gives; null = the default.

    Raises:
        NotFound: no such model.
        LiveMindError: retrieval or consensus is wanted that is not possible here.
    """
    options, defaults = live.session.options, live.defaults
    given = config.model_fields_set
    model, retrieval = options.pinned, options.retrieval
    if given & {"model", "expert"}:
        model = config.model if config.model is not None else config.expert
    if "retrieval" in given:
        retrieval = defaults.retrieval if config.retrieval is None else config.retrieval
    consensus = options.consensus
    if "consensus" in given:
        base = defaults.consensus
        consensus = base if config.consensus is None else config.consensus.onto(base)
    options = state.mind.options(options, model=model, retrieval=retrieval, consensus=consensus)
    options = replace(options, **{name: getattr(config, name) for name in _AS_GIVEN & given})
    if config.opening is not None:
        options = replace(options, instructions=config.opening)
    if "speculation" in given:
        options = replace(options, speculation=config.speculation or defaults.speculation)
    if "documents" in given:
        options = replace(options, documents=tuple(config.documents or ()))
    if "sampling" in given:
        sampling = config.sampling
        params = _with_tools_of(defaults.params, options.params)
        params = params if sampling is None else sampling.onto(options.params)
        options = replace(options, params=params)
    if given & _OF_TOOLS:
        found = chosen(config.tools or (), config.tool_choice)
        options = with_tools(options, *found, config.parallel_tool_calls)
    if "input" in given:
        options = _with_input(options, config.input or InputConfig(kind="auto"))
    return options


def with_tools(
    options: SessionOptions,
    tools: Sequence[Tool],
    choice: ToolChoice | None,
    name: str | None,
    parallel: bool | None,
) -> SessionOptions:
    """Return the options with these tools in the place of all others; how they are called too."""
    template = json.decode(options.template) if options.template else {}
    template.pop("tools", None)
    if tools:
        template["tools"] = [tool.told() for tool in tools]
    params = replace(
        options.params,
        tool_choice=choice,
        tool_name=name,
        parallel_tool_calls=parallel if tools else None,
    )
    encoded = json.encode(template).decode() if template else None
    return replace(options, template=encoded, params=params)


def _with_tools_of(params: GenerationParams, others: GenerationParams) -> GenerationParams:
    return replace(params, **{name: getattr(others, name) for name in _CALLING})


def _tool_names(options: SessionOptions) -> tuple[str, ...]:
    tools = json.decode(options.template).get("tools", ()) if options.template else ()
    return tuple(tool["function"]["name"] for tool in tools)


def _with_input(options: SessionOptions, given: InputConfig) -> SessionOptions:
    if given.kind is not None:
        options = replace(options, input_kind=None if given.kind == "auto" else given.kind)
    if given.transcripts_equal is not None:
        options = replace(options, transcripts_equal=given.transcripts_equal)
    return options


def settings_of(live: LiveSession) -> SessionSettings:
    """Return what a session is set to, as it is shown to its client."""
    options = live.session.options
    return SessionSettings(
        id=live.id,
        turn_id=live.session.turn_id,
        turn=live.session.turns,
        model=options.pinned or "auto",
        instructions=options.instructions,
        consensus=in_force(options.consensus),
        speculation=options.speculation,
        on_cold=options.on_cold,
        retrieval=options.retrieval,
        documents=len(options.documents),
        tools=_tool_names(options),
        consistency=options.consistency,
        input=InputSettings(options.input_kind or "auto", options.transcripts_equal),
        interrupt=options.interrupted_by,
        segment=options.segment,
        sampling=sampling_in_force(options.params),
    )
