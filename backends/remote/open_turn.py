"""Whether a server leaves a turn open, and which of vLLM's fields it takes, found by asking."""

from __future__ import annotations

from typing import NamedTuple

from ..base import GenerationParams, Message, TokenPrompt, Usage
from ..errors import ExpertError, ExpertTimeout
from .events import usage_of
from .http import RemoteServers
from .request_body import request_body

OPEN_TURN = {"add_generation_prompt": False, "continue_final_message": True}
CHAT = "/v1/chat/completions"
_OWN: dict[str, object] = {"return_token_ids": True, "cache_salt": "probe"}


class OpenTurns(NamedTuple):
    """What a server takes.

    Attributes:
        possible: a prompt may end inside the user's turn: it then really is shorter.
        fields: of vLLM's own ones those that are not refused.
    """

    possible: bool
    fields: frozenset[str] = frozenset()


async def ask_open_turns(servers: RemoteServers, model: str) -> OpenTurns:
    """Ask for one token twice, and again where a field is refused.

    Raises:
        ExpertTimeout: it does not answer.
    """
    prompt = TokenPrompt((), 1, messages=(Message("user", "Hello there"),))
    body = request_body(model, prompt, GenerationParams(max_tokens=1, temperature=0.0))
    closed = await _asked(servers, body)
    if closed is None:
        return OpenTurns(False)
    opened, taken = await _asked(servers, {**body, **OPEN_TURN, **_OWN}), frozenset(_OWN)
    if opened is None:
        opened, taken = await _asked(servers, {**body, **OPEN_TURN}), frozenset()
        if opened is None:
            return OpenTurns(False)
        taken = frozenset(
            [name for name in _OWN if await _asked(servers, {**body, name: _OWN[name]})]
        )
    return OpenTurns(opened.prompt_tokens < closed.prompt_tokens, taken)


async def _asked(servers: RemoteServers, body: dict[str, object]) -> Usage | None:
    """Return the usage of an answer, None if there is none."""
    try:
        return usage_of(await servers.post_json(CHAT, body, key="probe"))
    except ExpertTimeout:
        raise
    except ExpertError:
        return None
