"""What ``livemind chat`` shows: the server's events folded into a status line and a summary."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...client.events import LiveEvent
from ...events import (
    DraftAdopted,
    DraftCreated,
    DraftDiscarded,
    ExpertUpdated,
    PrefillUpdated,
    ResponseDone,
    RetrievalUpdated,
    RouteUpdated,
)
from ...server.live.answers import ErrorFrame

BAR_CELLS = 10
Styled = list[tuple[str, str]]


@dataclass(slots=True)
class ChatView:
    """State of the current turn, as far as the server has told."""

    route: RouteUpdated | None = None
    retrieval: RetrievalUpdated | None = None
    prefill: PrefillUpdated | None = None
    draft: str | None = None
    loading: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    def begin(self) -> None:
        """Forget the last turn."""
        self.route = self.retrieval = self.prefill = None
        self.draft = self.error = None

    def apply(self, event: LiveEvent) -> None:
        """Take over what an event says."""
        match event:
            case RouteUpdated():
                self.route = event
            case RetrievalUpdated():
                self.retrieval = event
            case PrefillUpdated():
                self.prefill = event
            case DraftCreated():
                self.draft = f"{event.expert} is drafting"
            case DraftDiscarded():
                self.draft = "dropped"
            case DraftAdopted():
                self.draft = f"adopted, {event.tokens} tokens"
            case ExpertUpdated():
                self._expert(event)
            case ErrorFrame():
                self.error = event.error.message

    def toolbar(self) -> Styled:
        """Return the status line as styled fragments."""
        if self.error is not None:
            return [("class:error", f" {self.error} ")]
        parts = [self._route(), self._documents(), self._prefill(), self._draft(), *self._loading()]
        line: Styled = [("", " ")]
        for number, part in enumerate(parts):
            if number:
                line.append(("class:rule", "  │  "))
            line += part
        return line

    def status_line(self) -> str:
        """Return the status line as plain text."""
        return "".join(text for _, text in self.toolbar()).strip()

    def _expert(self, event: ExpertUpdated) -> None:
        if event.state == "loading":
            self.loading[event.expert] = "loads"
        elif event.state == "failed":
            self.loading[event.expert] = "failed"
        else:
            self.loading.pop(event.expert, None)

    def _route(self) -> Styled:
        if self.route is None:
            return [("class:dim", "route -")]
        return [
            ("", "route "),
            ("class:value", self.route.expert),
            ("", f" {self.route.confidence:.2f}"),
            *_mark(self.route.stable),
        ]

    def _documents(self) -> Styled:
        if self.retrieval is None:
            return [("class:dim", "documents -")]
        if self.retrieval.degraded:
            return [("class:warn", f"documents: {self.retrieval.degraded}")]
        count = str(len(self.retrieval.passages))
        return [("", "documents "), ("class:value", count), *_mark(self.retrieval.stable)]

    def _prefill(self) -> Styled:
        if self.prefill is None:
            return [("class:dim", "prefill -")]
        ready, total = self.prefill.tokens_ready, self.prefill.tokens_total
        filled = min(BAR_CELLS, BAR_CELLS * ready // max(total, 1))
        bar = "█" * filled + "░" * (BAR_CELLS - filled)
        return [("", "prefill "), ("class:value", bar), ("", f" {ready}/{total}")]

    def _draft(self) -> Styled:
        if self.draft is None:
            return [("class:dim", "draft -")]
        return [("", "draft "), ("class:value", self.draft)]

    def _loading(self) -> list[Styled]:
        return [[("class:warn", f"{name} {state}")] for name, state in self.loading.items()]


def summary(done: ResponseDone, ttft_ms: float | None) -> str:
    """Return one line about a finished turn: waiting time, lead per stage, what it cost.

    Args:
        done: its last event.
        ttft_ms: from Enter to the first text, on the client's clock; None = no text came.
    """
    times, ledger = done.timings, done.ledger
    parts = ["no text" if ttft_ms is None else f"first word after {_ms(ttft_ms)}"]
    if times.ttft_ms is not None:
        parts[0] += f" (server {_ms(times.ttft_ms)})"
    if times.estimated_ttft_ms_without is not None:
        parts[0] += f", without LiveMind about {_ms(times.estimated_ttft_ms_without)}"
    leads = {
        "route": times.route_lead_ms,
        "retrieval": times.retrieval_lead_ms,
        "prefill": times.prefill_lead_ms,
        "draft": times.draft_lead_ms,
    }
    told = ", ".join(f"{name} {_ms(lead)}" for name, lead in leads.items() if lead is not None)
    if told:
        parts.append(f"ready before Enter: {told}")
    adopted = ledger.prefill_adopted + ledger.draft_adopted
    wasted = ledger.prefill_wasted + ledger.draft_wasted
    parts.append(f"tokens ahead: {adopted} used, {wasted} wasted")
    if done.expert:
        parts.insert(0, done.expert)
    if done.degraded:
        parts.append("degraded: " + "; ".join(done.degraded))
    return " · ".join(parts)


def _mark(stable: bool) -> Styled:
    return [("class:good", " ✓")] if stable else []


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.3g} ms"
