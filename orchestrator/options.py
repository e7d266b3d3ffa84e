"""What a client may set on a session, the bounds of all sessions, how two settings differ."""

from __future__ import annotations

from secrets import token_hex
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from ..backends.base import GenerationParams
from .consensus.options import Consensus
from .conversation import ConversationRules
from .event_queue import MAX_BYTES
from .turn.changes import differing
from .turn.partials import InputKind
from .turn.passages.documents import Consistency
from .turn.values import Mode, OnCold, Policy, TranscriptsEqual

Interrupt = Literal["commit", "input"]
Segment = Literal["sentence"]


class SessionOptions(Struct, frozen=True):
    """What a client may set on a session.

    Attributes:
        pinned: an expert id, None = routed.
        instructions: system message.
        documents: passages that stand before the user's text in every turn.
        template: what the chat template is given beside the messages (``tools`` and more), as a
            JSON object.
        cache_salt: sessions with different salts share no prefix cache.
        consensus: how answers are settled.
        on_cold: whether the fast expert answers for one that is not loaded; None = as configured.
        input_kind: whether the text comes from a keyboard or a recogniser; None = found from its
            first changes. A recogniser's words are whole, its marks end no sentence.
        transcripts_equal: ``formatted`` = a draft may answer a final text that differs from its
            own in case, marks and blanks alone: the model then saw the other writing.
        consistency: whether the answer gets the committed text's own documents or those that were
            prepared; None = as configured.
        interrupt: what stops a running answer: ``commit`` = the next commit, ``input`` = new text
            already; None = ``input`` where ``input_kind`` says ``transcript``, else ``commit``.
        segment: ``sentence`` = the answer leaves in sentences too (``response.sentence``).
        between_turns: after an answer the next turn's prefix is prefilled before anybody types.
    """

    pinned: str | None = None
    instructions: str | None = None
    documents: tuple[str, ...] = ()
    speculation: Mode = "draft"
    retrieval: bool = False
    params: GenerationParams = field(default_factory=GenerationParams)
    cache_salt: str | None = None
    consensus: Consensus = field(default_factory=Consensus)
    on_cold: OnCold | None = None
    input_kind: InputKind | None = None
    transcripts_equal: TranscriptsEqual = "exact"
    consistency: Consistency | None = None
    interrupt: Interrupt | None = None
    segment: Segment | None = None
    between_turns: bool = True
    template: str | None = None

    @property
    def interrupted_by(self) -> Interrupt:
        """What stops a running answer."""
        return self.interrupt or ("input" if self.input_kind == "transcript" else "commit")


class Limits(Struct, frozen=True):
    """Bounds of every session."""

    max_text_chars: int = 100_000
    max_queued_events: int = 2048
    max_queued_bytes: int = MAX_BYTES
    turn_timeout_s: float = 300.0
    conversation: ConversationRules = field(default_factory=ConversationRules)


def changed(a: SessionOptions, b: SessionOptions) -> tuple[str, ...]:
    """Return the names, as clients know them, of the options that differ."""
    names = {"pinned": "model"}
    fields = [names.get(f, f) for f in a.__struct_fields__ if getattr(a, f) != getattr(b, f)]
    found = [name for name in fields if name != "params"]
    return (*found, *differing(a.params, b.params))


def in_force(options: SessionOptions, policy: Policy) -> Policy:
    """Return a session's policy: the configuration's with what its options say."""
    return replace(
        policy,
        mode=options.speculation,
        pinned=options.pinned or policy.pinned,
        retrieval=options.retrieval,
        on_cold=options.on_cold or policy.on_cold,
        input_kind=options.input_kind,
        transcripts_equal=options.transcripts_equal,
        consistency=options.consistency or policy.consistency,
    )


def new_session_id() -> str:
    """Return an id that cannot be guessed."""
    return f"sess_{token_hex(16)}"
