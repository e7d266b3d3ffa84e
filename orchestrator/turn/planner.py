"""What to do next: a pure function from (turn state, what happened, now) to (state, actions).

Owns every decision of a turn: when to route, retrieve, prefill, draft, adopt and answer. No await,
no clock, no I/O, no randomness: the same inputs give the same actions. `engine.py` performs them.
"""

from __future__ import annotations

from msgspec.structs import replace

from ...backends.base import Image, Message
from ...rag.base import RetrievalResult
from ..errors import ErrorInfo
from ..events import RouteUpdated, Status
from ..routing.estimate import RouteEstimate
from . import documents
from .prompt import build
from .values import (
    Action,
    Answer,
    DraftState,
    DropDraft,
    Emit,
    EndTurn,
    Prefill,
    Retrieve,
    Route,
    RouteState,
    SetTimer,
    StartDraft,
    Step,
    StopAnswer,
    StopSpeculation,
    TurnState,
    Wake,
)

WORD_END = frozenset(" \t\n.,;:?!…)]}\"'、。，！？")  # noqa: RUF001
SENTENCE_END = frozenset(".?!…。！？")  # noqa: RUF001
MIN_QUERY_WORDS = 2
MIN_DRAFT_TOKENS = 128


# ---- what happened ------------------------------------------------------------------------------


def on_text(state: TurnState, text: str, revision: int, now_s: float) -> Step:
    """The input changed to ``text`` (all of it)."""
    first = state.first_input_s if state.first_input_s is not None else now_s
    changed = text.rstrip() != state.text.rstrip()
    state = replace(state, text=text, revision=revision, first_input_s=first, last_input_s=now_s)
    actions: list[Action] = []
    if changed and state.draft is not None:
        state = _drop_draft(state, actions, "input changed")
    if not text.strip():
        docs = documents.DocumentState()
        state, more = on_unwanted(replace(state, first_input_s=None, docs=docs))
        return _set_timer(state, [*actions, *more], None)
    if state.policy.mode == "off":
        return _set_timer(state, actions, None)
    if text[-1] in WORD_END and now_s - first >= state.policy.start_delay_s:
        state = _look_ahead(state, actions)
    return _arm(state, actions, now_s)


def on_unwanted(state: TurnState) -> Step:
    """What was being prepared is of no use: the input was cleared, the session changed."""
    if state.phase != "typing":
        return state, []
    actions: list[Action] = [StopSpeculation()]
    if state.draft is not None:
        state = _drop_draft(state, actions, "not wanted any more")
    return _nothing_under_way(state), actions


def on_timer(state: TurnState, now_s: float) -> Step:
    """The typist paused, or the start delay passed."""
    state = replace(state, timer_s=None)
    actions: list[Action] = []
    if state.phase != "typing" or state.policy.mode == "off" or not state.text.strip():
        return state, actions
    if _paused(state, now_s) and not _needs_documents(state):
        state = replace(state, docs=documents.settle(state.docs))
    idle = now_s - state.last_input_s >= state.policy.settle_s
    if idle or state.text[-1] in WORD_END:
        state = _look_ahead(state, actions)
    state = _maybe_draft(state, actions, now_s)
    return _arm(state, actions, now_s)


def on_route(state: TurnState, text: str, estimate: RouteEstimate, now_s: float) -> Step:
    """An estimate arrived for ``text``, possibly no longer the newest."""
    state = replace(state, routing=None if state.routing == text else state.routing)
    if state.phase not in ("typing", "resolving"):
        return state, []
    policy, before = state.policy, state.route
    streak = 1
    if before is not None and before.estimate.expert == estimate.expert:
        streak = before.streak + (before.text != text)
    stable = estimate.stable
    if estimate.final is None:  # no trained model: agreement and confidence have to do
        stable = streak >= policy.stable_updates and estimate.confidence >= policy.stable_confidence
    state = replace(state, route=RouteState(estimate, text, streak, stable))
    event = RouteUpdated(
        state.revision,
        estimate.expert,
        estimate.domain,
        estimate.confidence,
        estimate.alternatives,
        stable,
    )
    actions: list[Action] = [Emit(event)]
    if state.phase == "resolving":
        return _try_answer(state, actions)
    _prefill(state, actions)
    return _maybe_draft(state, actions, now_s), actions


def on_retrieval(
    state: TurnState, text: str, result: RetrievalResult, ms_per_token: float | None, now_s: float
) -> Step:
    """Passages arrived for ``text``; ``ms_per_token`` = measured prefill cost, None = unknown."""
    if state.phase not in ("typing", "resolving"):
        return state, []
    moment: documents.Moment = "committed" if state.phase == "resolving" else "typing"
    if moment == "typing" and text == _key(state.text) and _paused(state, now_s):
        moment = "paused"
    docs = documents.observe(state.docs, text, result, ms_per_token, moment)
    state = replace(state, docs=docs)
    actions: list[Action] = [Emit(documents.event(docs, result))]
    if state.phase == "resolving":
        return _try_answer(state, actions)
    _prefill(state, actions)
    return _maybe_draft(state, actions, now_s), actions


