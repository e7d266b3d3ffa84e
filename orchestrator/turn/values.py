"""The values a turn is planned with: policy, state and actions. No behaviour.

`planner.py` turns (state, what happened, now) into (state, actions); `loop.py` keeps the state
and `engine.py` performs the actions.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from ...backends.base import Message
from ..errors import ErrorInfo
from ..events import DocumentsUsed, Event, Status
from ..routing.estimate import RouteEstimate
from .partials import InputHabits, InputKind
from .passages.documents import Consistency, DocumentState
from .prompt import Context

Mode = Literal["off", "prefill", "draft"]
OnCold = Literal["wait", "fallback"]
TranscriptsEqual = Literal["exact", "formatted"]
Phase = Literal["typing", "resolving", "answering", "ended"]


class Policy(Struct, frozen=True):
    """The rules of one session, from the configuration and ``session.update``. Times in seconds.

    ``on_cold``: an expert that is not loaded at commit is waited for, or the fast one answers.
    ``input_kind``: None = found from the changes. ``transcripts_equal``: ``formatted`` = a draft
    fits a text that differs in case, marks and blanks alone.
    ``max_waste_ratio``: tokens that may be wasted for one that is adopted.
    ``draft_budget_tokens``, ``draft_budget_s``: what drafts that were thrown away may have cost in
    one turn; it comes back as the text settles.
    """

    mode: Mode = "draft"
    pinned: str | None = None
    fast: str | None = None
    on_cold: OnCold = "wait"
    retrieval: bool = False
    consistency: Consistency = "final"
    input_kind: InputKind | None = None
    transcripts_equal: TranscriptsEqual = "exact"
    start_delay_s: float = 0.03
    settle_s: float = 0.25
    pause_s: float = 0.4
    sentence_pause_s: float = 0.08
    route_deadline_s: float = 0.5
    retrieve_deadline_s: float = 0.6
    commit_wait_s: float = 0.06
    stable_confidence: float = 0.55
    stable_updates: int = 2
    max_prefill_tokens: int = 16_384
    draft_budget_tokens: int = 384
    draft_budget_s: float = 4.0
    max_waste_ratio: float = 4.0

    @property
    def worth_from(self) -> float:
        """How probable it has to be that tokens computed ahead are adopted, 0 to 1."""
        return 1.0 / (1.0 + self.max_waste_ratio)


class RouteState(Struct, frozen=True):
    """The newest estimate, the text it was made for and how many in a row named the same expert."""

    estimate: RouteEstimate
    text: str
    streak: int
    stable: bool


class DraftState(Struct, frozen=True):
    """The one draft that may be adopted: which expert answers which messages."""

    draft_id: str
    expert: str
    revision: int
    messages: tuple[Message, ...]


class TurnState(Struct, frozen=True):
    """Everything the planner knows about one turn.

    Attributes:
        context: the conversation before this turn, attached documents; no retrieved passages.
        habits: how the session's input comes.
        last_input_s: when its words changed last.
        looked_at: the text that route and documents were last asked for ahead.
        routing: the text whose route is being estimated.
        draft_started: the draft has its first token.
        drafts_lost: in a row, before their first token, while the text stayed.
        draft_spent_tokens, draft_spent_s: of the draft budget.
        settled_count: words that had settled when the budget was last renewed.
        tokens_spent: tokens of speculative prefill computed in this turn.
        draft_tokens_wasted, draft_tokens_adopted: of this session, halved at each turn.
        timer_s: when ``on_timer`` is due.
        loaded: the experts that could answer at once when the turn was committed.
    """

    policy: Policy
    context: Context
    response_id: str
    revision: int = 0
    text: str = ""
    phase: Phase = "typing"
    first_input_s: float | None = None
    last_input_s: float = 0.0
    habits: InputHabits = field(default_factory=InputHabits)
    looked_at: str = ""
    route: RouteState | None = None
    routing: str | None = None
    docs: DocumentState = field(default_factory=DocumentState)
    draft: DraftState | None = None
    draft_started: bool = False
    drafts_made: int = 0
    drafts_lost: int = 0
    draft_spent_tokens: float = 0.0
    draft_spent_s: float = 0.0
    settled_count: int = 0
    tokens_spent: int = 0
    draft_tokens_wasted: int = 0
    draft_tokens_adopted: int = 0
    timer_s: float | None = None
    loaded: frozenset[str] = frozenset()

    @property
    def input_kind(self) -> InputKind | None:
        """Where the text comes from, None while that is not known."""
        return self.policy.input_kind or self.habits.kind


# ---- actions ------------------------------------------------------------------------------------


class Route(Struct, frozen=True):
    """Estimate the route of this text; a newer Route replaces one that has not begun.

    ``images``: of the conversation; only an expert that takes them may answer then.
    ``deadline_s``: the newest estimate known stands for one that takes longer. ``committed``: the
    text is final.
    """

    text: str
    images: int = 0
    deadline_s: float = 0.5
    committed: bool = False


class Retrieve(Struct, frozen=True):
    """Fetch passages; how it stands to a running retrieval of the turn: ``retrievals.py``."""

    text: str
    revision: int
    partial: bool
    deadline_s: float


class Prefill(Struct, frozen=True):
    """Bring these messages, the last turn open, into the experts' caches: their newest target.

    The first expert is served before the next one on the same hardware. Others are not prefilled
    any further; ``budget_tokens`` is what each may compute.
    """

    experts: tuple[str, ...]
    messages: tuple[Message, ...]
    revision: int
    budget_tokens: int


class StartDraft(Struct, frozen=True):
    """Answer these messages in hiding."""

    draft: DraftState


class DropDraft(Struct, frozen=True):
    """Stop the draft and count its tokens as wasted."""

    draft: DraftState
    reason: str


class Answer(Struct, frozen=True):
    """Answer for the user, from a draft when one fits."""

    expert: str
    messages: tuple[Message, ...]
    draft_id: str | None
    degraded: tuple[str, ...]
    documents: DocumentsUsed


class Wake(Struct, frozen=True):
    """Begin to load an expert: the next turn will need it."""

    expert: str


class StopSpeculation(Struct, frozen=True):
    """Cancel routing, retrieval and prefill of this turn."""


class StopAnswer(Struct, frozen=True):
    """Cancel the running answer; ``on_answer_end`` follows once its expert is released."""

    status: Status
    error: ErrorInfo | None = None


class Emit(Struct, frozen=True):
    """Send an event to the client."""

    event: Event


class SetTimer(Struct, frozen=True):
    """Call ``on_timer`` at this time unless another SetTimer comes first; None clears it."""

    at_s: float | None


class EndTurn(Struct, frozen=True):
    """The turn is over; exactly one per turn."""

    status: Status
    error: ErrorInfo | None = None


Action = (
    Route
    | Retrieve
    | Prefill
    | StartDraft
    | DropDraft
    | Answer
    | Wake
    | StopSpeculation
    | StopAnswer
    | Emit
    | SetTimer
    | EndTurn
)
Step = tuple[TurnState, list[Action]]
