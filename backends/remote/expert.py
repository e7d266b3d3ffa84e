"""An expert behind an OpenAI-compatible HTTP API, vLLM's server or anyone else's.

Translates between LiveMind's values and the wire; connections, retries and errors are
``http.py``'s. What only vLLM understands is used where a probe shows that it works.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import NoReturn

import aiohttp
from msgspec.structs import replace

from ..base import (
    Capabilities,
    Chunk,
    Draft,
    GenerationParams,
    Health,
    Message,
    PrefillResult,
    Priority,
    TokenPrompt,
    joined,
    template_options,
)
from ..drafts import DraftCount, DraftFeed
from ..errors import ExpertError, ExpertUnavailable, PromptRejected, takes_no_images
from ..folding import fold_documents
from ..spec import ExpertSpec
from ..vllm.drafts import DRAFT
from .affinity import affinity_key, digest
from .drafts import drafted_tokens
from .events import BadEvent, chunk_of, event_of, usage_of
from .http import RemoteServers, first_reachable
from .open_turn import CHAT, OPEN_TURN, OpenTurns, ask_open_turns
from .refusals import error_fields, rejected
from .request_body import request_body
from .sse import EventReader, StreamTooLarge

CHARACTERS_PER_TOKEN = 4
PROBE_TIMEOUT_S = 10.0
HEALTH_TIMEOUT_S = 3.0
HEALTH_INTERVAL_S = 5.0
DRAIN_S = 0.5
LAST_WORD_S = 3.0
"""Longest wait for usage and ``[DONE]`` after the finish reason."""


class RemoteExpert:
    """One model on one or more equal servers; sessions stay with the server that prefilled them.

    Args:
        spec: ``base_urls``, ``model`` (default: the expert's id), ``api_key_env``, ``timeout_s``.
        session: makes the HTTP client; tests replace it.
    """

    def __init__(
        self,
        spec: ExpertSpec,
        session: Callable[..., aiohttp.ClientSession] = aiohttp.ClientSession,
    ) -> None:
        self.expert_id = spec.expert_id
        self._spec = spec
        self._model = spec.model or spec.expert_id
        self._servers = RemoteServers(spec, session)
        self._capabilities = Capabilities(open_turn_prefill=False, compute_group="remote")
        self._open_turns = OpenTurns(False)
        self._is_running = False
        self._health = Health(True)
        self._health_until = 0.0

    @property
    def capabilities(self) -> Capabilities:
        """Complete after ``start``."""
        return self._capabilities

    async def start(self) -> None:
        """Reach a server, find the model, and see whether an open turn can be prefilled."""
        self._servers.open()
        try:
            max_model_len = await self._find_model()
            self._open_turns = await ask_open_turns(self._servers, self._model)
            leaves_open = self._open_turns.possible
            self._capabilities = Capabilities(
                max_model_len=max_model_len,
                open_turn_prefill=leaves_open,
                why_no_open_turn=None if leaves_open else "its server ends every turn it is given",
                continues=leaves_open,
                compute_group=f"remote:{self._servers.hosts}",
                max_tokens_default=self._spec.max_tokens_default,
                images=self._spec.images,
                drafts=bool(self._spec.verify_drafts),
            )
        except BaseException:
            await self.stop()
            raise
        self._is_running = True
        self._health, self._health_until = Health(True), _now() + HEALTH_INTERVAL_S

    async def stop(self) -> None:
        """Close the connections; requests in flight fail with ExpertUnavailable."""
        self._is_running = False
        await self._servers.close()

    def render(self, messages: Sequence[Message], *, open_turn: bool) -> TokenPrompt:
        """Fold the documents and estimate the length; the server does the rendering.

        An open turn is cut before its growing word.
        """
        if not messages:
            raise PromptRejected(self.expert_id, "messages is empty", param="messages")
        if open_turn and messages[-1].role != "user":
            message = "the open turn is not the user's"
            raise PromptRejected(self.expert_id, message, param="messages")
        given = TokenPrompt((), 0, tuple(messages))
        if _goes_on(given) and not self._capabilities.continues:
            message = "this server cannot continue an answer"
            raise PromptRejected(self.expert_id, message, param="messages")
        if any(message.images for message in messages) and not self._spec.images:
            raise takes_no_images(self.expert_id)
        folded = fold_documents(messages)
        if open_turn:
            folded[-1] = replace(folded[-1], content=_whole_words(folded[-1].content))
        characters = sum(len(message.content) for message in folded)
        estimate = characters // CHARACTERS_PER_TOKEN + 4 * len(folded)
        return TokenPrompt((), estimate, messages=tuple(folded), open_turn=open_turn)

    @property
    def tokenizer(self) -> None:
        """None: it is the server's."""

    def tokenize(self, text: str | Sequence[int]) -> TokenPrompt:
        """Estimate the length of a plain prompt."""
        if not text:
            raise PromptRejected(self.expert_id, "the prompt is empty", param="prompt")
        if not isinstance(text, str):
            return TokenPrompt(tuple(text), len(text), text="")
        return TokenPrompt((), len(text) // CHARACTERS_PER_TOKEN + 1, text=text)

    async def prefill(self, prompt: TokenPrompt, *, priority: Priority) -> PrefillResult:
        """Ask for one token and throw it away; ``priority`` is told with ``send_priorities``.

        Raises:
            PromptRejected: an open turn, which this server cannot prefill.
        """
        if prompt.open_turn and not self._capabilities.open_turn_prefill:
            raise PromptRejected(self.expert_id, "this server cannot prefill an open turn")
        began = time.perf_counter()
        params = GenerationParams(max_tokens=1, temperature=0.0)
        body = self._body(prompt, params, priority)
        answer = await self._servers.post_json(_path(prompt), body, key=_key(prompt))
        usage = usage_of(answer)
        tokens = usage.prompt_tokens if usage is not None else prompt.num_tokens
        cached = usage.cached_tokens if usage is not None else None
        return PrefillResult(cached, tokens - (cached or 0), (time.perf_counter() - began) * 1000)

    async def generate(
        self,
        prompt: TokenPrompt,
        params: GenerationParams,
        *,
        priority: Priority,
        request_id: str,
        draft: Draft | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """Stream the answer; see ``Expert.generate``.

        Events that arrive together make one chunk. Of a feed only what has been drafted by now is
        sent.
        """
        if prompt.open_turn:
            raise PromptRejected(self.expert_id, "an open turn can only be prefilled")
        body = self._body(prompt, params, priority) | {
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        drafted = None
        if self._capabilities.drafts:
            drafted = await drafted_tokens(self._servers, self._model, _key(prompt), params, draft)
        count = None if drafted is None else DraftCount(DraftFeed.of(drafted))
        if drafted:
            body["vllm_xargs"] = {DRAFT: drafted}
        end: list[Chunk] = []  # from the finish reason on: the usage may follow
        reader = EventReader()
        async with self._servers.stream(_path(prompt), body, key=_key(prompt)) as response:
            content = response.content.iter_any()
            if _is_whole(response):
                yield self._whole(await self._servers.read(response))
                return
            while (block := await self._next(content, ending=bool(end))) is not None:
                chunks: list[Chunk] = []
                try:
                    for line in self._lines(reader, block):
                        if (chunk := self._chunk(line)) is None:
                            continue
                        if count is not None:
                            count.saw(chunk.token_ids)
                        ended = bool(end) or chunk.finish_reason is not None
                        (end if ended else chunks).append(chunk)
                except ExpertError:
                    if chunks:
                        yield joined(chunks)
                    raise
                if chunks:
                    yield joined(chunks)
                if reader.done:
                    break
            end += filter(None, map(self._chunk, reader.end()))
            if reader.done and not response.content.at_eof():
                await _drain(content)
        if not end:
            raise self._servers.unavailable("the answer broke off")
        last = joined(end)
        if last.usage is not None and count is not None:
            accepted, rejected = count.accepted_and_rejected()
            usage = replace(
                last.usage, accepted_draft_tokens=accepted, rejected_draft_tokens=rejected
            )
            last = replace(last, usage=usage)
        yield last

    async def health(self) -> Health:
        """Whether any server can be reached (slow is reached); asked every few seconds."""
        if not self._is_running:
            return Health(False, "the expert is not running")
        if _now() >= self._health_until:
            self._health_until = _now() + HEALTH_INTERVAL_S
            answers = await self._ask_all("/v1/models", HEALTH_TIMEOUT_S)
            reached = any(not isinstance(a, ExpertUnavailable) for a in answers)
            detail = "" if reached else f"{self._servers.hosts}: cannot be reached"
            self._health = Health(reached, detail)
        return self._health

    async def _next(self, blocks: AsyncIterator[bytes], *, ending: bool) -> bytes | None:
        """Return the next block, None at the end.

        An answer that has its finish reason is complete: some servers leave its connection open.
        """
        if not ending:
            return await anext(blocks, None)
        try:
            async with asyncio.timeout(LAST_WORD_S):
                return await anext(blocks, None)
        except TimeoutError:
            return None

    def _whole(self, content: bytes) -> Chunk:
        """Return an answer that did not come as a stream, as one chunk."""
        chunk = self._chunk(content.decode("utf-8", "replace"))
        if chunk is None:
            raise self._servers.unavailable("an answer without a choice")
        return chunk if chunk.finish_reason is not None else replace(chunk, finish_reason="stop")

    def _lines(self, reader: EventReader, block: bytes) -> list[str]:
        try:
            return reader.feed(block)
        except StreamTooLarge as error:
            raise self._servers.unavailable(str(error)) from error

    def _chunk(self, line: str) -> Chunk | None:
        """Return what an event adds to the answer, None if it adds nothing.

        Raises:
            ExpertError: it is not of the expected form, or it reports an error.
        """
        try:
            event = event_of(line)
            if event.error is not None:
                self._raise_error(event.error)
            return chunk_of(event)
        except BadEvent as error:
            raise self._servers.unavailable(str(error)) from error

    def _raise_error(self, error: object) -> NoReturn:
        message, param, code = error_fields({"error": error})
        status = error.get("code") if isinstance(error, dict) else None
        if isinstance(status, int) and 400 <= status < 500:
            raise rejected(self.expert_id, message, param, code)
        said = f"{self._servers.hosts}: {message}"
        raise ExpertUnavailable(self.expert_id, said, shown="the expert's server failed")

    def _body(
        self, prompt: TokenPrompt, params: GenerationParams, priority: Priority
    ) -> dict[str, object]:
        body = request_body(self._model, prompt, params)
        if self._spec.send_priorities and priority:
            body["priority"] = int(priority)
        if "max_tokens" not in body and self._fits(prompt, self._spec.max_tokens_default):
            body["max_tokens"] = self._spec.max_tokens_default
        if params.clamp and not self._fits(prompt, params.max_tokens or 0):
            body.pop("max_tokens", None)  # then the server's limit is what the context leaves
        if prompt.open_turn or _goes_on(prompt):
            body |= OPEN_TURN
        if "return_token_ids" in self._open_turns.fields:
            body["return_token_ids"] = True
        if prompt.cache_salt is not None and "cache_salt" in self._open_turns.fields:
            body["cache_salt"] = prompt.cache_salt
        return body

    def _fits(self, prompt: TokenPrompt, tokens: int) -> bool:
        limit = self._capabilities.max_model_len
        return limit is None or 2 * prompt.num_tokens + tokens <= limit

    async def _ask_all(self, path: str, timeout_s: float) -> list[object]:
        asked = (self._servers.get_json(n, path, timeout_s=timeout_s) for n in self._servers.nodes)
        return list(await asyncio.gather(*asked, return_exceptions=True))

    async def _find_model(self) -> int | None:
        """Return the model's context limit, if its server tells it.

        Raises:
            ExpertUnavailable: no server can be reached, or it does not serve the model.
        """
        timeout_s = min(PROBE_TIMEOUT_S, self._spec.start_timeout_s)
        answer = first_reachable(await self._ask_all("/v1/models", timeout_s))
        cards = answer.get("data", []) if isinstance(answer, dict) else []
        served = {card.get("id"): card for card in cards if isinstance(card, dict)}
        if self._model not in served:
            names = ", ".join(sorted(map(str, served))) or "no model"
            message = f"{self._servers.hosts} serves {names}, not {self._model!r}"
            shown = "the expert's server does not serve its model"
            raise ExpertUnavailable(self.expert_id, message, shown=shown)
        limit = served[self._model].get("max_model_len")
        return limit if isinstance(limit, int) else None


def _whole_words(text: str) -> str:
    """Return the text without a last word that may still grow, and without the blanks before it."""
    if text[-1:].isspace():
        return text.rstrip()
    head = text.rsplit(None, 1)
    return head[0] if len(head) == 2 else ""


def _is_whole(response: aiohttp.ClientResponse) -> bool:
    """Whether the server answers with one JSON value, although it was asked for a stream."""
    return response.headers.get("Content-Type", "").startswith("application/json")


def _path(prompt: TokenPrompt) -> str:
    return "/v1/completions" if prompt.text is not None else CHAT


def _key(prompt: TokenPrompt) -> str:
    """Return what the requests of this conversation have in common."""
    key = affinity_key.get()
    if key is not None:
        return key
    if prompt.text is not None:
        return digest(prompt.text[:256] or repr(prompt.token_ids[:64]))
    said = [message for message in prompt.messages if message.role != "template"]
    first = next((n for n, message in enumerate(said) if message.role == "user"), 0)
    return digest(*(message.content for message in said[: first + 1]))


def _goes_on(prompt: TokenPrompt) -> bool:
    """Whether the model is to continue the last message."""
    if not prompt.messages or prompt.messages[-1].role != "assistant":
        return False
    return not template_options(prompt.messages).get("add_generation_prompt")


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _drain(blocks: AsyncIterator[bytes]) -> None:
    """Read what follows the last event, normally nothing: the connection can then be used again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in blocks:
                pass
