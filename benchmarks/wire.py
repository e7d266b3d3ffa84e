"""The frames and bodies that the harness sends, and what it reads back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .identity import TokenChoice
from .workload import TurnInput

TOP_LOGPROBS = 5
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One turn as every arm asks it: same prompt, same sampling, its own prefix cache.

    Attributes:
        salt: prefix cache blocks are shared only between prompts of one salt, so a fresh salt per
            arm makes the cache cold without changing a token.
        ignore_eos: always ``max_tokens`` tokens; for random weights.
        logprobs: ask for the best tokens at each place; only ``chat_body`` does.
        drafts: whether a live session may answer in hiding before the commit; else it prefills.
    """

    model: str
    turn: TurnInput
    salt: str
    max_tokens: int
    ignore_eos: bool
    logprobs: bool = False
    drafts: bool = True

    def sampling(self) -> Json:
        """Return greedy sampling in the field names that both doors share."""
        fields: Json = {"max_tokens": self.max_tokens, "temperature": 0.0}
        return {**fields, "ignore_eos": True} if self.ignore_eos else fields


def chat_body(ask: Ask) -> Json:
    """Return the body of a streaming ``POST /v1/chat/completions``."""
    logprobs = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if ask.logprobs else {}
    return {
        "model": ask.model,
        "messages": [{"role": "user", "content": ask.turn.question}],
        "documents": list(ask.turn.documents),
        "cache_salt": ask.salt,
        "retrieval": False,
        "speculation": "off",
        "stream": True,
        "stream_options": {"include_usage": True},
        **logprobs,
        **ask.sampling(),
    }


def session_update(ask: Ask) -> Json:
    """Return the ``session.update`` frame that opens the same turn on a live session."""
    return {
        "type": "session.update",
        "model": ask.model,
        "documents": list(ask.turn.documents),
        "cache_salt": ask.salt,
        "retrieval": False,
        "speculation": "draft" if ask.drafts else "prefill",
        "sampling": ask.sampling(),
    }


def append(text: str, revision: int) -> Json:
    """Return the frame of one key."""
    return {"type": "input_text.append", "text": text, "revision": revision}


def commit(text: str, revision: int) -> Json:
    """Return the frame of Enter; the final text wins over what was typed."""
    return {"type": "input_text.commit", "text": text, "revision": revision}


def chat_tokens(logprobs: Mapping[str, Any] | None) -> tuple[TokenChoice, ...]:
    """Return the tokens of a chunk's ``choices[0].logprobs``."""
    entries: Iterable[Mapping[str, Any]] = (logprobs or {}).get("content") or ()
    return tuple(
        TokenChoice(
            entry["token"],
            entry["logprob"],
            tuple((top["token"], top["logprob"]) for top in entry.get("top_logprobs", ())),
        )
        for entry in entries
    )
