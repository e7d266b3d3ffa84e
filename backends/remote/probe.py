"""What a server can do of what a head start relies on, found by asking it a few short requests."""

from __future__ import annotations

from msgspec import Struct

from ..base import GenerationParams, Message, TokenPrompt
from ..errors import ExpertError, ExpertUnavailable, PromptRejected
from ..spec import ExpertSpec
from ..vllm.drafts import DRAFT
from .events import BadEvent, chunk_of, event_of, usage_of
from .expert import RemoteExpert
from .http import RemoteServers
from .request_body import request_body
from .sse import EventReader

PROBE_WORDS = 700
"""A prompt with more than one block of any cache; it is asked twice, for one token each time."""
DRAFTED_TOKENS = 8
_LOWEST = 10


class RemoteAbilities(Struct, frozen=True):
    """What a server did when it was asked; None where that cannot be told.

    Attributes:
        tells_cached: how many tokens of a prompt it found in its cache.
        takes_priorities: a request may wait for others.
        verifies_drafts: several tokens per step; None without token ids in its answers.
        continues: a turn can be left open, and an answer begun for it.
    """

    tells_cached: bool | None
    takes_priorities: bool | None
    verifies_drafts: bool | None
    continues: bool


async def abilities(spec: ExpertSpec) -> RemoteAbilities:
    """Ask the server that is responsible for this question; takes as long as four answers of it.

    Raises:
        ExpertUnavailable: none can be reached, or it does not serve the model.
    """
    expert, servers = RemoteExpert(spec), RemoteServers(spec)
    try:
        await expert.start()
        servers.open()
        return RemoteAbilities(
            tells_cached=await _tells_cached(servers, spec),
            takes_priorities=await _takes_priorities(servers, spec),
            verifies_drafts=await _verifies_drafts(servers, spec),
            continues=expert.capabilities.continues,
        )
    finally:
        await servers.close()
        await expert.stop()


def _body(spec: ExpertSpec, text: str) -> dict[str, object]:
    prompt = TokenPrompt((), 1, messages=(Message("user", text),))
    params = GenerationParams(max_tokens=1, temperature=0.0)
    return request_body(spec.model or spec.expert_id, prompt, params)


async def _tells_cached(servers: RemoteServers, spec: ExpertSpec) -> bool | None:
    body = _body(spec, " ".join(f"word {number}" for number in range(PROBE_WORDS // 2)))
    try:
        await servers.post_json("/v1/chat/completions", body, key="probe")
        usage = usage_of(await servers.post_json("/v1/chat/completions", body, key="probe"))
    except ExpertError:
        return None
    return None if usage is None else usage.cached_tokens is not None


async def _takes_priorities(servers: RemoteServers, spec: ExpertSpec) -> bool | None:
    """Ask with a priority, and with one that is none: who takes both does not look at either."""
    taken = await _taken(servers, spec, _LOWEST)
    return not await _taken(servers, spec, "none") if taken else taken


async def _taken(servers: RemoteServers, spec: ExpertSpec, priority: object) -> bool | None:
    body = {**_body(spec, "Hello."), "priority": priority}
    try:
        await servers.post_json("/v1/chat/completions", body, key="probe")
    except (PromptRejected, ExpertUnavailable):
        return False
    except ExpertError:
        return None
    return True


async def _verifies_drafts(servers: RemoteServers, spec: ExpertSpec) -> bool | None:
    """Ask for an answer, then for the same one with itself as draft: events of several tokens."""
    body = _body(spec, "Count from one to ten.")
    body |= {"max_tokens": DRAFTED_TOKENS, "stream": True, "return_token_ids": True}
    try:
        plain = await _streamed(servers, body)
        said = [token for tokens in plain for token in tokens]
        if len(said) < 2:
            return None
        drafted = await _streamed(servers, {**body, "vllm_xargs": {DRAFT: said}})
    except ExpertError:
        return False
    return max(map(len, drafted), default=0) > max(map(len, plain))


async def _streamed(servers: RemoteServers, body: dict[str, object]) -> list[tuple[int, ...]]:
    """Return the token ids of each event of an answer."""
    reader, found = EventReader(), []
    async with servers.stream("/v1/chat/completions", body, key="probe") as response:
        lines = reader.feed(await servers.read(response))
    for line in [*lines, *reader.end()]:
        try:
            chunk = chunk_of(event_of(line))
        except BadEvent:
            continue
        found.append(() if chunk is None else chunk.token_ids)
    return found
