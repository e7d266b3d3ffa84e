"""The sections of the settings tree: every key, its default, its bounds and what goes together.

What spans sections is checked in ``settings.py``; one expert is in ``experts.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ...backends.engine_args import MOST_IMAGES
from ..consensus.options import Consensus, Gate, PolicyName, Verdict
from ..conversation import Overflow
from ..turn.values import Mode, OnCold
from .experts import Section, from_folder, is_host_entry, url_problem
from .problems import Problem, raise_problems

EncoderName = Literal["all-MiniLM-L6-v2", "multilingual-e5-small"]


class LazyLoadingConfig(Section):
    """Which experts are in memory."""

    enabled: bool = Field(True, description="Load experts on demand; false: all at the start.")
    warmup_pool_size: int = Field(
        1, ge=0, le=1024, description="Experts loaded at the start: the fast one, then by priority."
    )
    max_loaded_experts: int = Field(2, ge=1, le=1024, description="Experts in memory at a time.")
    memory_threshold: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of the machine's memory that a load must leave unexceeded.",
    )
    auto_unload_after_s: float | None = Field(
        None, gt=0, le=2_592_000, description="Unload an unused expert after this; null: never."
    )
    on_cold: OnCold = Field(
        "wait",
        description="Who answers when the expert of a request is not loaded: wait for it; "
        "fallback: the fast expert, if it is, and the response says so.",
    )
    max_queued_requests: int = Field(
        64, ge=1, le=100_000, description="Requests that wait for experts; one more gets a 429."
    )
    queue_timeout_s: float = Field(
        120, gt=0, le=86_400, description="Longest wait for an expert to be loaded, seconds."
    )


class ImagesConfig(Section):
    """Images in chat requests, for experts with ``images``."""

    max_images: int = Field(
        8, ge=0, le=MOST_IMAGES, description="Images of one request, its history included."
    )
    max_bytes: int = Field(
        8_388_608, ge=1024, le=1 << 30, description="Largest image as it comes, bytes."
    )
    max_pixels: int = Field(
        16_777_216, ge=1, le=1 << 30, description="Largest image decoded, pixels."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        max_length=1024,
        description="Hosts that http(s) URLs may name: names, *.example.org, addresses, networks. "
        "An address that is not public must be listed itself. Empty: data: URLs alone.",
    )
    timeout_s: float = Field(5, gt=0, le=600, description="Longest time to fetch one, seconds.")

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not is_host_entry(host):
                raise ValueError(f"got {host!r}, need a host name, *.NAME, an address or a network")
        return hosts


class RagConfig(Section):
    """Retrieval of passages while the user types."""

    enabled: bool = Field(False, description="Fetch passages from the bridge.")
    bridge_url: str = Field("http://127.0.0.1:8001", description="Where the bridge answers.")
    second_bridge_url: str | None = Field(
        None, description="Another bridge with the same documents, for slow final queries."
    )
    bridge_token_file: Path | None = Field(
        None,
        description="File with the token that bridge and server share, mode 600; null: "
        "LIVEMIND_BRIDGE_TOKEN, else the user's own, which the first start makes.",
    )
    collection: str = Field(
        "default", pattern="^[a-z0-9][a-z0-9_-]{0,63}$", description="Where to look."
    )
    mode: Literal["dense", "sparse", "hybrid"] = Field(
        "hybrid", description="By vectors, by words, or by both."
    )
    top_k: int = Field(3, ge=1, le=50, description="Passages of one turn.")
    deadline_ms: float = Field(
        600, gt=0, le=60_000, description="Longest wait for a partial text's passages, ms."
    )
    commit_wait_ms: float = Field(
        60, ge=0, le=60_000, description="Longest wait for the committed text's passages, ms."
    )
    consistency: Literal["final", "early"] = Field(
        "final",
        description="What the answer gets: the committed text's own passages; early: those that "
        "were prepared, as long as they hold its best one, what is missing behind the text.",
    )
    corpus: Path | None = Field(
        None, description="Folder of .md files for the bridge that `serve` starts; null: handbook."
    )
    data: Path | None = Field(
        None, description="Folder of collections for the bridge that `serve` starts; over corpus."
    )
    encoder: EncoderName = Field(
        "all-MiniLM-L6-v2",
        description="Of the corpus and of new collections in the bridge that `serve` starts; "
        "stored ones keep theirs (docs/retrieval.md); multilingual-e5-small: 91 MB, fetched once.",
    )
    min_score: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Cosine below which a passage does not count; null: what parts questions with "
        "an answering passage from others with the collection's encoder; one that has most of the "
        "question's words then needs none (docs/retrieval.md).",
    )

    @field_validator("corpus", "data", "bridge_token_file")
    @classmethod
    def _resolve_folder(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return None if value is None else from_folder(value, info)

    @model_validator(mode="after")
    def _check(self) -> Self:
        urls = {"bridge_url": self.bridge_url, "second_bridge_url": self.second_bridge_url}
        problems = (url_problem(name, url) for name, url in urls.items() if url is not None)
        raise_problems([problem for problem in problems if problem is not None])
        return self


class RouterConfig(Section):
    """From partial text to an expert."""

    embedder: EncoderName = Field(
        "all-MiniLM-L6-v2",
        description="Encoder of the texts that are routed: all-MiniLM-L6-v2 knows English, and "
        "Spanish as far as the classifier learned it; multilingual-e5-small a hundred languages "
        "(docs/languages.md; 91 MB, fetched once).",
    )
    default_expert: str | None = Field(
        None, description="Answers what belongs nowhere; null: the one of highest priority."
    )
    fast_expert: str | None = Field(
        None, description="Prefilled from the first word on, before the route is known; null: none."
    )
    cache_size: int = Field(
        20_000, ge=0, le=10_000_000, description="Texts whose vectors and routes are kept."
    )
    languages: tuple[str, ...] = Field(
        ("en", "es"),
        min_length=1,
        max_length=100,
        description="ISO 639-1 codes that experts without `languages` of their own read; text that "
        "is surely in another goes to multilingual, or to an expert that reads it.",
    )
    default_below: float = Field(
        0.35,
        ge=0,
        le=1,
        description="Score below which a text means nothing and goes to the default expert: random "
        "letters and the like; 0 = never (docs/routing.md).",
    )
    switch_price_per_s: float = Field(
        0.1,
        ge=0,
        le=100,
        description="Probability that leaving a conversation's expert must gain per second of "
        "prefill that it costs.",
    )
    stable_confidence: float = Field(
        0.55,
        ge=0,
        le=1,
        description="Without trained classifier: confidence from which a route can be settled.",
    )
    stable_updates: int = Field(
        2, ge=1, le=100, description="The same: estimates in a row that must agree for it."
    )
    deadline_ms: float = Field(
        500,
        gt=0,
        le=60_000,
        description="Longest wait for a route; then the last one counts, else the default, ms.",
    )
    settle_ms: float = Field(
        250,
        ge=0,
        le=60_000,
        description="Silence after which an unfinished word counts as finished, ms.",
    )


class DomainConfig(Section):
    """A field of questions, by example."""

    examples: tuple[str, ...] = Field(
        min_length=1, max_length=10_000, description="What users ask in this domain."
    )
    builtin: bool = Field(
        True,
        description="Share what is known of general, technical, coding, multilingual or "
        "multimodal if it has this name; false: the examples alone define it.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems(
            Problem(("examples", index), "got blank text, need a question")
            for index, example in enumerate(self.examples)
            if not example.strip()
        )
        return self


class SpeculationConfig(Section):
    """What may be done before the commit, and what it may cost."""

    mode: Mode = Field(
        "draft", description="off; prefill: fill caches only; draft: also answer at pauses."
    )
    slice_tokens: int = Field(
        1024, ge=16, le=65_536, description="Most prompt tokens of one speculative step."
    )
    slice_ms: float = Field(
        80,
        ge=1,
        le=60_000,
        description="Aim for its length; a request may wait behind it, ms. Up to twice that where "
        "any step costs more than half of it.",
    )
    max_prefill_tokens: int = Field(
        16_384, ge=0, le=10_000_000, description="Prompt tokens computed ahead in one turn."
    )
    draft_budget_tokens: int = Field(
        384,
        ge=0,
        le=1_000_000,
        description="Tokens that drafts thrown away may cost in one turn; comes back as the text "
        "settles, an eighth with each word. 0: no drafts.",
    )
    draft_budget_ms: float = Field(
        4000, ge=0, le=600_000, description="The same in time of their experts, ms."
    )
    max_draft_tokens: int = Field(
        256, ge=1, le=65_536, description="Length of a draft, tokens of each of its experts."
    )
    max_waste_ratio: float = Field(
        4.0,
        ge=0,
        le=1000,
        description="Tokens that may be wasted for one that is adopted: what is less likely to be "
        "of use is not prepared, and a session that wastes more drafts no more.",
    )
    start_delay_ms: float = Field(
        30, ge=0, le=10_000, description="Wait after the first input; a paste commits before, ms."
    )
    pause_ms: float = Field(
        400, ge=0, le=60_000, description="Silence after which a draft starts, ms."
    )
    sentence_pause_ms: float = Field(
        80, ge=0, le=60_000, description="The same after a complete sentence, ms."
    )
    between_turns: bool = Field(
        True, description="After an answer, prefill what the session's next turn begins with."
    )
    foreground_share: int = Field(
        40, ge=1, le=10_000, description="One slice per this many tokens of a running answer."
    )


class ConversationConfig(Section):
    """What a session keeps of a conversation, and what leaves it when a context is full."""

    max_items: int = Field(
        4096, ge=4, le=1_000_000, description="Items of a conversation, earlier turns included."
    )
    max_chars: int = Field(
        1_000_000, ge=1, le=1_000_000_000, description="Characters of a conversation."
    )
    overflow: Overflow = Field(
        "passages_then_turns",
        description="When the model's context is full, passages of earlier turns leave the prompt, "
        "then the oldest turns; refuse: nothing does, and the turn fails.",
    )
    keep_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Share of the context that stays when something has to leave; less leaves a "
        "shorter memory, more computes the rest of it anew more often.",
    )
    characters_per_s: float = Field(
        15, gt=0, le=1000, description="Speed of speech, for a truncation that tells a time alone."
    )


class ConsensusConfig(Section):
    """How several experts settle an answer; requests may choose otherwise."""

    policy: PolicyName = Field(
        "auto",
        description="first: the routed expert alone; draft: the same answer sooner, drafts are "
        "verified; verify: the fast expert writes, the others judge; vote: closed answers by "
        "weighted vote; auto: draft where it is possible.",
    )
    experts: tuple[str, ...] = Field(
        (),
        max_length=64,
        description="Who is asked beside the routed expert; empty: who was measured to know its "
        "domain.",
    )
    deadline_ms: float = Field(
        2000,
        gt=0,
        le=600_000,
        description="Longest wait after the commit; vote: for all votes; verify: for each segment, "
        "its verdicts and a takeover, ms.",
    )
    quorum: int = Field(1, ge=1, le=64, description="verify: verdicts that a segment needs.")
    gate: Gate = Field(
        "auto",
        description="verify: segments that wait for their verdicts; auto: those of which the fast "
        "expert is unsure.",
    )
    verdict: Verdict = Field(
        "ask",
        description="verify: judges say yes or no, or their own continuation is compared (for "
        "models that can answer but not judge).",
    )
    accuracy: dict[str, dict[str, Annotated[float, Field(ge=0, le=1)]]] = Field(
        default_factory=dict,
        description="Measured share of right answers by expert and domain: the weight of a vote. "
        "Embedded experts are measured already.",
    )

    def options(self) -> Consensus:
        """Return how answers are settled where a request does not say."""
        return Consensus(
            self.policy,
            self.experts,
            self.deadline_ms / 1000,
            quorum=self.quorum,
            gate=self.gate,
            verdict=self.verdict,
        )
