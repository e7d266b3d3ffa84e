"""The ledger of one turn: what was speculated, used and answered, and when each stage was ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...backends.base import Chunk, FinishReason, Message, TokenPrompt, ToolCallDelta, Usage
from ...backends.messages import joined_calls
from ..consensus.report import Report
from ..consensus.task import tokens_of
from ..errors import ErrorInfo
from ..events import (
    ConsensusRecord,
    Delta,
    DocumentsUsed,
    Ledger,
    ResponseDone,
    ResponseReasoningDelta,
    ResponseTextDelta,
    ResponseToolCallDelta,
    Status,
    Timings,
)
from ..rates import ExpertRates
from ..words import common_length
from .shared import Computed


@dataclass(slots=True)
class TurnRecord:
    """Counts, moments (seconds of the loop's clock) and answer of one turn; its session's alone.

    Attributes:
        expert: who answers; None until the answer begins.
        committed: the turn's own messages, as the expert sees them.
        shown, calls: the pieces of text and of tool calls that left the session.
        ended: the terminal event; None before it.
        degraded: what the answer had to do without.
        documents: the retrieved passages that the answer was given.
        draft_prompt: prompt tokens that the newest draft computed itself.
        draft_paused: it was broken off; what another request found includes what it computed.
        reached: tokens of the newest prompt that went to an expert which does not tell what it
            found in its cache.
        placed: what the session computed of prompts whose tokens are known, by expert.
        usage_estimated: an answer that was broken off did not tell what it found in the cache.
        sentences: that left the session.
        report: how the answer came to be; None until it begins.
    """

    expert: str | None = None
    committed: tuple[Message, ...] = ()
    shown: list[str] = field(default_factory=list)
    calls: list[ToolCallDelta] = field(default_factory=list)
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    degraded: tuple[str, ...] = ()
    documents: DocumentsUsed = field(default_factory=DocumentsUsed)
    first_input_s: float | None = None
    commit_s: float | None = None
    first_delta_s: float | None = None
    first_sentence_s: float | None = None
    shown_tokens: int = 0
    shown_ids: list[int] = field(default_factory=list)
    sentences: int = 0
    usage_estimated: bool = False
    route_stable_s: dict[str, float] = field(default_factory=dict)
    documents_frozen_s: float | None = None
    prefill_ready_s: dict[str, float] = field(default_factory=dict)
    draft_ready_s: float | None = None
    prefilled: Counter[str] = field(default_factory=Counter)
    reached: dict[str, int] = field(default_factory=dict)
    drafts: int = 0
    placed: dict[str, list[Computed]] = field(default_factory=dict)
    draft_prompt: int = 0
    draft_paused: bool = False
    draft_speculated: int = 0
    draft_adopted: int = 0
    draft_wasted: int = 0
    report: Report | None = None
    ended: ResponseDone | None = None

    def saw(self, chunk: Chunk, now_s: float) -> bool:
        """Take a chunk of the answer into the record; return whether it shows anything.

        What the last chunks say of the whole answer is kept; a server may send both apart.
        """
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
        shows = bool(chunk.text or chunk.logprobs or chunk.tool_calls or chunk.reasoning)
        if shows and self.first_delta_s is None:
            self.first_delta_s = now_s
        return shows

    def committed_at(self, arrived_s: float) -> None:
        """Note when the commit came in: before it was taken up, as the text with it may have been.

        Text that came in the same frames was noted when it was taken up.
        """
        self.commit_s = arrived_s
        if self.first_input_s is not None:
            self.first_input_s = min(self.first_input_s, arrived_s)

    def left(self, now_s: float) -> None:
        """Note that the first piece of the answer is on its way to the client by now."""
        self.first_delta_s = now_s
        if self.first_sentence_s is not None:  # it stands in that piece
            self.first_sentence_s = max(self.first_sentence_s, now_s)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the answer's prompt; 0 before it was rendered."""
        prompt = self.report.prompt if self.report is not None else None
        return 0 if prompt is None else prompt.num_tokens

    def text(self) -> str:
        """Return what was shown of the answer."""
        return "".join(self.shown)

    def showed(self, chunk: Chunk) -> None:
        """Note a piece of the answer that left the session."""
        self.shown.append(chunk.text)
        self.calls += chunk.tool_calls
        self.shown_tokens += tokens_of(chunk)
        self.shown_ids += chunk.token_ids

    def computed(self, expert: str, piece: Computed) -> None:
        """Count a piece of a prompt that went into the expert's cache."""
        self.prefilled[expert] += piece.tokens
        if piece.reaches is not None:
            self.reached[expert] = piece.reaches
        if not piece.prompt:
            return
        pieces = self.placed.setdefault(expert, [])
        start = len(piece.prompt) - piece.tokens
        if pieces and pieces[-1].prompt == piece.prompt[:start]:
            piece = Computed(piece.prompt, pieces.pop().tokens + piece.tokens)
        pieces.append(piece)

    def cached(self) -> tuple[int, ...]:
        """Return the tokens that the answer left in its expert's cache; nothing if not known.

        Those of the last token were not computed.
        """
        prompt = self.report.prompt if self.report is not None else None
        if prompt is None or not prompt.token_ids:
            return ()
        return (*prompt.token_ids, *self.shown_ids)[:-1]

    def sent(self) -> tuple[TokenPrompt, str, int] | None:
        """Return prompt, text and their tokens of an answer whose tokens are not known here."""
        prompt = self.report.prompt if self.report is not None else None
        if prompt is None or self.usage is None or prompt.token_ids:
            return None
        return prompt, self.text(), self.usage.prompt_tokens + self.usage.completion_tokens

    def complete_usage(self) -> None:
        """Fill in the usage of a broken off answer: the prompt as rendered, the text as shown."""
        prompt = self.report.prompt if self.report is not None else None
        if self.usage is None and prompt is not None:
            self.usage, self.usage_estimated = Usage(prompt.num_tokens, self.shown_tokens), True

    def end(
        self,
        response_id: str,
        revision: int,
        status: Status,
        error: ErrorInfo | None,
        *,
        now_s: float,
        rates: ExpertRates | None,
    ) -> ResponseDone:
        """Return the one terminal event: that of the first call, whatever later ones say."""
        if self.ended is not None:
            return self.ended
        estimate = None
        if self.usage is not None and rates is not None:
            estimate = rates.ttft_ms(self.usage.prompt_tokens)
        self.ended = ResponseDone(
            response_id,
            revision,
            status,
            self.expert,
            self.finish_reason,
            self.usage,
            self.timings(now_s, estimate),
            self.ledger(),
            self.degraded,
            error,
            self.documents,
            self._consensus(),
            joined_calls(self.calls),
        )
        return self.ended

    def _adopted(self, expert: str, usage: Usage, by_draft: int) -> int:
        """Return the tokens of the answer's prompt that this turn brought into the cache."""
        prompt = self.report.prompt if self.report is not None else None
        cached = self._found(expert, usage)
        if prompt is None or not prompt.token_ids:
            return cached + by_draft
        if by_draft and not self.draft_paused:  # what it found it did not compute
            by_draft = min(by_draft, usage.prompt_tokens - cached)
        return _covered(self.placed.get(expert, ()), prompt.token_ids, cached) + by_draft

    def _found(self, expert: str, usage: Usage) -> int:
        """Return the prompt tokens that the expert found; where it does not tell, what it was sent.

        That is counted by what the newest prompt shares with those before it.
        """
        if usage.cached_tokens is not None:
            return usage.cached_tokens
        if self.usage_estimated:
            return 0
        sent = min(self.prefilled[expert], self.reached.get(expert, 0))
        return min(sent, usage.prompt_tokens)

    def _consensus(self) -> ConsensusRecord | None:
        if self.report is None:
            return None
        characters = sum(map(len, self.shown))
        return self.report.record(self.commit_s, characters, _drafted(self.usage))

    def timings(self, now_s: float, estimated_ttft_ms: float | None) -> Timings:
        """Return the turn's timings; a stage that was not ready before the commit has no lead."""
        expert = self.expert or ""
        return Timings(
            typing_ms=_ms(self.first_input_s, self.commit_s),
            ttft_ms=_ms(self.commit_s, self.first_delta_s),
            total_ms=_ms(self.commit_s, now_s),
            route_lead_ms=_lead(self.route_stable_s.get(expert), self.commit_s),
            retrieval_lead_ms=_lead(self.documents_frozen_s, self.commit_s),
            prefill_lead_ms=_lead(self.prefill_ready_s.get(expert), self.commit_s),
            first_sentence_ms=_ms(self.commit_s, self.first_sentence_s),
            draft_lead_ms=_lead(self.draft_ready_s, self.commit_s) if self.draft_adopted else None,
            estimated_ttft_ms_without=estimated_ttft_ms,
        )

    def ledger(self) -> Ledger:
        """Balance the ledger: speculated = adopted + wasted.

        Prefilled tokens count as adopted as far as they are part of the answer's prompt and the
        expert found that part in its cache, and as far as an adopted draft computed its prompt
        itself. What somebody else put into the cache is not adopted; what others computed of a
        prompt in hiding, to vote, judge or draft, is wasted. Of a server that does not say what it
        found, what it was sent is taken for found, and the cost is unknown; one that was cancelled
        before counts as one that found nothing.
        """
        expert, usage = self.expert, self.usage
        late = self.report.adopted_late if self.report is not None else 0
        draft_adopted = self.draft_adopted + late
        speculated = sum(self.prefilled.values())
        adopted = 0
        multiplier = None
        if expert is not None and usage is not None:
            by_draft = self.draft_prompt if self.draft_adopted else 0
            found = min(self._found(expert, usage) + by_draft, usage.prompt_tokens)
            adopted = min(self.prefilled[expert], found, self._adopted(expert, usage, by_draft))
            plain = usage.prompt_tokens + usage.completion_tokens
            spent = speculated + self.draft_speculated + plain - found - draft_adopted
            is_told = usage.cached_tokens is not None or not self.reached
            if plain > 0 and not self.usage_estimated and is_told:
                multiplier = round(spent / plain, 4)
        return Ledger(
            prefill_speculated=speculated,
            prefill_adopted=adopted,
            prefill_wasted=speculated - adopted,
            draft_speculated=self.draft_speculated,
            draft_adopted=draft_adopted,
            draft_wasted=self.draft_wasted - late,
            drafts=self.drafts,
            cost_multiplier=multiplier,
            prefill_by_expert={name: tokens for name, tokens in self.prefilled.items() if tokens},
        )


def deltas(response_id: str, chunk: Chunk) -> list[Delta]:
    """Return what a chunk of an answer shows, in order: thoughts, text, calls; perhaps nothing."""
    shown: list[Delta] = []
    if chunk.reasoning:
        shown.append(ResponseReasoningDelta(response_id, chunk.reasoning))
    if chunk.text or chunk.logprobs:
        text = ResponseTextDelta(response_id, chunk.text, chunk.token_ids, chunk.logprobs)
        shown.append(text)
    for call in chunk.tool_calls:
        piece = ResponseToolCallDelta(response_id, call.index, call.id, call.name, call.arguments)
        shown.append(piece)
    return shown


def turn_timeout(limit_s: float) -> ErrorInfo:
    """Return why a turn ends that has taken ``server.turn_timeout_s``."""
    message = f"no answer within {limit_s:g} s (server.turn_timeout_s)"
    return ErrorInfo(504, message, "timeout", None, "timeout")


def _covered(pieces: Sequence[Computed], prompt: tuple[int, ...], found: int) -> int:
    """Return how many of the first ``found`` tokens of a prompt one of the pieces brought."""
    spans = []
    for piece in pieces:
        start = len(piece.prompt) - piece.tokens
        spans.append((start, min(common_length(piece.prompt, prompt), found)))
    covered = reached = 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _drafted(usage: Usage | None) -> tuple[int, int] | None:
    if usage is None or usage.accepted_draft_tokens is None:
        return None
    return usage.accepted_draft_tokens, usage.rejected_draft_tokens or 0


def _ms(start_s: float | None, end_s: float | None) -> float | None:
    if start_s is None or end_s is None:
        return None
    return round((end_s - start_s) * 1000, 3)


def _lead(ready_s: float | None, commit_s: float | None) -> float | None:
    lead = _ms(ready_s, commit_s)
    return lead if lead is not None and lead >= 0 else None
