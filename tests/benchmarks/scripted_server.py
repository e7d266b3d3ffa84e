"""The harness's fake server with latencies, texts and failures that are data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from livemind.benchmarks.harness.fake_server import (
    LAST_EVENT,
    SESSION,
    STREAM,
    Connection,
    FakeServer,
    Writes,
    event,
    frame,
    whole,
)
from livemind.orchestrator.errors import ErrorInfo

Json = dict[str, Any]


@dataclass
class ScriptedServer(FakeServer):
    """Answers "one two three" after ``chat_s`` (chat), ``typed_s`` or ``paste_s`` (live commit).

    ``fail_live_turns``: live commits (from 0) that end as failed; ``live_answer``: another
    text over the live door; ``tie``: how far its second word is behind in the chat's logprobs.
    """

    chat_s: float = 0.0
    typed_s: float = 0.0
    paste_s: float = 0.0
    token_s: float = 0.0
    token_s_beside_typing: float = 0.0
    fail_live_turns: frozenset[int] = frozenset()
    drop_live: bool = False
    refuse_chat: str | None = None
    live_answer: str = "one two three"
    tie: float = 0.0
    draft_tokens: int = 3
    owner: str = "livemind"
    prompt_tokens_live: int = 100
    chats: list[Json] = field(default_factory=list)
    updates: list[Json] = field(default_factory=list)
    typed: list[str] = field(default_factory=list)
    commits: int = 0
    most_at_a_time: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def models(self) -> Json:
        names = ("random-100m", "technical")
        return {"data": [{"id": n, "owned_by": self.owner} for n in names]}

    def chat(self, asked: Json) -> Writes:
        self.chats.append(asked)
        if self.refuse_chat is not None:
            return [(0.0, [whole({"error": {"message": self.refuse_chat}}, "400 Bad Request")])]
        found = [STREAM + event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})]
        for word in ("one", " two", " three"):
            choice: Json = {"delta": {"content": word}, "finish_reason": None}
            if asked.get("logprobs"):
                rival = {"token": " 2", "logprob": -1.0 - self.tie}
                one = {"token": word, "logprob": -1.0, "top_logprobs": [rival]}
                choice["logprobs"] = {"content": [one]}
            found.append(event({"choices": [choice]}))
        usage: Json = {"prompt_tokens": 100, "completion_tokens": 3}
        usage["prompt_tokens_details"] = {"cached_tokens": 0}
        found[-1] += event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        found[-1] += event({"choices": [], "usage": usage}) + LAST_EVENT
        gap_s = self.token_s_beside_typing if self._open_sockets else self.token_s
        if not gap_s:
            return [(0.0, found[:1]), (self.chat_s, found[1:])]
        return [(0.0, found[:1])] + [
            (self.chat_s + n * gap_s, [part]) for n, part in enumerate(found[1:])
        ]

    @property
    def _open_sockets(self) -> int:
        return sum(one.is_live for one in self.connections)

    def live(self, talk: Connection, told: Json) -> Writes | None:
        kind = told["type"]
        if kind == "session.update":
            self.updates.append(told)
            self.most_at_a_time = max(self.most_at_a_time, self._open_sockets)
            return [(0.0, [frame({"type": "session.updated", "session": SESSION})])]
        if kind in ("input_text.append", "input_text.replace"):
            talk.text = told["text"] if kind.endswith("replace") else talk.text + told["text"]
            named = {"revision": told["revision"], "expert": "random-100m"}
            tokens = {"tokens_ready": len(talk.text), "tokens_total": len(talk.text)}
            return [(0.0, [frame({"type": "prefill.updated", **named, **tokens})])]
        self.typed.append(talk.text)
        is_pasted, talk.text = not talk.text, ""
        return self._answer(is_pasted=is_pasted)

    def _answer(self, *, is_pasted: bool) -> Writes | None:
        number, self.commits = self.commits, self.commits + 1
        if self.drop_live:
            return None
        named: Json = {"response_id": "r", "revision": 1, "expert": "random-100m"}
        done: Json = {"type": "response.done", **named}
        tokens = {"prompt_tokens": self.prompt_tokens_live, "cached_tokens": 96}
        done["usage"] = {**tokens, "completion_tokens": 3}
        error = ErrorInfo(503, "engine died", "server_error", None, "unavailable")
        failed = {**done, "status": "failed", "error": asdict(error)}
        draft = {"type": "draft.adopted", "draft_id": "d", "tokens": self.draft_tokens, **named}
        delta = {"response_id": "r", "delta": self.live_answer}
        events = [] if is_pasted else [draft]
        events.append({"type": "response.output_text.delta", **delta})
        timings = {"ttft_ms": 1.5}
        events.append({**done, "status": "completed", "timings": timings, "ledger": {}})
        told = [failed] if number in self.fail_live_turns else events
        return [(self.paste_s if is_pasted else self.typed_s, list(map(frame, told)))]
