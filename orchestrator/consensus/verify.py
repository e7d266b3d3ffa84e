"""`verify`: the fast expert writes, the others judge its segments, the routed one takes over.

Works on text, so across tokenizers and servers. What was sent stays: a takeover goes on from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...backends.base import Chunk, Message, TokenLogprob
from ...backends.errors import ExpertError, ExpertTimeout, ExpertUnavailable
from ..events import Settled
from .first import write_alone
from .jury import Jury, Verdict
from .one_author import why_not_its_tokens, why_one_author
from .panel import Panel
from .report import SettledSpan
from .segments import Segment, segments
from .task import Start, Task, helpers, in_time, now_s, request, tokens_of

if TYPE_CHECKING:
    from ..turn.shared import Shared

LOOKAHEAD_SEGMENTS = 2
DOUBT_NATS = 0.7  # two alternatives that are equally likely
DOUBT_LOGPROBS = 5


async def write_verified(task: Task, panel: Panel, shared: Shared) -> AsyncGenerator[Chunk, None]:
    """Yield the fast expert's segments as they are accepted, and the routed one's text after."""
    author, leader = shared.team.fast, panel.experts.get(task.leader)
    report = task.report
    report.abstained.update(panel.absent)
    if leader is None and author not in panel.experts:
        raise panel.failure or ExpertUnavailable(task.leader, panel.absent[task.leader])
    if author is None or author == task.leader or author not in panel.experts:
        stream = write_alone(task, panel)
    elif (reason := _why_alone(task, panel, author)) is not None:
        if leader is not None:
            report.abstained[author], author = reason, task.leader
        stream = write_alone(task, panel, author=author)
    else:
        stream = _verified(task, panel, shared, author)
    async with aclosing(stream):
        async for chunk in stream:
            yield chunk


def _why_alone(task: Task, panel: Panel, author: str) -> str | None:
    """Return why the routed expert, or the author without it, has to write the whole answer."""
    leader = panel.experts.get(task.leader)
    if leader is not None and not leader.capabilities.continues:
        return "the routed expert cannot continue another's text"
    told = leader.capabilities if leader is not None else None
    return why_one_author(task) or why_not_its_tokens(
        task.params, panel.experts[author].capabilities, told
    )


async def _verified(
    task: Task, panel: Panel, shared: Shared, author: str
) -> AsyncGenerator[Chunk, None]:
    judges = {name: expert for name, expert in panel.experts.items() if name != author}
    domain = shared.team.domains.get(task.leader, "")
    weights = {name: shared.team.weight(name, domain) for name in judges}
    async with helpers() as start:
        jury = Jury(task, judges, weights, start)
        async with aclosing(_Verification(task, panel, author, jury, start).write()) as stream:
            async for chunk in stream:
                yield chunk


class _Verification:
    """One answer under way: what is settled, what is being judged."""

    def __init__(self, task: Task, panel: Panel, author: str, jury: Jury, start: Start) -> None:
        self._task = task
        self._panel = panel
        self._author = author
        self._jury = jury
        self._start = start
        self._settled = ""
        self._tokens = 0
        self._is_judged = True
        self._sent_ahead: dict[int, Verdict] = {}  # by span: of segments that did not wait
        self._failure = panel.failure  # of the routed expert

    async def write(self) -> AsyncGenerator[Chunk, None]:
        queue: asyncio.Queue[Segment | None] = asyncio.Queue(LOOKAHEAD_SEGMENTS)
        author = self._start(self._produce(queue))
        while True:
            segment = await self._next(queue)
            if self._is_judged and (segment is None or not await self._may_be_sent(segment)):
                taken_over = False
                async with aclosing(self._take_over(is_last=segment is None)) as rest:
                    async for chunk in rest:
                        taken_over = True
                        author.cancel()
                        yield chunk
                if taken_over:
                    return
                self._is_judged = False  # nobody else can go on: the author does
            if segment is None:
                if not author.done():
                    continue
                raise self._failure or ExpertUnavailable(self._task.leader, "not loaded")
            if not self._is_judged:
                self._record(segment, None)
            yield self._sent(segment)
            if segment.finish_reason is not None:
                return

    # ---- the author

    async def _produce(self, queue: asyncio.Queue[Segment | None]) -> None:
        task, expert = self._task, self._panel.experts[self._author]
        params = task.params
        if expert.capabilities.logprobs:
            params = replace(params, logprobs=max(params.logprobs or 0, DOUBT_LOGPROBS))
        try:
            stream = request(task, expert, await task.rendered(expert), params)
            async with aclosing(stream), aclosing(segments(self._counted(stream))) as pieces:
                async for piece in pieces:
                    await queue.put(piece)
        except ExpertError as error:
            task.report.abstained[self._author] = error.message
        await queue.put(None)

    async def _counted(self, stream: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
        async for chunk in stream:
            self._task.report.saw_aside(self._author, tokens_of(chunk))
            yield chunk

    async def _next(self, queue: asyncio.Queue[Segment | None]) -> Segment | None:
        """Return the author's next segment, None if it fails or another need not wait for it."""
        if not self._is_judged:
            return await queue.get()
        found: list[Segment | None] = []

        async def get() -> None:
            found.append(await queue.get())

        getting = self._start(get())
        if not await self._in_time(getting):
            getting.cancel()
        return found[0] if found else None

    async def _in_time(self, task: asyncio.Task[None]) -> bool:
        deadline_s = self._task.consensus.deadline_s
        return await in_time({task}, self._task.clock, deadline_s, self._start)

    # ---- the judges

    async def _may_be_sent(self, segment: Segment) -> bool:
        """Let the segment be judged; wait for that where the gate says so."""
        if self._was_wrong():
            return False
        verdict = self._jury.begin(self._settled, segment)
        if not self._must_wait(segment):
            self._sent_ahead[len(self._task.report.spans)] = verdict
            self._record(segment, None)
            return True
        await self._jury.wait(verdict)
        if self._is_refused(verdict):
            return False
        self._record(segment, verdict)
        return True

    def _must_wait(self, segment: Segment) -> bool:
        match self._task.consensus.gate:
            case "none":
                return False
            case "first":
                return not self._settled
            case "every":
                return True
            case "auto":
                doubt = segment.doubt()
                return doubt is None or doubt >= DOUBT_NATS

    def _is_refused(self, verdict: Verdict) -> bool:
        """Whether the routed expert should go on instead: a no, or too few that could tell.

        That one is not asked to go on if it failed or did not answer in time itself.
        """
        if self._jury.is_quorate(verdict):
            return not self._jury.accepts(verdict)
        return not self._jury.has_failed(self._task.leader)

    def _was_wrong(self) -> bool:
        """Look at the verdicts that have come on what was sent ahead of them."""
        refused, spans = False, self._task.report.spans
        for span, verdict in list(self._sent_ahead.items()):
            if verdict.missing:
                continue
            del self._sent_ahead[span]
            votes, agreement = self._jury.votes(verdict)
            spans[span] = replace(spans[span], votes=votes, agreement=agreement)
            refused |= self._jury.is_quorate(verdict) and not self._jury.accepts(verdict)
        return refused

    # ---- the text

    def _record(self, segment: Segment, verdict: Verdict | None) -> None:
        how: Settled = "author"
        span = SettledSpan(
            self._author, how, segment.began_s, now_s(), characters=len(segment.text)
        )
        if verdict is not None:
            votes, agreement = self._jury.votes(verdict)
            how = "quorum" if self._jury.is_quorate(verdict) else "deadline"
            span = replace(span, settled_by=how, votes=votes, agreement=agreement)
        self._task.report.spans.append(span)

    def _sent(self, segment: Segment) -> Chunk:
        self._settled += segment.text
        self._tokens += segment.tokens
        chunk = Chunk(
            segment.text,
            segment.token_ids,
            self._asked_for(segment.logprobs),
            segment.finish_reason,
            segment.usage,
            reasoning=segment.reasoning,
        )
        self._task.report.settle(self._author, tokens_of(chunk))
        return chunk

    def _asked_for(self, logprobs: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...] | None:
        wanted = self._task.params.logprobs
        if wanted is None or not logprobs:
            return None
        return tuple(replace(entry, top=entry.top[:wanted]) for entry in logprobs)

    async def _take_over(self, *, is_last: bool) -> AsyncGenerator[Chunk, None]:
        """Let the routed expert go on from the settled text; nothing if it does not begin.

        ``is_last``: there is no segment to fall back on, so it may take its time.
        """
        task, expert = self._task, self._panel.experts.get(self._task.leader)
        if expert is None:
            return
        more = (Message("assistant", self._settled),) if self._settled else ()
        params = task.params
        if params.max_tokens is not None:
            params = replace(params, max_tokens=max(1, params.max_tokens - self._tokens))
        if params.min_tokens:
            params = replace(params, min_tokens=max(0, params.min_tokens - self._tokens))
        stream = request(task, expert, await task.rendered(expert, *more), params)
        begun: list[Chunk] = []

        async def begin() -> None:
            try:
                begun.append(await anext(stream))
            except ExpertError as error:
                self._abstains(error)

        async with aclosing(stream):
            beginning = self._start(begin())
            try:
                if is_last:
                    await asyncio.wait({beginning})
                elif not await self._in_time(beginning):
                    self._abstains(ExpertTimeout(task.leader, "too slow"))
            finally:
                beginning.cancel()
                await asyncio.wait({beginning})  # a generator at work cannot be closed
            if not begun:
                return
            if is_last:
                task.report.abstained.setdefault(self._author, "too slow")
            began_s = now_s()
            yield self._continued(begun[0], began_s)
            async for chunk in stream:
                yield self._continued(chunk, began_s)

    def _abstains(self, failure: ExpertError) -> None:
        """The routed expert cannot go on."""
        self._failure = failure
        self._task.report.abstained[self._task.leader] = failure.message

    def _continued(self, chunk: Chunk, began_s: float) -> Chunk:
        ended = chunk.finish_reason is not None
        self._task.report.saw(self._task.leader, tokens_of(chunk), began_s, ended=ended)
        if chunk.usage is None:
            return chunk
        tokens = chunk.usage.completion_tokens + self._tokens
        return replace(chunk, usage=replace(chunk.usage, completion_tokens=tokens))
