"""An expert that is a vLLM engine of this process: prefix caching, priorities, streaming.

Translates between LiveMind's values and vLLM's; the engine's processes are ``process.py``'s, its
exceptions ``errors.py``'s, the chat template ``render.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

from msgspec.structs import replace as with_fields

from ..base import (
    Capabilities,
    Chunk,
    Draft,
    FinishReason,
    GenerationParams,
    Health,
    Message,
    PrefillResult,
    Priority,
    TokenPrompt,
    Usage,
    template_options,
)
from ..doctor.number_formats import fit_alone, tell_formats
from ..drafts import DraftCount, DraftFeed
from ..errors import ExpertError, ExpertTimeout, ExpertUnavailable, PromptRejected
from ..spec import ExpertSpec
from .answer_reader import AnswerParsers, AnswerReader, Read
from .drafts import DRAFT, DRAFT_ID, is_ours
from .errors import translate
from .images import engine_input, image_mark
from .learned import after_self_test, capabilities_of
from .prepare import prefill_lengths, verify_lengths
from .process import EngineProcess
from .render import Renderer
from .sampling import check_room, echoed_text, sampling_params, token_logprobs
from .self_test import self_test

log = logging.getLogger(__name__)

_SELF_TEST_TEXT = " ".join(f"{number} is a number." for number in range(400))
_FINISH: dict[str, FinishReason] = {"stop": "stop", "repetition": "stop", "length": "length"}


class VllmExpert:
    """One model in one vLLM engine.

    Args:
        spec: its settings; see ``engine_args.py`` for how they reach the engine.
    """

    def __init__(self, spec: ExpertSpec) -> None:
        self.expert_id = spec.expert_id
        self._spec = spec
        self._process: EngineProcess | None = None
        self._engine: Any = None
        self._renderer: Renderer | None = None
        self._parsers: AnswerParsers | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._waits: set[asyncio.Timeout] = set()  # for the next token, one a request
        self._defaults: dict[str, Any] = {}
        self._capabilities = Capabilities(prefix_block_tokens=spec.block_size)

    @property
    def capabilities(self) -> Capabilities:
        """Complete after ``start``."""
        return self._capabilities

    @property
    def tokenizer(self) -> Renderer:
        """Known after ``start``."""
        return self._running_renderer()

    def process_ids(self) -> tuple[int, ...]:
        """Process ids of the running engine: EngineCore first, then its workers."""
        return self._process.process_ids() if self._process is not None else ()

    async def start(self) -> None:
        """Start the engine and let it compute one token, so that what cannot work fails here."""
        if self._process is not None:
            return
        formats = await asyncio.to_thread(fit_alone, self._spec)
        if formats.refused:
            cause = f"kv_cache_dtype {formats.asked_kv_cache}: {formats.kv_cache_why}"
            raise ExpertUnavailable(self.expert_id, cause)
        tell_formats(formats)
        self._process = EngineProcess(formats.spec)
        try:
            await self._process.start()
            self._engine = self._process.engine
            self._learn_model()
            first_token = TokenPrompt((0,), 1)
            await self.prefill(first_token, priority=Priority.FOREGROUND)
            if self._capabilities.drafts:
                await verify_lengths(self, first_token)
            await self._learn_by_asking()
        except BaseException as error:
            cause = self._process.death_cause() if isinstance(error, ExpertUnavailable) else ""
            await self.stop()
            if cause and isinstance(error, ExpertUnavailable) and cause not in error.message:
                raise ExpertUnavailable(self.expert_id, f"{error.message}: {cause}") from error
            raise
        name = f"prepare-{self.expert_id}"
        self._preparing = asyncio.create_task(self._prepare_lengths(), name=name)

    async def _learn_by_asking(self) -> None:
        """Let a self-test decide what speculation may do with this engine."""
        tokens = self._running_renderer().continuation(_SELF_TEST_TEXT)
        found = await self_test(self, tokens)
        if found is not None:
            self._capabilities = after_self_test(self._capabilities, found, self.expert_id)

    async def _prepare_lengths(self) -> None:
        with suppress(ExpertError):  # whoever asks it next is told what is wrong with it
            await prefill_lengths(self)

    async def stop(self) -> None:
        """Kill the engine; requests in flight fail with ExpertUnavailable."""
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
            self._preparing = None
        process, self._process, self._engine = self._process, None, None
        now_s = asyncio.get_running_loop().time()
        for wait in self._waits:  # vLLM forgets those whose engine is taken down
            if not wait.expired():
                wait.reschedule(now_s)
        if process is not None:
            await process.stop()

    def render(self, messages: Sequence[Message], *, open_turn: bool) -> TokenPrompt:
        """See ``Expert.render``."""
        prompt = self._running_renderer().render(messages, open_turn=open_turn)
        read = self._parsers is not None and self._parsers.reads(template_options(messages))
        return with_fields(prompt, read=True) if read else prompt

    def tokenize(self, text: str | Sequence[int]) -> TokenPrompt:
        """See ``Expert.tokenize``."""
        return self._running_renderer().tokenize(text)

    async def prefill(self, prompt: TokenPrompt, *, priority: Priority) -> PrefillResult:
        """Generate one token and throw it away: the prompt's blocks stay in the prefix cache."""
        began = time.perf_counter()
        params = GenerationParams(max_tokens=1, temperature=0.0)
        cached = 0
        request_id = f"prefill-{uuid4().hex}"
        async with aclosing(self._outputs(prompt, params, priority, request_id)) as outputs:
            async for output in outputs:
                cached = output.num_cached_tokens or 0
        elapsed_ms = (time.perf_counter() - began) * 1000
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
        """Stream the answer; see ``Expert.generate``."""
        if prompt.open_turn:
            raise PromptRejected(self.expert_id, "an open turn can only be prefilled")
        completion_tokens = 0
        feed = self._feed(params, draft)
        count = DraftCount(feed)
        reader = self._reader(prompt, params)
        echoes = params.echo and prompt.text is not None
        stream = self._outputs(prompt, params, priority, request_id, feed, reader)
        async with aclosing(stream) as outputs:
            async for output in outputs:
                if echoes:
                    yield self._echo(prompt, params, output.prompt_logprobs)
                    echoes = False
                answer = output.outputs[0]
                tokens = answer.token_ids if params.max_tokens != 0 else ()
                completion_tokens += len(tokens)
                count.saw(tokens)
                read = Read(answer.text if tokens else "")
                if reader is not None:
                    cut = answer.finish_reason == "length"
                    read = reader.read(answer.text, tokens, finished=output.finished, cut=cut)
                reason, usage = None, None
                if output.finished:
                    reason = self._reason(answer.finish_reason, reader)
                    usage = Usage(
                        len(output.prompt_token_ids or prompt.token_ids),
                        completion_tokens,
                        output.num_cached_tokens,
                        *count.accepted_and_rejected(),
                    )
                yield Chunk(
                    read.text,
                    tuple(tokens),
                    token_logprobs(tokens, answer.logprobs if tokens else (), params.logprobs),
                    reason,
                    usage,
                    read.tool_calls,
                    read.reasoning,
                )

    async def health(self) -> Health:
        """Whether the engine's processes are alive."""
        if self._engine is None or self._process is None:
            return Health(False, "the engine is not running")
        if self._engine.errored or not self._process.process_ids():
            cause = self._process.death_cause()
            return Health(False, f"the engine died: {cause}" if cause else "the engine died")
        return Health(True)

    def _reader(self, prompt: TokenPrompt, params: GenerationParams) -> AnswerReader | None:
        """Return who reads the answer; None where its text is all that it says."""
        try:
            return None if self._parsers is None else self._parsers.reader(prompt, params)
        except Exception as error:  # a tool's schema, a grammar
            raise translate(self.expert_id, error) from error

    def _reason(self, told: str | None, reader: AnswerReader | None) -> FinishReason:
        reason = _FINISH.get(str(told))
        if reason is None:
            raise ExpertUnavailable(self.expert_id, f"the engine ended the request: {told}")
        return reason if reader is None else reader.finish_reason(reason)

    def _echo(self, prompt: TokenPrompt, params: GenerationParams, told: Any) -> Chunk:
        """Return the prompt as the answer's beginning; none of its tokens counts as generated."""
        tokenizer = self._engine.get_tokenizer()
        ids, first = prompt.token_ids, str(tokenizer.decode([prompt.token_ids[0]]))
        logprobs = token_logprobs(ids, told, params.logprobs, first)
        return Chunk(echoed_text(prompt, tokenizer), (), logprobs)

    def _feed(self, params: GenerationParams, draft: Draft | None) -> DraftFeed | None:
        """Return what is to be verified, None if there is nothing or it cannot be."""
        draft = params.prediction if draft is None else draft
        biased = params.logit_bias or self._setting(params, "min_p")
        if draft is None or biased or not self._capabilities.drafts:
            return None
        if isinstance(draft, DraftFeed):
            return draft
        if isinstance(draft, str):
            draft = self._running_renderer().continuation(draft)
        return DraftFeed.of(draft)

    @asynccontextmanager
    async def _pushing(
        self, feed: DraftFeed | None, known: int, draft_id: str
    ) -> AsyncIterator[None]:
        """Hand the engine what is drafted after the request was sent."""
        if feed is None or feed.closed:
            yield
            return
        pushing = asyncio.create_task(self._push(feed, known, draft_id))
        try:
            yield
        finally:
            pushing.cancel()
            await asyncio.wait([pushing])

    async def _push(self, feed: DraftFeed, known: int, draft_id: str) -> None:
        while tokens := await feed.later(known):
            known += len(tokens)
            try:
                await self._running_engine().collective_rpc(
                    "livemind_push_draft", args=(draft_id, tokens)
                )
            except Exception as error:  # the answer itself says what is wrong with the engine
                log.debug("a draft could not be passed on: %s", type(error).__name__)
                return

    async def _outputs(
        self,
        prompt: TokenPrompt,
        params: GenerationParams,
        priority: Priority,
        request_id: str,
        feed: DraftFeed | None = None,
        reader: AnswerReader | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Yield vLLM's outputs of one request; abort it when closed, translate what it raises."""
        engine = self._running_engine()
        try:
            token_input = await self._input(engine, prompt)
            sampling = self._sampling(len(token_input["prompt_token_ids"]), params, reader)
            more = {} if reader is None else reader.engine_arguments
            known = 0
            if feed is not None:
                known = len(feed.tokens)
                sampling.extra_args = {DRAFT: list(feed.tokens), DRAFT_ID: request_id}
            stream = engine.generate(
                token_input, sampling, request_id, priority=int(priority), **more
            )
            async with aclosing(stream), self._pushing(feed, known, request_id):
                while True:
                    async with self._wait():
                        output = await anext(stream, None)
                    if output is None:
                        return
                    yield output
        except TimeoutError:
            if self._engine is not engine:
                raise ExpertUnavailable(self.expert_id, "the engine died") from None
            message = f"no token for {self._spec.timeout_s:.0f} s"
            raise ExpertTimeout(self.expert_id, message) from None
        except Exception as error:
            raise translate(self.expert_id, error) from error

    @asynccontextmanager
    async def _wait(self) -> AsyncIterator[None]:
        """Wait for ``timeout_s`` at most, and no longer than the engine is there."""
        async with asyncio.timeout(self._spec.timeout_s) as wait:
            self._waits.add(wait)
            try:
                yield
            finally:
                self._waits.discard(wait)

    async def _input(self, engine: Any, prompt: TokenPrompt) -> Any:
        """Return what vLLM takes."""
        from vllm.inputs.engine import tokens_input

        if not prompt.images:
            return tokens_input(list(prompt.token_ids), cache_salt=prompt.cache_salt)
        found = await engine_input(engine, self.expert_id, prompt)
        tokens, limit = len(found["prompt_token_ids"]), self._capabilities.max_model_len or 0
        if tokens + 1 > limit:
            message = (
                f"the prompt has {tokens} tokens with its images; with one token of answer that is "
                f"more than the context limit of {limit} tokens"
            )
            raise PromptRejected(
                self.expert_id, message, param="messages", code="context_length_exceeded"
            )
        return found

    def _sampling(
        self, prompt_tokens: int, params: GenerationParams, reader: AnswerReader | None
    ) -> Any:
        limit = self._capabilities.max_model_len or 0
        check_room(self.expert_id, params, prompt_tokens, limit)
        return sampling_params(
            params,
            self._defaults,
            reader,
            room=limit - prompt_tokens,
            max_tokens_default=self._spec.max_tokens_default,
            json_whitespace=self._spec.json_whitespace,
        )

    def _learn_model(self) -> None:
        config = self._engine.vllm_config
        self._defaults = config.model_config.get_diff_sampling_param()
        self._defaults.pop("max_tokens", None)
        if is_ours(config.speculative_config):
            # vLLM refuses min_p and logit_bias beside speculative decoding. Here a request with
            # them gets no proposals, and drafts.py gives the engine what obeys them.
            self._engine.input_processor.speculative_config = None
        mark = image_mark(config.model_config) if self._spec.images else None
        if self._spec.images and mark is None:
            raise ExpertUnavailable(self.expert_id, "images: the model takes no images")
        tokenizer = self._engine.get_tokenizer()
        self._parsers = AnswerParsers(self._spec, tokenizer, config.model_config)
        self._renderer = Renderer(
            tokenizer,
            expert_id=self.expert_id,
            max_model_len=config.model_config.max_model_len,
            image_mark=mark,
        )
        self._capabilities = capabilities_of(
            config, self._renderer, self._spec, images=mark is not None
        )

    def _setting(self, params: GenerationParams, name: str) -> Any:
        value = getattr(params, name)
        return self._defaults.get(name) if value is None else value

    def _running_engine(self) -> Any:
        if self._engine is None:
            raise ExpertUnavailable(self.expert_id, "the engine is not running")
        return self._engine

    def _running_renderer(self) -> Renderer:
        if self._renderer is None:
            raise ExpertUnavailable(self.expert_id, "the engine has not been started")
        return self._renderer
