"""What a change of a session's options or conversation leaves prepared. Pure, as the planner."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict, replace

from ...backends.base import GenerationParams
from ...backends.sampling import HINTS
from .passages.documents import DocumentState
from .prompt import Context
from .values import Action, DropDraft, Policy, Step, StopSpeculation, TurnState


class Change(Struct, frozen=True):
    """A session as it is from now on.

    Attributes:
        policy, context: that hold now.
        fields: what the client changed, by name; told where a draft is lost for it.
        spoils: those of them that no draft survives, whatever its prompt is.
        forgets_documents: what was retrieved does not count any more.
        moves_cache: what was computed is not in the cache that counts now.
    """

    policy: Policy
    context: Context
    fields: tuple[str, ...] = ()
    spoils: tuple[str, ...] = ()
    forgets_documents: bool = False
    moves_cache: bool = False


def differing(a: GenerationParams, b: GenerationParams) -> tuple[str, ...]:
    """Return the names of the parameters that differ, in their order; hints are none."""
    others = asdict(b)
    return tuple(
        name for name, value in asdict(a).items() if name not in HINTS and value != others[name]
    )


def change(policy: Policy, context: Context, fields: tuple[str, ...]) -> Change:
    """Return what it means that a client changed these fields."""
    return Change(
        policy,
        context,
        fields,
        tuple(name for name in fields if name in ("cache_salt", "consensus")),
        "retrieval" in fields,
        "cache_salt" in fields,
    )


def on_changed(state: TurnState, change: Change) -> Step:
    """Go on with what the change leaves valid.

    A draft survives where its expert may still be the one, its sampling is the same and so is what
    its prompt was made from. Prefill stops where its prompt changed; what both have in common
    stays in the cache.
    """
    if state.phase != "typing":
        return state, []
    before = state
    known = state.docs
    docs = DocumentState(outlook=known.outlook) if change.forgets_documents else known
    state = replace(state, policy=change.policy, context=change.context, docs=docs)
    actions: list[Action] = []
    prompt_is_new = before.context != state.context or change.forgets_documents
    if prompt_is_new or change.moves_cache or change.policy.mode == "off":
        actions.append(StopSpeculation())
        state = replace(state, routing=None, docs=replace(state.docs, asked_text=None))
    lost = _lost(before, state, change)
    if lost is not None and state.draft is not None:
        actions.append(DropDraft(state.draft, lost))
        state = replace(state, draft=None, draft_started=False)
    return state, actions


def _lost(before: TurnState, state: TurnState, change: Change) -> str | None:
    """Return why the draft is lost, None if it is not."""
    draft, policy = state.draft, state.policy
    if draft is None:
        return None
    if change.spoils:
        return f"changed: {', '.join(change.spoils)}"
    if policy.mode != "draft":
        return "changed: speculation"
    if policy.pinned not in (None, draft.expert):
        return "changed: model"
    if before.context != state.context:
        return f"changed: {', '.join(change.fields)}"
    had = before.docs.frozen or before.docs.last
    if change.forgets_documents and had and not policy.retrieval:
        return "changed: retrieval"
    return None
