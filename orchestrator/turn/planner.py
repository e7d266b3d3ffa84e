"""What to do next: a pure function from (turn state, what happened, now) to (state, actions).

Owns every decision of a turn: when to route, retrieve, prefill, draft, adopt and answer. No await,
no clock, no I/O, no randomness: the same inputs give the same actions. `engine.py` performs them.
"""

from __future__ import annotations

from msgspec.structs import replace

from ...backends.base import Image, Message
from ...rag.base import RetrievalResult
from ..errors import ErrorInfo
from ..events import Status
from ..routing.estimate import RouteEstimate
from ..words import same_words
from . import drafting, lookahead
from .passages import documents
from .prompt import build
from .values import (
    Action,
    Answer,
    DraftState,
    DropDraft,
    Emit,
    EndTurn,
    Retrieve,
    RouteState,
    SetTimer,
    StartDraft,
    Step,
    StopAnswer,
    StopSpeculation,
    TurnState,
    Wake,
)

SPOKEN_STREAK = 3
SPOKEN_FREEZES = 2


# ---- what happened ------------------------------------------------------------------------------


def on_text(state: TurnState, text: str, revision: int, now_s: float) -> Step:
    """The input changed to ``text`` (all of it)."""
    first = state.first_input_s if state.first_input_s is not None else now_s
    changed = text.rstrip() != state.text.rstrip()
    habits = state.habits.after(state.text, text, now_s - state.last_input_s)
    # what a recogniser writes otherwise was not said otherwise
    spoken = (state.policy.input_kind or habits.kind) == "transcript"
    still = spoken and bool(state.text) and same_words(state.text, text)
    state = replace(
        state,
        text=text,
        revision=revision,
        habits=habits,
        first_input_s=first,
        last_input_s=state.last_input_s if still else now_s,
        drafts_lost=state.drafts_lost if still else 0,
    )
    actions: list[Action] = []
    # what a recogniser takes back it often comes back to: the draft stays until another is due
    kept = spoken and state.draft_started and bool(text.strip())
    if changed and state.draft is not None and not kept:
        state = _drop_draft(state, actions, "input changed")
    if not text.strip():
        docs = documents.DocumentState(outlook=state.docs.outlook)
        state, more = on_unwanted(replace(state, first_input_s=None, docs=docs, looked_at=""))
        return _set_timer(state, [*actions, *more], None)
    if state.policy.mode == "off":
        return _set_timer(state, actions, None)
    if now_s - first >= state.policy.start_delay_s:
        state = lookahead.look_ahead_at_words(state, actions)
        state = _maybe_draft(state, actions, now_s)
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
    state = _settle_route(state, actions, now_s)
    state = _settle_documents(state, actions, now_s)
    if now_s - state.last_input_s >= state.policy.settle_s:
        state = lookahead.look_ahead(state, actions, lookahead.key(state.text))
    else:
        state = lookahead.look_ahead_at_words(state, actions)
    state = _maybe_draft(state, actions, now_s)
    return _arm(state, actions, now_s)


def on_route(state: TurnState, text: str, estimate: RouteEstimate, now_s: float) -> Step:
    """An estimate arrived for ``text``, possibly no longer the newest."""
    state = replace(state, routing=None if state.routing == text else state.routing)
    if state.phase not in ("typing", "resolving"):
        return state, []
    if state.phase == "resolving" and text != lookahead.key(state.text):
        return state, []
    policy, before = state.policy, state.route
    streak = 1
    if before is not None and before.estimate.expert == estimate.expert:
        streak = before.streak + (before.text != text)
    stable = estimate.stable
    confident = estimate.confidence >= policy.stable_confidence
    if estimate.final is None:  # no trained model: agreement and confidence have to do
        stable = streak >= policy.stable_updates and confident
    elif state.input_kind == "transcript":  # what is misheard is nothing the model was trained on
        stable = stable or (streak >= SPOKEN_STREAK and confident)
    state = replace(state, route=RouteState(estimate, text, streak, stable))
    if drafting.speaker_paused(state, now_s):
        state = replace(state, route=RouteState(estimate, text, streak, stable=True))
    actions: list[Action] = [Emit(lookahead.route_event(state, estimate.ms))]
    if state.phase == "resolving":
        return _try_answer(state, actions)
    lookahead.prefill(state, actions)
    return _maybe_draft(state, actions, now_s), actions


