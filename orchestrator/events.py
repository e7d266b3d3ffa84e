"""Typed events that leave a session, in the names of the live protocol.

A turn's events end with exactly one ``ResponseDone``. No uncommitted text: drafts are counts.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct, field, to_builtins

from ..backends.base import FinishReason, TokenLogprob, ToolCall, Usage
from .errors import ErrorInfo
from .item_events import (
    ConversationTrimmed,
    InputIgnored,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
)

Status = Literal["completed", "cancelled", "failed"]
Settled = Literal["author", "verified", "quorum", "leader", "deadline"]


class RouteUpdated(Struct, frozen=True):
    """The partial text points to this expert; the estimate took ``ms``, None: it is told again.

    Attributes:
        revision: of the input when the estimate came; it may be of a text one or two keys older.
        confidence: 0..1, calibrated: how often the text's domain is this one.
        alternatives: (expert, probability), best first, without the expert itself.
        stable: the finished text will probably go there as well; the expert is prepared then.
    """

    type: ClassVar[str] = "route.updated"
    revision: int
    expert: str
    domain: str
    confidence: float
    alternatives: tuple[tuple[str, float], ...]
    stable: bool
    ms: float | None = None


class RetrievedPassage(Struct, frozen=True):
    """A passage by reference, never its text.

    Attributes:
        id: as long as the text is the same.
        source: the document it is from; ``title``: the headings it stands below, "" without any.
        score: the higher the better; comparable within one result alone.
    """

    id: str
    source: str
    score: float
    title: str = ""


class RetrievalUpdated(Struct, frozen=True):
    """Context for the partial text; finding it took ``ms``, None: not known.

    Attributes:
        passages: best first.
        stable: what stands in the prompt is frozen: it stays unless a newer result is another set.
        degraded: why the result is incomplete (``timeout``, ``unreachable``, …); None = complete.
    """

    type: ClassVar[str] = "retrieval.updated"
    revision: int
    passages: tuple[RetrievedPassage, ...]
    stable: bool
    degraded: str | None = None
    ms: float | None = None


class PrefillUpdated(Struct, frozen=True):
    """Progress of speculative prefill on one expert; this slice took ``ms``.

    Attributes:
        tokens_ready: tokens of the prompt so far that are in the expert's prefix cache.
        tokens_total: of its full KV blocks; grows with the text.
    """

    type: ClassVar[str] = "prefill.updated"
    revision: int
    expert: str
    tokens_ready: int
    tokens_total: int
    ms: float | None = None


class DraftCreated(Struct, frozen=True):
    """A hidden draft of the answer has begun."""

    type: ClassVar[str] = "draft.created"
    draft_id: str
    expert: str
    revision: int


class DraftDiscarded(Struct, frozen=True):
    """The draft does not fit what was committed or typed since, or had to be given up.

    Attributes:
        tokens: of it, wasted.
        reason: in words; for people, not for programs.
    """

    type: ClassVar[str] = "draft.discarded"
    draft_id: str
    expert: str
    revision: int
    tokens: int
    reason: str


class DraftAdopted(Struct, frozen=True):
    """The committed turn equals the drafted one; ``tokens`` were ready at commit."""

    type: ClassVar[str] = "draft.adopted"
    draft_id: str
    expert: str
    revision: int
    tokens: int


class ExpertUpdated(Struct, frozen=True):
    """An expert's life: unloaded, loading, ready, draining, unloading, failed.

    Attributes:
        detail: why it failed.
        progress: 0..1 of a load, estimated from the time that earlier ones took; 1 when it is
            loaded, None when neither.
        remaining_s: of the load, estimated likewise.
    """

    type: ClassVar[str] = "expert.updated"
    expert: str
    state: str
    detail: str = ""
    progress: float | None = None
    remaining_s: float | None = None


class ResponseCreated(Struct, frozen=True):
    """The turn is committed and its answer begins; ``item_id`` is the answer's item."""

    type: ClassVar[str] = "response.created"
    response_id: str
    revision: int
    expert: str
    item_id: str | None = None


class ResponseTextDelta(Struct, frozen=True):
    """Text of the committed answer; never taken back.

    Attributes:
        delta: what it adds; never empty, unless there are log-probabilities to tell.
        token_ids: its tokens; empty when the expert does not tell, or consensus joined texts.
        logprobs: one entry a token if they were asked for, else None.
    """

    type: ClassVar[str] = "response.output_text.delta"
    response_id: str
    delta: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None


class ResponseToolCallDelta(Struct, frozen=True):
    """A piece of a function call that the committed answer makes; never taken back.

    Attributes:
        index: which of the answer's calls, from 0.
        call_id, name: on the first piece of a call, else None.
        delta: what it adds to the arguments.
    """

    type: ClassVar[str] = "response.function_call_arguments.delta"
    response_id: str
    index: int
    call_id: str | None = None
    name: str | None = None
    delta: str = ""


class ResponseReasoningDelta(Struct, frozen=True):
    """What the expert thinks before it answers; no part of the answer's text."""

    type: ClassVar[str] = "response.reasoning_text.delta"
    response_id: str
    delta: str


class ResponseTextDone(Struct, frozen=True):
    """The whole text: the deltas joined."""

    type: ClassVar[str] = "response.output_text.done"
    response_id: str
    text: str


class ResponseSentence(Struct, frozen=True):
    """A piece of the answer that can be spoken, numbered from 0; the pieces joined are the text."""

    type: ClassVar[str] = "response.sentence"
    response_id: str
    index: int
    text: str


