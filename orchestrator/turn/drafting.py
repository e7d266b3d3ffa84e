"""When a hidden answer is worth starting, and what may be spent on it. Pure rules of the planner.

A keyboard's text is drafted at a pause, a short one behind a sentence, none behind a question, as
little but Enter is to come; a recogniser's once it has stood for longer than its changes usually
take, or sooner where its documents stayed the same and are prepared: that draft is cheap. What
drafts that were thrown away cost comes out of a budget in tokens and seconds that the text renews
as it settles; a draft that never began costs nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from ...backends.base import Message
from ...rag.words import count_words
from ..words import fold
from . import partials
from .lookahead import needs_route
from .passages import documents
from .values import Policy, TurnState

MIN_DRAFT_TOKENS = 128
RENEWING_WORDS = 8
KEPT_FOR_SENTENCE_END = 0.25
INTERVALS = 1.1
LONGEST_PAUSE_S = 0.55
SHORTEST_PAUSE_S = 0.2
TELLING_WORDS = 5
MOST_LOST = 5


def due_s(state: TurnState) -> float:
    """Return when the text will have stood for long enough to be answered in hiding."""
    return state.last_input_s + _pause_s(state)


def paused(state: TurnState, now_s: float) -> bool:
    """Whether the text has stood for long enough."""
    return now_s >= due_s(state)


def speaker_paused(state: TurnState, now_s: float) -> bool:
    """Whether a speaker has, and where the text goes is known."""
    spoken = state.phase == "typing" and state.input_kind == "transcript"
    return spoken and paused(state, now_s) and not needs_route(state)


def stands_s(state: TurnState) -> float:
    """Return when a recogniser's text will have stood for long enough to prepare its documents."""
    return state.last_input_s + state.policy.sentence_pause_s


def stands(state: TurnState, now_s: float) -> bool:
    """Whether it has by now, tells what it is about, and its documents will probably stay.

    They do if the text before had the same ones, or if the recogniser takes nothing back.
    """
    spoken = state.input_kind == "transcript"
    stay = state.docs.agreed or state.habits.only_grows
    return spoken and stay and now_s >= stands_s(state) and _tells(state)


def _tells(state: TurnState) -> bool:
    return count_words(state.text) >= TELLING_WORDS


def _pause_s(state: TurnState) -> float:
    policy = state.policy
    if state.input_kind != "transcript":
        keyed = policy.input_kind == "typed" or state.habits.only_keys
        if keyed and partials.ends_question(state.text):
            return 0.0
        ends = partials.ends_sentence(state.text)
        return policy.sentence_pause_s if ends else policy.pause_s
    if documents.is_prepared(state.docs) and _tells(state):
        return SHORTEST_PAUSE_S
    usual_s = state.habits.usual_interval_s
    if usual_s is None:
        return policy.pause_s
    return max(SHORTEST_PAUSE_S, min(INTERVALS * usual_s, LONGEST_PAUSE_S))


def affordable(state: TurnState) -> bool:
    """Whether the turn's budget and the session's balance allow one more draft.

    A slow typist pauses between words too, where the text seldom stays as it is: part of the budget
    is kept for the end of a sentence.
    """
    policy = state.policy
    kept = 0.0
    if state.input_kind != "transcript" and not partials.ends_sentence(state.text):
        kept = KEPT_FOR_SENTENCE_END
    within = state.draft_spent_tokens < policy.draft_budget_tokens * (
        1 - kept
    ) and state.draft_spent_s < policy.draft_budget_s * (1 - kept)
    adopted = max(MIN_DRAFT_TOKENS, state.draft_tokens_adopted)
    over_waste = state.draft_tokens_wasted > policy.max_waste_ratio * adopted
    return within and not over_waste and state.drafts_lost < MOST_LOST


def renewed(state: TurnState) -> TurnState:
    """Return the state with what the words that have settled since give back to the budget."""
    settled = partials.settled_words(state.text, state.input_kind, state.habits)
    count = count_words(settled)
    if count <= state.settled_count:
        return state
    share = (count - state.settled_count) / RENEWING_WORDS
    policy = state.policy
    return replace(
        state,
        settled_count=count,
        draft_spent_tokens=max(0.0, state.draft_spent_tokens - share * policy.draft_budget_tokens),
        draft_spent_s=max(0.0, state.draft_spent_s - share * policy.draft_budget_s),
    )


def again_s(state: TurnState, now_s: float) -> float | None:
    """Return when to try again after a draft was lost before it began; None = not any more."""
    if state.drafts_lost >= MOST_LOST:
        return None
    return now_s + state.policy.settle_s * 2.0 ** (state.drafts_lost - 1)


def fits(policy: Policy, drafted: tuple[Message, ...], messages: tuple[Message, ...]) -> bool:
    """Whether an answer to ``drafted`` may be given to ``messages``.

    With ``transcripts_equal: formatted`` the user's last words may be written otherwise.
    """
    if drafted == messages:
        return True
    if policy.transcripts_equal == "exact" or len(drafted) != len(messages):
        return False
    return _bare(drafted) == _bare(messages)


def _bare(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    last = max((n for n, m in enumerate(messages) if m.role == "user"), default=None)
    return tuple(
        replace(message, content=fold(message.content)) if n == last else message
        for n, message in enumerate(messages)
    )