def on_retrieval(
    state: TurnState, text: str, result: RetrievalResult, ms_per_token: float | None, now_s: float
) -> Step:
    """Passages arrived for ``text``; ``ms_per_token`` = measured prefill cost, None = unknown."""
    if state.phase not in ("typing", "resolving"):
        return state, []
    if state.phase == "resolving" and text != lookahead.query(state.text):
        return state, []
    moment: documents.Moment = "committed" if state.phase == "resolving" else "typing"
    if moment == "typing" and text == lookahead.query(state.text) and drafting.paused(state, now_s):
        moment = "paused"
    told = (text, result, ms_per_token, moment, state.policy.consistency)
    docs = documents.observe(state.docs, *told)
    state = replace(state, docs=docs)
    actions: list[Action] = [Emit(documents.event(docs, result))]
    if state.phase == "resolving":
        return _try_answer(state, actions)
    state = _settle_documents(state, [], now_s)
    lookahead.prefill(state, actions)
    state = _maybe_draft(state, actions, now_s)
    # how long a recogniser's text has to stand is a matter of its documents too
    spoken = state.input_kind == "transcript"
    return _arm(state, actions, now_s) if spoken else (state, actions)


def on_prefilled(state: TurnState, computed_tokens: int) -> Step:
    """A slice of speculative prefill was computed."""
    return replace(state, tokens_spent=state.tokens_spent + computed_tokens), []


def on_draft_started(state: TurnState, draft_id: str, computed_tokens: int) -> Step:
    """A draft has its first token, behind so many of its prompt that it had to compute itself."""
    if state.draft is None or state.draft.draft_id != draft_id:
        return state, []
    spent = min(state.policy.draft_budget_tokens, state.draft_spent_tokens + computed_tokens)
    state = replace(state, draft_started=True, drafts_lost=0, draft_spent_tokens=spent)
    return on_prefilled(state, computed_tokens)


def on_draft_lost(state: TurnState, draft_id: str, reason: str, now_s: float) -> Step:
    """The engine had to give a draft up; one that had not begun is tried again later."""
    if state.draft is None or state.draft.draft_id != draft_id:
        return state, []
    actions: list[Action] = []
    begun = state.draft_started
    state = _drop_draft(state, actions, reason)
    if begun or state.phase != "typing":
        return state, actions
    state = replace(state, drafts_lost=state.drafts_lost + 1)
    again_s = drafting.again_s(state, now_s)
    if again_s is None or (state.timer_s is not None and state.timer_s <= again_s):
        return state, actions
    return _set_timer(state, actions, again_s)


def on_draft_counted(state: TurnState, wasted: int, adopted: int, busy_s: float = 0.0) -> Step:
    """A draft ended: its tokens were thrown away, after so many seconds, or became the answer."""
    policy = state.policy
    return replace(
        state,
        draft_tokens_wasted=state.draft_tokens_wasted + wasted,
        draft_tokens_adopted=state.draft_tokens_adopted + adopted,
        draft_spent_tokens=min(policy.draft_budget_tokens, state.draft_spent_tokens + wasted),
        draft_spent_s=min(policy.draft_budget_s, state.draft_spent_s + busy_s),
    ), []


def on_commit(
    state: TurnState,
    text: str,
    revision: int,
    now_s: float,
    images: tuple[Image, ...] = (),
    follow: tuple[Message, ...] = (),
) -> Step:
    """The input is final; images come with it, and only some experts take them."""
    first = state.first_input_s if state.first_input_s is not None else now_s
    state = replace(
        state, text=text, revision=revision, first_input_s=first, phase="resolving", timer_s=None
    )
    actions: list[Action] = [SetTimer(None)]
    if follow:
        state = replace(state, context=replace(state.context, follow=follow))
    if images:  # what was routed before knew nothing of them
        state = replace(_nothing_under_way(state), context=replace(state.context, images=images))
        state = replace(state, route=None)
        actions.append(StopSpeculation())
    if state.route is not None and state.route.estimate.provisional:
        state = replace(state, route=None)
    key, policy = lookahead.key(text), state.policy
    if lookahead.needs_route(state) and state.routing != key:
        state = replace(state, routing=key)
        actions.append(lookahead.route(state, key))
    if state.docs.degraded is not None or state.docs.provisional:
        state = replace(state, docs=replace(state.docs, seen_text=None))
    if lookahead.needs_documents(state):
        frozen = state.docs.frozen is not None
        wait_s = policy.commit_wait_s if frozen else policy.retrieve_deadline_s
        query = lookahead.query(text)
        actions.append(Retrieve(query, revision, partial=False, deadline_s=wait_s))
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


def _stand_in(state: TurnState, expert: str) -> str | None:
    """Return the fast expert if it may answer for one that is not loaded, and is loaded itself."""
    fast = state.policy.fast
    allowed = state.policy.on_cold == "fallback" and expert not in state.loaded
    sees = not state.context.image_count
    return fast if allowed and sees and fast in state.loaded else None


