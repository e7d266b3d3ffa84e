"""What the harness asks, as a request's body and as a session's options. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...orchestrator.client.options import LiveOptions
from ..workload.arms import Consistency, Policy, Speculation
from ..workload.typing_model import Key

TOP_LOGPROBS = 5
AUTO = "auto"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One conversation as an arm asks it: same prompts, same sampling, its own prefix cache.

    Attributes:
        model: its name, or ``AUTO`` where the server finds it.
        salt: prefix cache blocks are shared only between prompts of one salt, so a fresh salt per
            arm makes the cache cold without changing a token.
        ignore_eos: always ``max_tokens`` tokens; for random weights.
        documents: passages that stand before the first question.
        retrieval: the server fetches documents itself.
        consistency: whose documents the answer gets; None = as the server is configured.
        consensus: how the answer is settled; None = as the server is configured.
        transcript: the text comes from a recogniser; a live session is told so.
        logprobs: ask for the best tokens at each place; a live session cannot.
    """

    model: str
    salt: str
    max_tokens: int
    ignore_eos: bool = False
    instructions: str | None = None
    documents: tuple[str, ...] = ()
    retrieval: bool = False
    consistency: Consistency | None = None
    speculation: Speculation = "off"
    consensus: Policy | None = None
    transcript: bool = False
    logprobs: bool = False

    def sampling(self) -> Json:
        """Return greedy sampling in the field names that all doors share."""
        fields: Json = {"max_tokens": self.max_tokens, "temperature": 0.0}
        return {**fields, "ignore_eos": True} if self.ignore_eos else fields

    def options(self) -> LiveOptions:
        """Return the options of a live session for the same conversation."""
        options = LiveOptions(
            model=self.model,
            documents=self.documents,
            sampling=self.sampling(),
            cache_salt=self.salt,
            retrieval=self.retrieval,
            speculation=self.speculation,
        )
        if self.consensus is not None:
            options["consensus"] = self.consensus
        if self.consistency is not None:
            options["consistency"] = self.consistency
        if self.instructions is not None:
            options["instructions"] = self.instructions
        if self.transcript:  # an option of the server that ``LiveOptions`` does not list
            return cast(LiveOptions, {**options, "input": {"kind": "transcript"}})
        return options


@dataclass(frozen=True, slots=True)
class Said:
    """What a user does in one turn.

    Attributes:
        keys: how the text comes into being; a door that takes only finished text does not send
            them, but waits as long when ``paced``.
        late_documents: stand behind the question; only the bare engine can be asked so.
    """

    text: str
    keys: tuple[Key, ...] = ()
    think_s: float = 0.0
    paced: bool = False
    late_documents: tuple[str, ...] = ()


def openai_body(ask: Ask, messages: Sequence[Mapping[str, str]]) -> Json:
    """Return the body of a streaming ``POST /v1/chat/completions``; standard fields alone."""
    logprobs = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if ask.logprobs else {}
    return {
        "model": ask.model,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        **logprobs,
        **ask.sampling(),
    }


def chat_body(
    ask: Ask, messages: Sequence[Mapping[str, str]], documents: Sequence[str] = ()
) -> Json:
    """Return the same for LiveMind, with its own fields."""
    named = ("cache_salt", "retrieval", "speculation", "consensus")
    own = {name: value for name, value in ask.options().items() if name in named}
    told = {"livemind": True} if ask.retrieval else {}  # the answer names its documents
    return {**openai_body(ask, messages), "documents": list(documents), **own, **told}
