"""A scripted expert for tests and demonstrations: no model, truthful latencies and cache counts.

Tokens are whitespace-separated words. Time passes through ``asyncio.sleep`` alone, so a virtual
clock works. Deterministic: the answer depends on the prompt only.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace

from .base import (
    Capabilities,
    Chunk,
    Draft,
    FinishReason,
    GenerationParams,
    Health,
    Message,
    PrefillResult,
    Priority,
    TokenLogprob,
    TokenPrompt,
    Usage,
    template_options,
)
from .drafts import DraftCount, DraftCursor, DraftFeed
from .errors import ExpertError, ExpertUnavailable, PromptRejected, takes_no_images
from .fake_script import (
    Words,
    called,
    echoed,
    goes_on,
    left_of,
    pieces_of,
    rest_of,
    token_id_of,
)

VERIFIED_AT_ONCE = 8


def echo(messages: Sequence[Message]) -> str:
    """Answer with the last user text in upper case."""
    users = [message.content for message in messages if message.role == "user"]
    return users[-1].upper() if users else ""


class FakeExpert:
    """An expert whose latency, answers and failures are data.

    Args:
        expert_id: its name.
        answer: the answer to a conversation (a plain prompt is one user message).
        start_s: time ``start`` takes; ttft_s: fixed time before the first token;
        prefill_token_s: added per prompt token that is not cached; token_s: per further token.
        block_tokens: prefix cache block size; only full blocks are reused.
        max_model_len: context limit, None = none.
        compute_group: see ``Capabilities``.
        drafts: verify drafts: a step of ``token_s`` yields the drafted tokens that are right, up to
            eight, and one more.
        images: take images, one token each.

    Switches, to be set at any time: ``start_error`` and ``refuse`` are raised by ``start`` and by
    requests; ``crash_after_tokens`` kills the engine in mid-answer, ``start`` brings it back;
    ``crash()`` kills it now. Counters: ``started`` ``aborted`` ``running`` ``peak`` (requests),
    ``starts`` ``stops`` (engine), ``prefilled_tokens`` (computed, not cached),
    ``generated_tokens``, ``steps`` (of generation).
    """

    def __init__(
        self,
        expert_id: str = "fake",
        *,
        answer: Callable[[Sequence[Message]], str] = echo,
        start_s: float = 0.0,
        ttft_s: float = 0.0,
        prefill_token_s: float = 0.0,
        token_s: float = 0.0,
        block_tokens: int = 4,
        max_model_len: int | None = None,
        compute_group: str = "local",
        drafts: bool = False,
        images: bool = False,
    ) -> None:
        self.expert_id = expert_id
        self.answer = answer
        self.start_s = start_s
        self.ttft_s = ttft_s
        self.prefill_token_s = prefill_token_s
        self.token_s = token_s
        self.start_error: ExpertError | None = None
        self.refuse: ExpertError | None = None
        self.crash_after_tokens: int | None = None
        self.started = self.aborted = self.running = self.peak = 0
        self.starts = self.stops = self.prefilled_tokens = self.generated_tokens = 0
        self.steps = 0
        self.priorities: list[Priority] = []
        self._words = Words(lambda said: self.render(said, open_turn=False).token_ids)
        self._alive = False
        self._blocks: set[int] = set()
        self._capabilities = Capabilities(
            "words",
            max_model_len,
            block_tokens,
            images=images,
            compute_group=compute_group,
            drafts=drafts,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Fixed at construction."""
        return self._capabilities

    @property
    def tokenizer(self) -> Words:
        """Its tokens are known once they were encoded."""
        return self._words

    async def start(self) -> None:
        """Take ``start_s``, then be alive with an empty cache, or raise ``start_error``."""
        self.starts += 1
        await asyncio.sleep(self.start_s)
        if self.start_error is not None:
            raise self.start_error
        self._blocks.clear()
        self._alive = True

    async def stop(self) -> None:
        """Requests in flight fail with ExpertUnavailable at their next token."""
        self.stops += 1
        self._alive = False

    def crash(self) -> None:
        """Die now."""
        self._alive = False

    def render(self, messages: Sequence[Message], *, open_turn: bool) -> TokenPrompt:
        """Render roles as marker words; an open turn drops the word that may still grow."""
        ids: list[int] = []
        options = template_options(messages)
        is_open_end = open_turn or goes_on(messages, options)
        for number, message in enumerate(messages):
            if message.images and not self._capabilities.images:
                raise takes_no_images(self.expert_id)
            words = [f"<|image {zlib.crc32(image.data)}|>" for image in message.images]
            words += message.content.split()
            for call in message.details.tool_calls:
                words += [call.name, *call.arguments.split()]
            is_last = number == len(messages) - 1
            if open_turn and is_last and message.role != "user":
                raise PromptRejected(self.expert_id, "the open turn is not the user's")
            if open_turn and is_last and words and not message.content[-1].isspace():
                words.pop()
            is_open = is_last and is_open_end
            words = [f"<|{message.role}|>", *words, *(() if is_open else ("<|end|>",))]
            ids += map(token_id_of, words)
        if not is_open_end and options.get("add_generation_prompt") is not False:
            ids.append(token_id_of("<|assistant|>"))
        read = bool(options.get("tools"))
        told = tuple(messages)
        return self._checked(
            TokenPrompt(tuple(ids), len(ids), told, open_turn=open_turn, read=read)
        )

    def tokenize(self, text: str | Sequence[int]) -> TokenPrompt:
        """One token per word; tokens are told as their numbers."""
        if not isinstance(text, str):
            words = " ".join(map(str, text))
            return self._checked(TokenPrompt(tuple(text), len(text), text=words))
        ids = tuple(map(token_id_of, text.split()))
        return self._checked(TokenPrompt(ids, len(ids), text=text))

    async def prefill(self, prompt: TokenPrompt, *, priority: Priority) -> PrefillResult:
        """Put the prompt's full blocks into the cache after the time that takes."""
        began = asyncio.get_running_loop().time()
        async with self._request(priority):
            cached = await self._compute(prompt)
        elapsed_ms = (asyncio.get_running_loop().time() - began) * 1000
        return PrefillResult(cached, len(prompt.token_ids) - cached, elapsed_ms)

    async def generate(
        self,
        prompt: TokenPrompt,
        params: GenerationParams,
        *,
        priority: Priority,
        request_id: str,
        draft: Draft | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """Stream the scripted answer word by word, or step by step along a draft."""
        if prompt.open_turn:
            raise PromptRejected(self.expert_id, "an open turn can only be prefilled")
        messages = prompt.messages or (Message("user", prompt.text or ""),)
        text = rest_of(self.answer, messages)
        tools = params.tool_choice != "none" and bool(template_options(messages).get("tools"))
        text, calls = called(text) if tools else (text, ())
        pieces, reason = self._script(text, prompt, params)
        said = len(pieces)
        if reason == "stop" and calls:
            pieces, reason = [*pieces, *(f" {c.name or c.arguments}" for c in calls)], "tool_calls"
        ids = tuple(token_id_of(piece.strip()) for piece in pieces)
        feed = self._feed(params, draft)
        count = DraftCount(feed)
        async with self._request(priority):
            cached = await self._compute(prompt)
            usage = Usage(len(prompt.token_ids), len(pieces), cached)
            if params.echo and prompt.text is not None:
                yield echoed(prompt, params)
            for begin, end in _steps(ids, feed):
                if begin:
                    await asyncio.sleep(self.token_s)
                if self.crash_after_tokens is not None and begin <= self.crash_after_tokens < end:
                    self.crash_after_tokens = None
                    self._alive = False
                self._check_alive()
                self.steps += 1
                self.generated_tokens += end - begin
                count.saw(ids[begin:end])
                last = end == len(pieces)
                accepted, rejected = count.accepted_and_rejected()
                usage = replace(
                    usage, accepted_draft_tokens=accepted, rejected_draft_tokens=rejected
                )
                shown = tuple(
                    TokenLogprob(piece, token_id, 0.0, ((piece, token_id, 0.0),))
                    for piece, token_id in zip(pieces[begin:end], ids[begin:end], strict=True)
                )
                yield Chunk(
                    "".join(pieces[begin : min(end, said)]),
                    ids[begin:end],
                    None if params.logprobs is None else shown,
                    reason if last else None,
                    usage if last else None,
                    tuple(calls[max(0, begin - said) : max(0, end - said)]),
                )
            self._remember(prompt, ids)
            if not pieces:
                yield Chunk("", finish_reason=reason, usage=usage)

    def _feed(self, params: GenerationParams, draft: Draft | None) -> DraftFeed | None:
        draft = params.prediction if draft is None else draft
        biased = params.min_p or params.logit_bias
        if draft is None or biased or not self._capabilities.drafts:
            return None
        if isinstance(draft, DraftFeed):
            return draft
        return DraftFeed.of(self.tokenize(draft).token_ids if isinstance(draft, str) else draft)

    async def health(self) -> Health:
        """Alive or not."""
        return Health(self._alive, "" if self._alive else "the engine is not running")

    def _script(
        self, text: str, prompt: TokenPrompt, params: GenerationParams
    ) -> tuple[list[str], FinishReason]:
        for stop in params.stop:
            text = text.partition(stop)[0]
        pieces: list[str] = left_of(pieces_of(text), prompt)
        limit = params.max_tokens
        if self._capabilities.max_model_len is not None:
            room = self._capabilities.max_model_len - len(prompt.token_ids)
            if limit is not None and limit > room and not params.clamp:
                name = params.max_tokens_name
                message = f"{name}={limit} does not fit: the context has room for {room} tokens"
                raise PromptRejected(self.expert_id, message, param=name)
            limit = room if limit is None else min(limit, room)
        if limit is not None and len(pieces) > limit:
            return pieces[:limit], "length"
        return pieces, "stop"

    @asynccontextmanager
    async def _request(self, priority: Priority) -> AsyncIterator[None]:
        self._check_alive()
        if self.refuse is not None:
            raise self.refuse
        self.priorities.append(priority)
        self.started += 1
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted += 1
            raise
        finally:
            self.running -= 1

    async def _compute(self, prompt: TokenPrompt) -> int:
        cached = self.cached_tokens(prompt)
        computed = len(prompt.token_ids) - cached
        await asyncio.sleep(self.ttft_s + computed * self.prefill_token_s)
        self._check_alive()
        self.prefilled_tokens += computed
        self._remember(prompt)
        return cached

    def cached_tokens(self, prompt: TokenPrompt) -> int:
        """Tokens of the prompt that a request would find now; the last one is always computed."""
        cached = 0
        for end, block in self._chain(prompt.cache_salt, prompt.token_ids):
            if block not in self._blocks or end == len(prompt.token_ids):
                break
            cached = end
        return cached

    def _remember(self, prompt: TokenPrompt, answer: tuple[int, ...] = ()) -> None:
        chain = self._chain(prompt.cache_salt, prompt.token_ids + answer)
        self._blocks.update(block for _, block in chain)

    def _chain(self, salt: str | None, ids: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        """Yield where each full block ends, and what stands for all tokens up to there."""
        size = self._capabilities.prefix_block_tokens
        key = hash(salt)
        for end in range(size, len(ids) + 1, size):
            key = hash((key, ids[end - size : end]))
            yield end, key

    def _check_alive(self) -> None:
        if not self._alive:
            raise ExpertUnavailable(self.expert_id, "the engine is not running")

    def _checked(self, prompt: TokenPrompt) -> TokenPrompt:
        limit = self._capabilities.max_model_len
        if limit is not None and prompt.num_tokens + 1 > limit:
            raise PromptRejected(
                self.expert_id,
                f"the prompt has {prompt.num_tokens} tokens, the context limit is {limit}",
                param="prompt" if prompt.text is not None else "messages",
                code="context_length_exceeded",
            )
        return prompt


def _steps(ids: tuple[int, ...], feed: DraftFeed | None) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of what each step yields; a step verifies what is drafted by then."""
    cursor, begin = DraftCursor(), 0
    while begin < len(ids):
        proposal: list[int] = []
        if feed is not None:
            cursor.extend(feed.tokens[len(cursor) :])
            proposal = cursor.propose(VERIFIED_AT_ONCE) if begin else []
        end = begin + 1
        for drafted in proposal:
            if end == len(ids) or drafted != ids[end - 1]:
                break
            end += 1
        cursor.advance(ids[begin:end])
        yield begin, end
        begin = end
