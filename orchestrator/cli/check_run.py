"""``livemind check --run``: start each local expert, ask it what speculation relies on, stop it.

Remote servers are asked what they have of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from rich.console import Console

from ...backends.base import Capabilities
from ...backends.doctor import Finding
from ...backends.doctor.findings import Severity
from ...backends.errors import ExpertError
from ...backends.registry import create_expert, release
from ...backends.remote.probe import RemoteAbilities, abilities
from ..config.settings import Settings


def run_findings(settings: Settings, progress: Console | None = None) -> list[Finding]:
    """Return what the experts did, one started at a time; ``progress`` is told whose turn it is.

    Blocks for as long as they take to load. An interrupt stops the one that is running.
    """
    try:
        return asyncio.run(_run(settings, progress))
    finally:
        release()


def remote_findings(settings: Settings, progress: Console | None = None) -> list[Finding]:
    """Return what the servers of remote experts lack, and what that costs. Blocks meanwhile."""
    return asyncio.run(_ask(settings, progress))


async def _ask(settings: Settings, progress: Console | None) -> list[Finding]:
    found: list[Finding] = []
    for index, configured in enumerate(settings.experts):
        spec, where = configured.to_spec(), f"experts[{index}]"
        if spec.kind != "remote":
            continue
        if progress is not None:
            progress.print(f"asking {spec.expert_id} …", highlight=False)
        try:
            able = await abilities(spec)
        except ExpertError as error:
            change = f"{where}.base_urls, {where}.model or {where}.api_key_env"
            found.append(
                Finding("error", "remote_failed", where, spec.expert_id, error.message, change)
            )
        else:
            found += _missing(where, spec.expert_id, able, drafts=bool(spec.verify_drafts))
    return found


_LACKS = (
    (
        "continues",
        "continuation",
        "no prompt is prepared while it is typed, and no answer is begun for it: the whole time to "
        "the first token follows the commit",
        "a server that takes continue_final_message, as vLLM's does",
    ),
    (
        "tells_cached",
        "prompt-token details",
        "ledger and budget count what was sent before, and cost_multiplier is unknown",
        "vllm serve --enable-prompt-tokens-details",
    ),
    (
        "takes_priorities",
        "priorities",
        "what is prepared ahead waits in its queue like answers of others, who wait for it",
        "vllm serve --scheduling-policy priority, and send_priorities here",
    ),
    (
        "verifies_drafts",
        "draft plugin",
        "a drafted or predicted answer is written once more, a token a step",
        "vllm serve with the proposer of docs/drafts.md, and verify_drafts here",
    ),
)
"""Ability, its name, what it costs to be without, how a server gets it."""


def _missing(
    where: str, expert_id: str, able: RemoteAbilities, *, drafts: bool
) -> Iterator[Finding]:
    has = []
    for name, told, cost, remedy in _LACKS:
        known = getattr(able, name)
        if known:
            has.append(told)
            continue
        state = "not there" if known is False else "unknown: the server does not tell"
        kind: Severity = "warning" if name == "continues" else "info"
        if name == "verifies_drafts" and drafts:
            kind = "warning"
        yield Finding(kind, f"remote_{name}", where, expert_id, f"{told}: {state}; {cost}", remedy)
    if has:
        yield Finding("info", "remote_has", where, expert_id, f"has {', '.join(has)}")


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