def on_prefilled(state: TurnState, computed_tokens: int) -> Step:
    """A slice of speculative prefill was computed."""
    return replace(state, tokens_spent=state.tokens_spent + computed_tokens), []


def on_draft_lost(state: TurnState, draft_id: str, reason: str) -> Step:
    """The engine had to give a draft up; at commit the answer simply starts anew."""
    if state.draft is None or state.draft.draft_id != draft_id:
        return state, []
    actions: list[Action] = []
    return _drop_draft(state, actions, reason), actions


def on_draft_counted(state: TurnState, wasted: int, adopted: int) -> Step:
    """A draft ended: its tokens were thrown away or became the answer."""
    wasted, adopted = state.draft_tokens_wasted + wasted, state.draft_tokens_adopted + adopted
    return replace(state, draft_tokens_wasted=wasted, draft_tokens_adopted=adopted), []


def on_commit(
    state: TurnState, text: str, revision: int, now_s: float, images: tuple[Image, ...] = ()
) -> Step:
    """The input is final; images come with it, and only some experts take them."""
    first = state.first_input_s if state.first_input_s is not None else now_s
    state = replace(
        state, text=text, revision=revision, first_input_s=first, phase="resolving", timer_s=None
    )
    actions: list[Action] = [SetTimer(None)]
    if images:  # what was routed before knew nothing of them
        state = replace(_nothing_under_way(state), context=replace(state.context, images=images))
        state = replace(state, route=None)
        actions.append(StopSpeculation())
    key, policy = _key(text), state.policy
    if _needs_route(state) and state.routing != key:
        state = replace(state, routing=key)
        actions.append(Route(key, state.context.image_count))
    if state.docs.degraded is not None:
        state = replace(state, docs=replace(state.docs, seen_text=None))
    if _needs_documents(state):
        frozen = state.docs.frozen is not None
        wait_s = policy.commit_wait_s if frozen else policy.retrieve_deadline_s
        actions.append(Retrieve(key, revision, partial=False, deadline_s=wait_s))
    return _try_answer(state, actions)


def on_answer_end(state: TurnState, status: Status, error: ErrorInfo | None = None) -> Step:
    """The answer is complete, or could not be."""
    if state.phase != "answering":
        return state, []
    actions: list[Action] = [StopSpeculation(), SetTimer(None), EndTurn(status, error)]
    return replace(state, phase="ended", timer_s=None), actions


def on_cancel(state: TurnState, error: ErrorInfo | None = None) -> Step:
    """The client, a limit or a shutdown stops the turn, in whatever phase it is."""
    if state.phase == "ended":
        return state, []
    status: Status = "failed" if error is not None else "cancelled"
    if state.phase == "answering":
        return state, [StopAnswer(status, error)]
    actions: list[Action] = [StopSpeculation(), SetTimer(None)]
    state = _nothing_under_way(state)
    if state.draft is not None:
        state = _drop_draft(state, actions, "cancelled")
    if state.phase == "resolving":
        actions.append(EndTurn(status, error))
        state = replace(state, phase="ended")
    return replace(state, timer_s=None), actions


# ---- rules --------------------------------------------------------------------------------------


def _nothing_under_way(state: TurnState) -> TurnState:
    """Forget the requests that StopSpeculation cancels."""
    return replace(state, routing=None, docs=replace(state.docs, asked_text=None))


def _key(text: str) -> str:
    """Texts that differ only in outer white space route and retrieve alike."""
    return text.strip()


def _needs_route(state: TurnState) -> bool:
    return state.policy.pinned is None and (
        state.route is None or state.route.text != _key(state.text)
    )


def _needs_documents(state: TurnState) -> bool:
    return state.policy.retrieval and state.docs.seen_text != _key(state.text)


def answering_expert(state: TurnState) -> str | None:
    """Return the expert that would answer now, None while no route is known."""
    if state.policy.pinned is not None:
        return state.policy.pinned
    return state.route.estimate.expert if state.route is not None else None


def _stand_in(state: TurnState, expert: str) -> str | None:
    """Return the fast expert if it may answer for one that is not loaded, and is loaded itself."""
    fast = state.policy.fast
    allowed = state.policy.on_cold == "fallback" and expert not in state.loaded
    sees = not state.context.image_count
    return fast if allowed and sees and fast in state.loaded else None


def _final_messages(state: TurnState) -> tuple[Message, ...]:
    frozen, late = documents.chosen(state.docs)
    return build(replace(state.context, frozen=frozen, late=late), state.text)