def _final_messages(state: TurnState) -> tuple[Message, ...]:
    frozen, late = documents.chosen(state.docs, state.policy.consistency)
    return build(replace(state.context, frozen=frozen, late=late), state.text)


def _maybe_draft(state: TurnState, actions: list[Action], now_s: float) -> TurnState:
    """Start a draft when the text has stood and nothing it depends on is still open."""
    policy = state.policy
    if policy.mode != "draft" or state.phase != "typing" or state.context.image_count:
        return state
    if (
        not drafting.paused(state, now_s)
        or lookahead.needs_route(state)
        or lookahead.needs_documents(state)
    ):
        return state
    expert, state = lookahead.answering_expert(state), drafting.renewed(state)
    if expert is None or not drafting.affordable(state):
        return state
    messages = _final_messages(state)
    if state.draft is not None:
        if state.input_kind != "transcript" or drafting.fits(
            policy, state.draft.messages, messages
        ):
            return state
        state = _drop_draft(state, actions, "newer text")
    number = state.drafts_made + 1
    draft = DraftState(f"{state.response_id}.d{number}", expert, state.revision, messages)
    actions.append(StartDraft(draft))
    return replace(state, draft=draft, draft_started=False, drafts_made=number)


def _settle_route(state: TurnState, actions: list[Action], now_s: float) -> TurnState:
    """Take the route of what was said for the route of the turn once its speaker has paused."""
    if state.route is None or state.route.stable or not drafting.speaker_paused(state, now_s):
        return state
    state = replace(state, route=replace(state.route, stable=True))
    actions.append(Emit(lookahead.route_event(state)))
    lookahead.prefill(state, actions)
    return state


def _settle_documents(state: TurnState, actions: list[Action], now_s: float) -> TurnState:
    """Prepare the prompt with the text's own documents once it has stood.

    A recogniser's next partial may come before a draft is due: a few times in a turn its documents
    are prepared earlier than that.
    """
    if not state.policy.retrieval or lookahead.needs_documents(state):
        return state
    if drafting.paused(state, now_s):
        docs = documents.settle(state.docs, None, state.policy.consistency)
    elif drafting.stands(state, now_s):
        docs = documents.settle(state.docs, SPOKEN_FREEZES, state.policy.consistency)
    else:
        return state
    if docs is state.docs:
        return state
    state = replace(state, docs=docs)
    lookahead.prefill(state, actions)
    return state


def _drop_draft(state: TurnState, actions: list[Action], reason: str) -> TurnState:
    assert state.draft is not None
    actions.append(DropDraft(state.draft, reason))
    return replace(state, draft=None, draft_started=False)


def _arm(state: TurnState, actions: list[Action], now_s: float) -> Step:
    """Set the timer to the next moment at which a pause would mean something."""
    policy = state.policy
    due = [state.last_input_s + policy.settle_s]
    if state.first_input_s is not None:
        due.append(state.first_input_s + policy.start_delay_s)
    drafts = state.draft is None or state.input_kind == "transcript"
    if (policy.mode == "draft" and drafts) or (policy.retrieval and state.docs.frozen is None):
        due.append(drafting.due_s(state))
    if policy.retrieval and state.input_kind == "transcript":
        due.append(drafting.stands_s(state))
    later = [at for at in due if at > now_s]
    return _set_timer(state, actions, min(later) if later else None)


def _set_timer(state: TurnState, actions: list[Action], at_s: float | None) -> Step:
    if at_s != state.timer_s:
        actions.append(SetTimer(at_s))
    return replace(state, timer_s=at_s), actions


def _try_answer(state: TurnState, actions: list[Action]) -> Step:
    """Answer as soon as route and documents of the committed text are known."""
    if lookahead.needs_route(state) or lookahead.needs_documents(state):
        return state, actions
    routed = lookahead.answering_expert(state)
    assert routed is not None
    expert = _stand_in(state, routed) or routed
    messages = _final_messages(state)
    draft_id = None
    if state.draft is not None:
        fits = drafting.fits(state.policy, state.draft.messages, messages)
        if state.draft.expert == expert and fits:
            draft_id = state.draft.draft_id
        else:
            state = _drop_draft(state, actions, "commit differs")
    degraded = (state.docs.degraded,) if state.docs.degraded is not None else ()
    actions.append(StopSpeculation())
    if expert != routed:
        degraded = (*degraded, f"{routed} is not loaded yet: {expert} answers")
        actions.append(Wake(routed))
    used = documents.used(state.docs, state.policy.consistency)
    actions.append(Answer(expert, messages, draft_id, degraded, used))
    return replace(state, phase="answering"), actions
