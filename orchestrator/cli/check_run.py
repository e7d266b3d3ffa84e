"""``livemind check --run``: start each local expert, ask it what speculation relies on, stop it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from rich.console import Console

from ...backends.base import Capabilities
from ...backends.doctor import Finding
from ...backends.errors import ExpertError
from ...backends.registry import create_expert, release
from ..config.settings import Settings


def run_findings(settings: Settings, progress: Console | None = None) -> list[Finding]:
    """Return what the experts did, one started at a time; ``progress`` is told whose turn it is.

    Blocks for as long as they take to load. An interrupt stops the one that is running.
    """
    try:
        return asyncio.run(_run(settings, progress))
    finally:
        release()


async def _run(settings: Settings, progress: Console | None) -> list[Finding]:
    found: list[Finding] = []
    for index, configured in enumerate(settings.experts):
        spec = configured.to_spec()
        if spec.kind == "remote":
            continue
        if progress is not None:
            progress.print(f"starting {spec.expert_id} …", highlight=False)
        where, expert = f"experts[{index}]", create_expert(spec)
        try:
            await expert.start()
            found += _told(where, spec.expert_id, expert.capabilities)
        except ExpertError as error:
            change = f"{where}: what the findings below say of it, or its log (engine_log)"
            found.append(
                Finding("error", "start_failed", where, spec.expert_id, error.message, change)
            )
        finally:
            await expert.stop()
    return found


def _told(where: str, expert_id: str, able: Capabilities) -> Iterator[Finding]:
    block = f"blocks of {able.prefix_block_tokens} tokens"
    asked = able.self_test or "its context is too short to be asked"
    yield Finding("info", "self_test", where, expert_id, f"{block}; {asked}")
    if able.why_no_open_turn is not None:
        why = f"no prompt is prepared while its text is still written: {able.why_no_open_turn}"
        change = f"{where}.model_path: another model, where a head start matters"
        yield Finding("warning", "open_turn", where, expert_id, why, change)