class Timings(Struct, frozen=True):
    """Server-side clock of one turn, milliseconds; None = did not happen.

    Attributes:
        typing_ms: first input to commit.
        ttft_ms: arrival of the commit to the first delta on its way to the client.
        total_ms: arrival of the commit to the end.
        route_lead_ms, retrieval_lead_ms, prefill_lead_ms, draft_lead_ms: how long before the
            commit that stage was finished (route: settled; draft: first token ready).
        first_sentence_ms: arrival of the commit to the first ``response.sentence``.
        estimated_ttft_ms_without: TTFT had everything begun at commit, from this expert's measured
            prefill rate and decode step; None until both were measured.
    """

    typing_ms: float | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    route_lead_ms: float | None = None
    retrieval_lead_ms: float | None = None
    prefill_lead_ms: float | None = None
    draft_lead_ms: float | None = None
    estimated_ttft_ms_without: float | None = None
    first_sentence_ms: float | None = None


class Ledger(Struct, frozen=True):
    """What the head start cost, in tokens; speculated = adopted + wasted, for prefill and drafts.

    ``cost_multiplier`` = (speculated + computed for the answer) / computed without speculation;
    None for an empty turn. ``prefill_by_expert``: speculated, also on those that did not answer.
    """

    prefill_speculated: int = 0
    prefill_adopted: int = 0
    prefill_wasted: int = 0
    draft_speculated: int = 0
    draft_adopted: int = 0
    draft_wasted: int = 0
    drafts: int = 0
    cost_multiplier: float | None = None
    prefill_by_expert: dict[str, int] = {}


class DocumentsUsed(Struct, frozen=True):
    """Ids of the retrieved passages in the prompt.

    Attributes:
        before: those that stand before the user's text, in the order of their ids.
        behind: with ``rag.consistency: early``, late ones, for which what was prepared was not
            given up.
        final: they are those that the committed text finds; otherwise some were found for an
            earlier text (``early``, or the result did not come in time).
    """

    before: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    final: bool = True


class Vote(Struct, frozen=True):
    """What one expert said of a span.

    Attributes:
        choice: its answer in canonical form, or its verdict.
        weight: the log odds of its measured accuracy; above 0.
    """

    expert: str
    choice: str
    weight: float


class Span(Struct, frozen=True):
    """A piece of the answer and how it was settled.

    Attributes:
        author: the expert whose words it is.
        settled_by: ``author`` nobody else was asked; ``verified`` the author's own output, with
            drafted tokens; ``quorum`` enough votes; ``leader`` no votes that count; ``deadline``.
        agreement: the winning share of the votes' weight; None without votes.
        added_ms: after the commit, from the author's first token of it until it was settled.
        before_commit: it was settled before the input ended.
    """

    author: str
    settled_by: Settled
    characters: int
    votes: tuple[Vote, ...] = ()
    agreement: float | None = None
    added_ms: float = 0.0
    before_commit: bool = False


class Abstention(Struct, frozen=True):
    """An expert that was to take part and did not, and why."""

    expert: str
    reason: str


class ConsensusRecord(Struct, frozen=True):
    """How the answer was settled.

    Attributes:
        policy: the one that was used.
        spans: pieces of the answer in order; their characters together are its length.
        abstained: who was to take part and did not.
        generated_tokens: by all experts for this answer, shown or not.
        drafted_tokens_accepted, drafted_tokens_rejected: None where nothing was drafted.
    """

    policy: str
    spans: tuple[Span, ...] = ()
    abstained: tuple[Abstention, ...] = ()
    generated_tokens: int = 0
    drafted_tokens_accepted: int | None = None
    drafted_tokens_rejected: int | None = None


class ResponseDone(Struct, frozen=True):
    """The one terminal event of a turn, whatever its end.

    Attributes:
        status: ``completed``, ``cancelled`` or ``failed``.
        expert: who answered; None if nobody was asked.
        finish_reason: ``stop``, ``length`` or ``tool_calls``; None unless completed.
        usage: None unless an expert told it.
        timings: the server's clock.
        ledger: what the head start cost.
        degraded: what the answer had to do without, in words; empty = nothing.
        error: why it failed; None unless it did.
        documents: the retrieved passages in its prompt.
        consensus: how it was settled; None if nothing was.
        tool_calls: that the answer makes, as far as they were shown.
    """

    type: ClassVar[str] = "response.done"
    response_id: str
    revision: int
    status: Status
    expert: str | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings = field(default_factory=Timings)
    ledger: Ledger = field(default_factory=Ledger)
    degraded: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    documents: DocumentsUsed = field(default_factory=DocumentsUsed)
    consensus: ConsensusRecord | None = None
    tool_calls: tuple[ToolCall, ...] = ()


Delta = ResponseTextDelta | ResponseToolCallDelta | ResponseReasoningDelta
Event = (
    RouteUpdated
    | RetrievalUpdated
    | PrefillUpdated
    | DraftCreated
    | DraftDiscarded
    | DraftAdopted
    | ExpertUpdated
    | ResponseCreated
    | Delta
    | ResponseTextDone
    | ResponseSentence
    | ResponseDone
    | ItemAdded
    | ItemDone
    | ItemTruncated
    | ItemDeleted
    | ItemRetrieved
    | ConversationTrimmed
    | InputIgnored
)


def to_wire(event: Event) -> dict[str, object]:
    """Return the event JSON-ready, ``type`` first; what an error tells the operator is left out."""
    wire = {"type": event.type, **to_builtins(event)}
    if isinstance(error := wire.get("error"), dict):
        del error["cause"]
    return wire
