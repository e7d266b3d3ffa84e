"""One expert writes alone, the routed one; with a draft it verifies several tokens per step."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ...backends.base import Chunk
from ...backends.drafts import DraftFeed
from .panel import Panel
from .task import Task, now_s, request, tokens_of


async def write_alone(
    task: Task, panel: Panel, draft: DraftFeed | None = None, author: str | None = None
) -> AsyncGenerator[Chunk, None]:
    """Pass an expert's answer on as it comes; ``author``: None = the routed one."""
    author = author or task.leader
    expert, report = panel.experts[author], task.report
    report.drafted = draft is not None
    if author == task.leader:
        stream = expert.generate(
            task.prompt or await task.rendered(expert),
            task.params,
            priority=task.priority,
            request_id=task.request_id,
            draft=draft,
        )
    else:
        stream = request(task, expert, await task.rendered(expert), task.params)
    began_s = None
    async with aclosing(stream):
        async for chunk in stream:
            if began_s is None:
                began_s = now_s()
            ended = chunk.finish_reason is not None
            report.saw(author, tokens_of(chunk), began_s, ended=ended)
            yield chunk
