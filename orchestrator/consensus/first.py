"""The routed expert writes alone; with a draft it verifies several tokens per step."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ...backends.base import Chunk
from ...backends.drafts import DraftFeed
from ..events import Settled
from .panel import Panel
from .report import SettledSpan
from .task import Task, now_s, tokens_of


async def write_alone(
    task: Task, panel: Panel, draft: DraftFeed | None = None
) -> AsyncGenerator[Chunk, None]:
    """Pass the routed expert's answer on as it comes."""
    expert, report = panel.experts[task.leader], task.report
    report.drafted = draft is not None
    stream = expert.generate(
        task.prompt or task.rendered(expert),
        task.params,
        priority=task.priority,
        request_id=task.request_id,
        draft=draft,
    )
    began_s = None
    async with aclosing(stream):
        async for chunk in stream:
            if began_s is None:
                began_s = now_s()
            report.generated += tokens_of(chunk)
            if chunk.finish_reason is not None:
                how: Settled = "verified" if report.drafted else "author"
                report.spans.append(SettledSpan(task.leader, how, began_s, began_s))
            yield chunk
