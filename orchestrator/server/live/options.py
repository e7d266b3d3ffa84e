"""The options of a live session: from ``session.update`` to the engine, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from ..consensus_schema import in_force
from ..state import ServerState
from .answers import InputSettings, SessionSettings, sampling_in_force
from .schema import InputConfig, SessionConfig
from .session import LiveSession

if TYPE_CHECKING:
    from ...options import SessionOptions

_AS_GIVEN = frozenset(
    {"instructions", "interrupt", "segment", "on_cold", "cache_salt", "consistency"}
)
"""Fields that an option of the same name takes over as they are."""


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
        params = defaults.params if sampling is None else sampling.onto(options.params)
        options = replace(options, params=params)
    if "input" in given:
        options = _with_input(options, config.input or InputConfig(kind="auto"))
    return options


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
        consistency=options.consistency,
        input=InputSettings(options.input_kind or "auto", options.transcripts_equal),
        interrupt=options.interrupted_by,
        segment=options.segment,
        sampling=sampling_in_force(options.params),
    )
