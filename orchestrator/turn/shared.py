"""What the engine's parts have in common: the shared objects of a server, and who listens.

No behaviour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from ...backends.base import Chunk, Expert, GenerationParams, Message
from ...backends.pool.pool import Pool
from ...rag.base import RetrievalResult, Retriever
from ..consensus.follow import Acceptance
from ..consensus.report import Report
from ..consensus.team import Team
from ..errors import ErrorInfo
from ..events import ResponseDone, Status
from ..fairness.places import Places
from ..gate import SpeculationGate
from ..rates import ExpertRates
from ..routing.estimate import RouteEstimate
from ..routing.router import Router
from .passages.outlook import Outlook


class Computed(Struct, frozen=True):
    """A piece of a prompt that a session brought into an expert's cache.

    Attributes:
        prompt: the prompt's tokens up to the end of the piece; empty where they are not known here.
        tokens: computed for it, the last ones of ``prompt``.
        reaches: tokens of the whole prompt, where the expert does not tell what it found in its
            cache and ``tokens`` are counted by what was sent before; else None.
        ms: how long that took.
    """

    prompt: tuple[int, ...]
    tokens: int
    reaches: int | None = None
    ms: float | None = None


class Listener(Protocol):
    """The session, as the engine sees it. Every method is synchronous and does not raise."""

    def routed(self, text: str, estimate: RouteEstimate) -> None:
        """A route was estimated for ``text``."""

    def retrieved(self, text: str, result: RetrievalResult) -> None:
        """Passages, or the reason for their absence, arrived for ``text``."""

    def prefilled(
        self, expert: str, revision: int, ready: int, total: int, computed: Computed
    ) -> None:
        """A slice was computed; ``ready`` of ``total`` tokens are in the expert's cache."""

    def draft_ready(self, draft_id: str, computed_tokens: int) -> None:
        """The draft has its first token; so much of its prompt no slice had computed before."""

    def prompt_computed(self, expert: str, tokens: int) -> None:
        """So much of a prompt was computed in hiding to vote, judge or draft beside an answer."""

    def draft_cut(self, tokens: int) -> None:
        """A paused draft gave up this many tokens at its end."""

    def draft_lost(self, draft_id: str, reason: str) -> None:
        """The draft cannot be adopted any more."""

    def answer_begun(self, report: Report) -> None:
        """The answer has an author, who goes on filling this report."""

    def answer_chunk(self, chunk: Chunk) -> None:
        """A piece of the committed answer."""

    def answer_ended(self, status: Status, error: ErrorInfo | None) -> None:
        """The answer is over, the engine's slot free."""


class TurnItems(Protocol):
    """The items of the conversation, as its turns change them; see ``items.SessionItems``."""

    def answer(self, so_far: Callable[[], str]) -> str:
        """The answer begins; return its item's id."""

    def tell_answer(self) -> None:
        """The response was told of: tell of its item."""

    async def fit(
        self,
        expert: Expert,
        before: Sequence[Message],
        own: Sequence[Message],
        params: GenerationParams,
    ) -> bool:
        """Let things leave until the turn fits the expert; return whether any had to.

        Long texts are counted beside the event loop.
        """

    def messages(self) -> tuple[Message, ...]:
        """Return what the model sees."""

    def ended(
        self,
        done: ResponseDone,
        own: Sequence[Message],
        text: str,
        expert: Expert | None,
        system: Sequence[Message],
    ) -> None:
        """The turn is over."""


@dataclass(slots=True)
class Shared:
    """What all sessions of a server share; used on one event loop.

    Attributes:
        places: in front of the experts, in turn for the keys of those who ask.
        slice_ms: how long a slice of speculative prefill should take at most.
        acceptances: of the drafts of one expert (first) for another.
        outlook: of the documents that are found for a beginning; of all sessions' turns.
    """

    pool: Pool
    router: Router
    gate: SpeculationGate
    places: Places = field(default_factory=Places, kw_only=True)
    retriever: Retriever | None = None
    max_draft_tokens: int = 256
    slice_ms: float = 80.0
    team: Team = field(default_factory=Team)
    rates: defaultdict[str, ExpertRates] = field(default_factory=lambda: defaultdict(ExpertRates))
    acceptances: defaultdict[tuple[str, str], Acceptance] = field(
        default_factory=lambda: defaultdict(Acceptance)
    )
    outlook: Outlook = field(default_factory=Outlook)
