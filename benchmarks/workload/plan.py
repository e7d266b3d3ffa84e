"""What a TTFT run will ask: cases, and blocks of turns that every arm of the block is asked.

A block is the unit of fairness: the same conversations through each of its arms, one arm after the
other in an order drawn from the seed, so that a drift of the machine hits all of them alike. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from .arms import Arm, Consistency, reference_of
from .arrivals import Arrivals
from .conversations import Conversation
from .recordings import Recording

REQUEST_AT_END = Arm("request-at-end", "request at end", "chat")
LIVE = Arm("live", "typed live", "live", speculation="draft")
PREFILL = Arm("prefill", "typed live, drafts off", "live", speculation="prefill")
DRAFT = Arm("draft", "typed live, a pause before Enter", "live", speculation="draft", pause_s=1.5)
PASTE = Arm("paste", "pasted", "live", speculation="draft", pasted=True)
QUICK_ARMS = (REQUEST_AT_END, LIVE, PREFILL, DRAFT, PASTE)
FINAL_AT_END = Arm("request-at-end", "final transcript at the end", "chat", retrieves=True)
SPEECH = Arm("speech", "partials live", "live", retrieves=True, speculation="draft")
EARLY: Consistency = "early"
INTERFERENCE = "interference"
QUICK_CASES = (*(arm.id for arm in QUICK_ARMS[1:]), INTERFERENCE)


@dataclass(frozen=True, slots=True)
class ExpertCase:
    """One expert under test.

    Attributes:
        expert_id: as the server names it.
        workload: ``workload.FILLER`` or a domain of the embedded experts.
        name: short, for names of cases.
        label: what tables call it.
        suffix: of its summary keys.
        random_params: parameters of a model with random weights; None = it has learned something.
        alone: no other expert shares its tokenizer.
        foreground_tokens: length of the foreground stream in the interference case.
        folder: of a model that the user names; empty = one of the benchmark's own.
    """

    expert_id: str
    workload: str
    name: str
    label: str
    suffix: str
    random_params: int | None = None
    alone: bool = False
    foreground_tokens: int = 0
    folder: str = ""

    @property
    def random_weights(self) -> bool:
        """Whether answers mean nothing; end-of-sequence is ignored then."""
        return self.random_params is not None


@dataclass(frozen=True, slots=True)
class Case:
    """One expert under one load; cadence by name, documents in tokens.

    ``recorded``: the input is a recording, which asks the handbook where no documents are given.
    """

    expert: ExpertCase
    cadence: str
    documents_tokens: int
    suffix: str
    recorded: bool = False

    @property
    def retrieves(self) -> bool:
        """Whether there is something for the bridge to find."""
        return (self.documents_tokens > 0) is not self.recorded

    @property
    def name(self) -> str:
        """Unique in a run."""
        return f"{self.expert.name}/{self.cadence}/{self.documents_tokens}"

    def asks(self, arm: Arm) -> bool:
        """Whether an arm can show anything with this expert."""
        return not (self.expert.alone and arm.needs_a_second_expert)


@dataclass(frozen=True, slots=True)
class Block:
    """Conversations, by number, and the arms that ask each of them."""

    index: int
    conversations: tuple[int, ...]
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. Times in seconds, lengths in tokens.

    Attributes:
        blocks: the same for every case.
        prompts: asked in turn instead of generated conversations; None = generated.
        recordings: the cadences by name, where they are recordings and not models.
        settle_s: rest between two arms of a block.
        interference_pairs: foreground streams alone and beside ``typists``; 0 = none.
    """

    experts: tuple[ExpertCase, ...]
    blocks: tuple[Block, ...]
    cadences: tuple[str, ...] = ("typing-400",)
    documents_tokens: tuple[int, ...] = (1500,)
    turns_per_conversation: int = 1
    prompts: tuple[Conversation, ...] | None = None
    recordings: tuple[Recording, ...] = ()
    seed: int = 1
    max_tokens: int = 32
    arrivals: Arrivals = field(default_factory=Arrivals)
    settle_s: float = 0.3
    interference_pairs: int = 0
    typists: int = 8
    typists_lead_s: float = 1.0

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm of a block, each once, in the order of their first block."""
        return tuple(dict.fromkeys(arm for block in self.blocks for arm in block.arms))

    @property
    def reference(self) -> Arm | None:
        """The arm whose answers the others are compared with."""
        return reference_of(self.arms)

    @property
    def retrieves(self) -> bool:
        """Whether an arm needs the bridge."""
        return any(arm.retrieves for arm in self.arms)

    @property
    def has_consensus(self) -> bool:
        """Whether an arm needs a second expert beside one that is asked."""
        asked = [arm for case in self.cases() for arm in self.arms if case.asks(arm)]
        return any(arm.needs_a_second_expert for arm in asked)

    def cases(self) -> tuple[Case, ...]:
        """Return the cases; the first one of each expert has only the expert's suffix."""
        found = []
        for expert in self.experts:
            for documents in self.documents_tokens:
                for cadence in self.cadences:
                    first = (documents, cadence) == (self.documents_tokens[0], self.cadences[0])
                    more = "" if first else f".{cadence}.{documents}"
                    recorded = self.recording(cadence) is not None
                    length = f"_documents_{documents}" if documents else ""
                    suffix = f".speech.{cadence}{length}" if recorded else expert.suffix + more
                    found.append(Case(expert, cadence, documents, suffix, recorded))
        return tuple(found)

    def recording(self, cadence: str) -> Recording | None:
        """Return the recording that is played as this cadence; None = a model makes the keys."""
        return next((one for one in self.recordings if one.name == cadence), None)

    def asked(self, case: Case, block: Block) -> tuple[int, ...]:
        """Return the conversations of a block that the case has; a recording may be shorter."""
        recording = self.recording(case.cadence)
        if recording is None:
            return block.conversations
        whole = max(1, len(recording.utterances) // self.turns_per_conversation)
        return tuple(number for number in block.conversations if number < whole)

    def steps(self) -> int:
        """Return how many conversations and streams all of it asks for."""
        asked = sum(
            len(self.asked(case, block)) * sum(map(case.asks, block.arms))
            for block in self.blocks
            for case in self.cases()
        )
        return asked + 2 * self.interference_pairs * len(self.experts)


def ablation_blocks(arms: Sequence[Arm], conversations: int, per_block: int) -> tuple[Block, ...]:
    """Return blocks of ``per_block`` conversations, every one in every arm."""
    starts = range(0, conversations, per_block)
    return tuple(
        Block(index, tuple(range(start, min(start + per_block, conversations))), tuple(arms))
        for index, start in enumerate(starts)
    )


def speech_arms(commit_after_ms: Iterable[int | None], *, early: bool = False) -> tuple[Arm, ...]:
    """Return the arms of a recording: at the end, and live with the commit at each of these times.

    Args:
        commit_after_ms: from the last partial; None = when the final transcript was recorded.
        early: each live arm with early documents too (``rag.consistency``).
    """
    live = [
        SPEECH
        if after is None
        else replace(
            SPEECH,
            id=f"{SPEECH.id}-{after}",
            title=f"{SPEECH.title}, commit {after} ms after the last",
            pause_s=after / 1000.0,
        )
        for after in commit_after_ms
    ]
    if early:
        live += [
            replace(
                one,
                id=f"{one.id}-{EARLY}",
                title=f"{one.title}, early documents",
                consistency=EARLY,
            )
            for one in live
        ]
    return (FINAL_AT_END, *live)


def quick_blocks(turns: int, cases: Sequence[str] = QUICK_CASES) -> tuple[Block, ...]:
    """Return the blocks of ``--quick``: typed arms together, each paste with its own reference.

    ``LIVE`` is in every turn; ``DRAFT`` (a pause before Enter, so that a draft is complete) and
    ``PREFILL`` (no drafts at all) take turns, because typing takes most of the time.
    """
    found: list[Block] = []
    for turn in range(turns):
        sometimes = DRAFT if turn % 2 == 0 else PREFILL
        typed = [arm for arm in (LIVE, sometimes) if arm.id in cases]
        groups = [typed] if typed else []
        if PASTE.id in cases:
            groups.append([PASTE])
        for number, arms in enumerate(groups):
            found.append(Block(len(found), (turn * 10 + number,), (REQUEST_AT_END, *arms)))
    return tuple(found)
