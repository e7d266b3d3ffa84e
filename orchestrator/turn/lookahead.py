"""What is asked for and computed before the commit: route, documents, prefill. Pure rules.

`planner.py` says when; what the committed text still lacks is known by the same rules.
"""

from __future__ import annotations

from msgspec.structs import replace

from ...rag.words import count_words
from ..events import RouteUpdated
from ..words import fold
from . import partials
from .prompt import build
from .values import Action, Prefill, Retrieve, Route, TurnState, Wake

MIN_QUERY_WORDS = 2


def key(text: str) -> str:
    """Texts that differ only in outer white space route alike."""
    return text.strip()


def query(text: str) -> str:
    """Texts that differ in case, marks and blanks alone find the same documents."""
    return fold(text) or key(text)


def needs_route(state: TurnState) -> bool:
    """Whether the whole text's route is not known yet."""
    return state.policy.pinned is None and (
        state.route is None or state.route.text != key(state.text)
    )


def needs_documents(state: TurnState) -> bool:
    """Whether the whole text's documents are not known yet."""
    return state.policy.retrieval and state.docs.seen_text != query(state.text)


def answering_expert(state: TurnState) -> str | None:
    """Return the expert that would answer now, None while no route is known."""
    if state.policy.pinned is not None:
        return state.policy.pinned
    return state.route.estimate.expert if state.route is not None else None


def route(state: TurnState, text: str) -> Route:
    """Return the question where this text goes."""
    committed = state.phase == "resolving"
    return Route(text, state.context.image_count, state.policy.route_deadline_s, committed)


def route_event(state: TurnState, ms: float | None = None) -> RouteUpdated:
    """Return what the client may know of the newest route, which took so long to estimate."""
    assert state.route is not None
    estimate = state.route.estimate
    return RouteUpdated(
        state.revision,
        estimate.expert,
        estimate.domain,
        estimate.confidence,
        estimate.alternatives,
        state.route.stable,
        ms,
    )


def look_ahead_at_words(state: TurnState, actions: list[Action]) -> TurnState:
    """Look ahead if there are other whole words than last time."""
    words = partials.whole_words(state.text, state.input_kind)
    return look_ahead(state, actions, words) if words and words != state.looked_at else state


def look_ahead(state: TurnState, actions: list[Action], text: str) -> TurnState:
    """Route, retrieve and prefill what the text so far allows."""
    state = replace(state, looked_at=text)
    known = state.policy.pinned is not None or (
        state.route is not None and state.route.text == text
    )
    if not known and state.routing != text:
        state = replace(state, routing=text)
        actions.append(route(state, text))
    if state.policy.retrieval:
        state = _retrieve(state, actions, query(text))
    prefill(state, actions)
    return state


def _retrieve(state: TurnState, actions: list[Action], asked: str) -> TurnState:
    """Ask for documents unless that was done, or the text says too little."""
    known = asked in (state.docs.seen_text, state.docs.asked_text)
    if known or count_words(asked) < MIN_QUERY_WORDS:
        return state
    deadline = state.policy.retrieve_deadline_s
    actions.append(Retrieve(asked, state.revision, partial=True, deadline_s=deadline))
    return replace(state, docs=replace(state.docs, asked_text=asked))


def prefill(state: TurnState, actions: list[Action]) -> None:
    """Prefill the fast expert and likely ones until the route settles, the routed one from then on.

    Until the documents are frozen only what stands before them is safe to compute. A conversation
    with images is not computed ahead, as its tokens are known to the engine alone: its expert is
    only woken.
    """
    policy = state.policy
    budget = policy.max_prefill_tokens - state.tokens_spent
    if policy.mode == "off" or budget <= 0:
        return
    settled = policy.pinned or (
        state.route.estimate.expert if state.route is not None and state.route.stable else None
    )
    if state.context.image_count:
        if settled is not None:
            actions.append(Wake(settled))
        return
    experts = (settled,) if settled is not None else _candidates(state)
    if not experts:
        return
    if policy.retrieval and state.docs.frozen is None:
        messages = build(state.context, "", open_turn=True)
    else:
        context = replace(state.context, frozen=state.docs.frozen or ())
        messages = build(context, _settled(state), open_turn=True)
    actions.append(Prefill(experts, messages, state.revision, budget // len(experts)))


def _settled(state: TurnState) -> str:
    """Return what of the open text is worth computing; the renderer cuts a typed one itself."""
    if state.input_kind != "transcript":
        return state.text
    words = partials.settled_words(state.text, "transcript", state.habits)
    return f"{words} " if words else ""


def _candidates(state: TurnState) -> tuple[str, ...]:
    """Return who may be needed while no route is settled: the likeliest, then the fast expert.

    What an expert computes ahead is of use where the finished text goes to it, so that of so many
    tokens the share that is adopted is its chance: two experts at most are worth it.
    """
    policy, found = state.policy, dict[str, None]()
    if state.route is not None:
        estimate = state.route.estimate
        best = estimate.confidence if estimate.final is None else estimate.final
        ranked = ((estimate.expert, best), *estimate.alternatives)
        found |= {name: None for name, chance in ranked[:2] if chance >= policy.worth_from}
    if policy.fast is not None:
        found |= {policy.fast: None}
    return tuple(found)