def _look_ahead(state: TurnState, actions: list[Action]) -> TurnState:
    """Route, retrieve and prefill what the text so far allows."""
    key = _key(state.text)
    if _needs_route(state) and state.routing != key:
        state = replace(state, routing=key)
        actions.append(Route(key, state.context.image_count))
    wanted = _needs_documents(state) and state.docs.asked_text != key
    if wanted and len(key.split()) >= MIN_QUERY_WORDS:
        state = replace(state, docs=replace(state.docs, asked_text=key))
        deadline = state.policy.retrieve_deadline_s
        actions.append(Retrieve(key, state.revision, partial=True, deadline_s=deadline))
    _prefill(state, actions)
    return state


def _prefill(state: TurnState, actions: list[Action]) -> None:
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
        messages = build(context, state.text, open_turn=True)
    actions.append(Prefill(experts, messages, state.revision, budget // len(experts)))


def _candidates(state: TurnState) -> tuple[str, ...]:
    """Return who may be needed while no route is settled: the fast expert, then the likeliest."""
    policy = state.policy
    found: dict[str, None] = {} if policy.fast is None else {policy.fast: None}
    if state.route is not None and policy.warm_from < 1.0:
        estimate = state.route.estimate
        ranked = ((estimate.expert, estimate.confidence), *estimate.alternatives)
        found |= {name: None for name, chance in ranked[:2] if chance >= policy.warm_from}
    return tuple(found)


def _maybe_draft(state: TurnState, actions: list[Action], now_s: float) -> TurnState:
    """Start a draft when the typist pauses and nothing it depends on is still open."""
    policy = state.policy
    if policy.mode != "draft" or state.draft is not None or state.phase != "typing":
        return state
    if state.context.image_count:
        return state
    if not _paused(state, now_s) or _needs_route(state) or _needs_documents(state):
        return state
    if state.drafts_made >= _drafts_until_now(state) or _over_waste(state):
        return state
    expert = answering_expert(state)
    if expert is None:
        return state
    number = state.drafts_made + 1
    draft = DraftState(
        f"{state.response_id}.d{number}", expert, state.revision, _final_messages(state)
    )
    actions.append(StartDraft(draft))
    return replace(state, draft=draft, drafts_made=number)


def _drafts_until_now(state: TurnState) -> int:
    """Return how many drafts this turn may make here: the last of several is for a sentence's end.

    A slow typist pauses between words too, where the text seldom stays as it is.
    """
    most = state.policy.max_drafts
    return most if most < 2 or _ends_sentence(state) else most - 1


def _over_waste(state: TurnState) -> bool:
    """Whether this session's drafts were thrown away too often to go on drafting."""
    adopted = max(MIN_DRAFT_TOKENS, state.draft_tokens_adopted)
    return state.draft_tokens_wasted > state.policy.max_waste_ratio * adopted


def _draft_due_s(state: TurnState) -> float:
    policy = state.policy
    pause_s = policy.sentence_pause_s if _ends_sentence(state) else policy.pause_s
    return state.last_input_s + pause_s


def _ends_sentence(state: TurnState) -> bool:
    return state.text.rstrip()[-1:] in SENTENCE_END


def _paused(state: TurnState, now_s: float) -> bool:
    return now_s >= _draft_due_s(state)


def _drop_draft(state: TurnState, actions: list[Action], reason: str) -> TurnState:
    assert state.draft is not None
    actions.append(DropDraft(state.draft, reason))
    return replace(state, draft=None)


def _arm(state: TurnState, actions: list[Action], now_s: float) -> Step:
    """Set the timer to the next moment at which a pause would mean something."""
    policy = state.policy
    due = [state.last_input_s + policy.settle_s]
    if state.first_input_s is not None:
        due.append(state.first_input_s + policy.start_delay_s)
    drafts = policy.mode == "draft" and state.draft is None
    if drafts or (policy.retrieval and state.docs.frozen is None):
        due.append(_draft_due_s(state))
    later = [at for at in due if at > now_s]
    return _set_timer(state, actions, min(later) if later else None)


def _set_timer(state: TurnState, actions: list[Action], at_s: float | None) -> Step:
    if at_s != state.timer_s:
        actions.append(SetTimer(at_s))
    return replace(state, timer_s=at_s), actions


def _try_answer(state: TurnState, actions: list[Action]) -> Step:
    """Answer as soon as route and documents of the committed text are known."""
    if _needs_route(state) or _needs_documents(state):
        return state, actions
    routed = answering_expert(state)
    assert routed is not None
    expert = _stand_in(state, routed) or routed
    messages = _final_messages(state)
    draft_id = None
    if state.draft is not None:
        if state.draft.expert == expert and state.draft.messages == messages:
            draft_id = state.draft.draft_id
        else:
            state = _drop_draft(state, actions, "commit differs")
    degraded = (state.docs.degraded,) if state.docs.degraded is not None else ()
    actions.append(StopSpeculation())
    if expert != routed:
        degraded = (*degraded, f"{routed} is not loaded yet: {expert} answers")
        actions.append(Wake(routed))
    actions.append(Answer(expert, messages, draft_id, degraded, documents.used(state.docs)))
    return replace(state, phase="answering"), actions
