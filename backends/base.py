"""The seam between LiveMind and a language model: one protocol and the values that cross it.

Owns the request and chunk types. Knows nothing of sessions, routing, HTTP or any engine.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from enum import IntEnum
from typing import Literal, Protocol

from msgspec import Struct

from .drafts import DraftFeed
from .messages import (
    Image as Image,
    Message as Message,
    MessageDetails as MessageDetails,
    Role as Role,
    ToolCall as ToolCall,
    ToolCallDelta as ToolCallDelta,
    template_options as template_options,
)
from .sampling import (
    GenerationParams as GenerationParams,
    StructuredOutput as StructuredOutput,
    ToolChoice as ToolChoice,
)

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Draft = Sequence[int] | DraftFeed | str


class TokenPrompt(Struct, frozen=True):
    """A prompt as one expert sees it.

    Attributes:
        token_ids: the prompt's tokens; empty when the tokenizer lives on another machine.
        messages: what was rendered, empty for a plain text prompt (``text`` is set then).
        text: the plain prompt of ``tokenize``, else None; empty for one given as tokens.
        open_turn: the prompt ends inside the last user turn and can only be prefilled.
        cache_salt: only prompts with the same salt share prefix cache blocks; None shares with all.
        images: in the order of the conversation; each has one mark in ``token_ids``, in whose place
            the engine puts as many tokens as the image takes.
        read: thoughts or tool calls are read out of its answer, from the first token on.
        num_tokens: ``len(token_ids)``, or an estimate (characters / 4) without a local tokenizer.
    """

    token_ids: tuple[int, ...]
    num_tokens: int
    messages: tuple[Message, ...] = ()
    text: str | None = None
    open_turn: bool = False
    cache_salt: str | None = None
    images: tuple[Image, ...] = ()
    read: bool = False

    def slice(self, num_tokens: int) -> TokenPrompt:
        """Return the first ``num_tokens`` tokens as an open prompt (local tokenizer only)."""
        return TokenPrompt(
            self.token_ids[:num_tokens], num_tokens, open_turn=True, cache_salt=self.cache_salt
        )


class Priority(IntEnum):
    """Scheduling priority inside an engine; lower runs first (vLLM's convention)."""

    FOREGROUND = 0
    SPECULATIVE = 10


class TokenLogprob(Struct, frozen=True):
    """Log-probability (natural logarithm) of one token and of its best alternatives.

    Attributes:
        token, token_id: its text, which may be half a character, and its id.
        logprob: <= 0; NaN for the first token of a prompt, before which there is nothing.
        top: (token text, token id, logprob), best first; as many as ``logprobs`` asked for.
    """

    token: str
    token_id: int
    logprob: float
    top: tuple[tuple[str, int, float], ...] = ()


class Usage(Struct, frozen=True):
    """Token counts of one request.

    Attributes:
        prompt_tokens: of the prompt, whether cached or not.
        completion_tokens: of the answer.
        cached_tokens: of the prompt, found in the prefix cache; None when the expert does not tell.
        accepted_draft_tokens: of the draft, taken over by the answer; None when there was no draft
            or it could not be verified.
        rejected_draft_tokens: the rest of the draft, None likewise; both together are its length.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    accepted_draft_tokens: int | None = None
    rejected_draft_tokens: int | None = None


class Chunk(Struct, frozen=True):
    """A piece of the answer; the last one carries ``finish_reason`` and ``usage``.

    Attributes:
        text: what it adds, perhaps nothing: a token may end inside a character.
        token_ids: its tokens, several where a draft was verified; empty when the expert does not
            tell.
        logprobs: one entry a token if they were asked for, else None.
        finish_reason: ``stop``, ``length`` or ``tool_calls`` on the last chunk, else None.
        usage: on the last chunk, else None.
        tool_calls: pieces of the calls that the answer makes, in order.
        reasoning: what it adds to the thoughts before the answer; they are no part of ``text``.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()
    reasoning: str = ""


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Return consecutive chunks, at least one, as one; the last finish reason and usage count."""
    if len(chunks) == 1:
        return chunks[0]
    logprobs = [entry for chunk in chunks for entry in chunk.logprobs or ()]
    return Chunk(
        "".join([chunk.text for chunk in chunks]),
        tuple([token for chunk in chunks for token in chunk.token_ids]),
        tuple(logprobs) if any(chunk.logprobs is not None for chunk in chunks) else None,
        next((c.finish_reason for c in reversed(chunks) if c.finish_reason is not None), None),
        next((c.usage for c in reversed(chunks) if c.usage is not None), None),
        tuple([piece for chunk in chunks for piece in chunk.tool_calls]),
        "".join([chunk.reasoning for chunk in chunks]),
    )


class PrefillResult(Struct, frozen=True):
    """What a prefill did.

    Attributes:
        cached: tokens found in the prefix cache; None when the expert does not tell.
        computed: tokens computed now; without ``cached`` all of the prompt, a part of which may
            have been found.
        ms: wall time of the request, its wait in the engine included.
    """

    cached: int | None
    computed: int
    ms: float


class Capabilities(Struct, frozen=True):
    """What an expert can do.

    Attributes:
        tokenizer_id: equal for two experts exactly if they tokenize alike; None = unknown.
        max_model_len: context limit in tokens, prompt and answer together; None = unknown.
        prefix_block_tokens: KV block size; only full blocks of a prefix are reused.
        open_turn_prefill: whether a prompt that ends inside the user turn can be prefilled.
        why_no_open_turn: why it cannot, in a few words; None where it can.
        logprobs: whether it can report log-probabilities.
        compute_group: experts of one group compete for the same hardware.
        max_tokens_default: answer length when a request names none; None = unknown.
        images: whether messages may hold images; others are refused by ``render``.
        drafts: whether a draft is verified, several tokens per step; otherwise it is ignored.
        continues: whether an answer can be begun for it; see ``Expert.render``.
        self_test: what it did when it was asked after its start, in words; None = it was not.
        dtype, kv_cache_dtype: number formats it computes and caches in; None = not known here.
    """

    tokenizer_id: str | None = None
    max_model_len: int | None = None
    prefix_block_tokens: int = 16
    open_turn_prefill: bool = True
    why_no_open_turn: str | None = None
    logprobs: bool = True
    images: bool = False
    compute_group: str = "local"
    max_tokens_default: int | None = None
    drafts: bool = False
    continues: bool = True
    self_test: str | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None


class Health(Struct, frozen=True):
    """State of an expert: ``ok`` says whether a request would be taken now; ``detail`` why not."""

    ok: bool
    detail: str = ""


class Tokenizer(Protocol):
    """From text to tokens and back, for whoever counts them; no limit holds. Blocks, no I/O."""

    def encode(
        self, prompt: str | Sequence[Message], *, add_special_tokens: bool = True
    ) -> tuple[int, ...]:
        """Return the tokens of a text, or of a conversation with its chat template.

        ``add_special_tokens``: those that the tokenizer puts around a text by itself.

        Raises:
            PromptRejected: the template refuses the conversation.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included.

        Raises:
            PromptRejected: there is no such token; ``param`` is ``tokens``.
        """
        ...

    def strings(self, token_ids: Sequence[int]) -> list[str]:
        """Return each token as the vocabulary has it; raises what ``decode`` raises."""
        ...

    def info(self) -> dict[str, object]:
        """Return ``tokenizer_class``, ``chat_template`` and the rest of the configuration; JSON."""
        ...


class Expert(Protocol):
    """A language model that can prefill and generate. One instance serves many tasks at once.

    ``start`` before anything else; ``stop`` is idempotent and frees every process and socket.
    Every method raises only ``ExpertError`` (see ``errors.py``) and ``asyncio.CancelledError``.
    """

    expert_id: str

    @property
    def capabilities(self) -> Capabilities:
        """Known after ``start``."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Known after ``start``; None where it is on another machine."""
        ...

    async def start(self) -> None:
        """Load the model; takes seconds to minutes. Cancelling stops what was started.

        Raises:
            ExpertUnavailable: it does not start; the cause in one line.
        """
        ...

    async def stop(self) -> None:
        """Abort what runs and release everything: processes, sockets, memory. Idempotent."""
        ...

    def render(self, messages: Sequence[Message], *, open_turn: bool) -> TokenPrompt:
        """Render a conversation with the chat template and tokenize it.

        With ``open_turn`` the last user message is left open: no end-of-turn, no generation prompt,
        cut back to a boundary such that ``render(open)`` is a prefix of every ``render`` whose last
        user text continues this one. Without it a conversation that ends with the assistant is
        rendered so that the answer goes on right after that text (``capabilities.continues``).
        Blocks for microseconds to a few milliseconds, no I/O.

        Raises:
            PromptRejected: the prompt does not fit ``max_model_len``, the template refuses it, or
                it holds images and the expert takes none.
        """
        ...

    def tokenize(self, text: str | Sequence[int]) -> TokenPrompt:
        """Tokenize a plain prompt, as it is (``/v1/completions``); tokens are one. Blocks, no I/O.

        Raises:
            PromptRejected: it does not fit ``max_model_len``, or holds tokens that there are not.
        """
        ...

    async def prefill(self, prompt: TokenPrompt, *, priority: Priority) -> PrefillResult:
        """Bring the prompt's full blocks into the prefix cache; cancelling aborts it there.

        Args:
            prompt: open or closed; what lies behind its last full block is not computed for later.
            priority: SPECULATIVE yields to every answer in the engine's queue.

        Raises:
            ExpertError: the engine failed, or is not there.
        """
        ...

    def generate(
        self,
        prompt: TokenPrompt,
        params: GenerationParams,
        *,
        priority: Priority,
        request_id: str,
        draft: Draft | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """Stream the answer. Closing the iterator or cancelling aborts the request in the engine.

        Args:
            prompt: from ``render`` (closed turn) or ``tokenize``.
            params: every field that is not None reaches the engine or is refused by name.
            priority: FOREGROUND goes first.
            request_id: unique; appears in the engine's logs. Prompts never do.
            draft: a proposed continuation of the prompt: token ids, text (tokenized here), or a
                feed that another expert is still writing; default ``params.prediction``. An expert
                with ``capabilities.drafts`` verifies it: a chunk may carry several tokens, and
                the answer is the one without a draft: the same tokens when greedy (up to ties, as
                a step over several tokens rounds differently), the same distribution when sampled,
                though a seed yields another sample. Requests with ``min_p`` or ``logit_bias``
                cannot be verified and ignore it.

        Yields:
            Chunks in order; the last one has ``finish_reason`` and ``usage``.

        Raises:
            PromptRejected: prompt or parameters can never work here.
            ExpertOverloaded: its queue is full; retryable.
            ExpertTimeout: no token for ``timeout_s``; retryable.
            ExpertUnavailable: it is not running, or ended meanwhile; retryable.
        """
        ...

    async def health(self) -> Health:
        """Ask the engine whether it is alive. Never raises."""
        ...
