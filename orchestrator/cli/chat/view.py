"""What ``livemind chat`` shows: the server's events folded into a status line and a summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BAR_CELLS = 10
Json = dict[str, Any]
Styled = list[tuple[str, str]]


@dataclass(slots=True)
class InputMirror:
    """Knows what the server has of the line being typed, and says it in the shortest frame."""

    text: str = ""

    def change(self, text: str) -> Json | None:
        """Return the frame that brings the server to ``text``, None if it is there."""
        before, self.text = self.text, text
        if text == before:
            return None
        if before and text.startswith(before):
            return {"type": "input_text.append", "text": text[len(before) :]}
        return {"type": "input_text.replace", "text": text}


@dataclass(slots=True)
class ChatView:
    """State of the current turn, as far as the server has told."""

    route: Json | None = None
    retrieval: Json | None = None
    prefill: Json | None = None
    draft: str | None = None
    loading: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    def begin(self) -> None:
        """Forget the last turn."""
        self.route = self.retrieval = self.prefill = None
        self.draft = self.error = None

    def apply(self, event: Json) -> None:
        """Take over what an event says."""
        match event["type"]:
            case "route.updated":
                self.route = event
            case "retrieval.updated":
                self.retrieval = event
            case "prefill.updated":
                self.prefill = event
            case "draft.created":
                self.draft = f"{event['expert']} is drafting"
            case "draft.discarded":
                self.draft = "dropped"
            case "draft.adopted":
                self.draft = f"adopted, {event['tokens']} tokens"
            case "expert.updated":
                self._expert(event)
            case "error":
                self.error = event["error"]["message"]

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

    def _expert(self, event: Json) -> None:
        if event["state"] == "loading":
            self.loading[event["expert"]] = "loads"
        elif event["state"] == "failed":
            self.loading[event["expert"]] = "failed"
        else:
            self.loading.pop(event["expert"], None)

    def _route(self) -> Styled:
        if self.route is None:
            return [("class:dim", "route -")]
        confidence = f" {self.route['confidence']:.2f}"
        return [
            ("", "route "),
            ("class:value", self.route["expert"]),
            ("", confidence),
            *_mark(self.route),
        ]

    def _documents(self) -> Styled:
        if self.retrieval is None:
            return [("class:dim", "documents -")]
        if self.retrieval["degraded"]:
            return [("class:warn", f"documents: {self.retrieval['degraded']}")]
        count = str(len(self.retrieval["passages"]))
        return [("", "documents "), ("class:value", count), *_mark(self.retrieval)]

    def _prefill(self) -> Styled:
        if self.prefill is None:
            return [("class:dim", "prefill -")]
        ready, total = self.prefill["tokens_ready"], self.prefill["tokens_total"]
        filled = min(BAR_CELLS, BAR_CELLS * ready // max(total, 1))
        bar = "█" * filled + "░" * (BAR_CELLS - filled)
        return [("", "prefill "), ("class:value", bar), ("", f" {ready}/{total}")]

    def _draft(self) -> Styled:
        if self.draft is None:
            return [("class:dim", "draft -")]
        return [("", "draft "), ("class:value", self.draft)]

    def _loading(self) -> list[Styled]:
        return [[("class:warn", f"{name} {state}")] for name, state in self.loading.items()]


def summary(done: Json, ttft_ms: float | None) -> str:
    """Return one line about a finished turn: waiting time, lead per stage, what it cost.

    Args:
        done: the ``response.done`` event.
        ttft_ms: from Enter to the first text, on the client's clock; None = no text came.
    """
    times, ledger = done["timings"], done["ledger"]
    parts = ["no text" if ttft_ms is None else f"first word after {_ms(ttft_ms)}"]
    if times["ttft_ms"] is not None:
        parts[0] += f" (server {_ms(times['ttft_ms'])})"
    if times["estimated_ttft_ms_without"] is not None:
        parts[0] += f", without LiveMind about {_ms(times['estimated_ttft_ms_without'])}"
    stages = ("route", "retrieval", "prefill", "draft")
    leads = [(name, times[f"{name}_lead_ms"]) for name in stages]
    told = ", ".join(f"{name} {_ms(lead)}" for name, lead in leads if lead is not None)
    if told:
        parts.append(f"ready before Enter: {told}")
    adopted = ledger["prefill_adopted"] + ledger["draft_adopted"]
    wasted = ledger["prefill_wasted"] + ledger["draft_wasted"]
    parts.append(f"tokens ahead: {adopted} used, {wasted} wasted")
    if done["expert"]:
        parts.insert(0, str(done["expert"]))
    if done["degraded"]:
        parts.append("degraded: " + "; ".join(done["degraded"]))
    return " · ".join(parts)


def _mark(event: Json) -> Styled:
    return [("class:good", " ✓")] if event["stable"] else []


def _ms(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.3g} ms"
