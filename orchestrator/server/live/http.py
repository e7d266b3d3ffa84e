"""Live sessions for clients that cannot hold a socket: partial text over plain HTTP.

The answer comes from ``POST /v1/chat/completions`` with the header ``X-LiveMind-Session: {id}``.
"""

from __future__ import annotations

from aiohttp import web
from msgspec import json, to_builtins
from pydantic import TypeAdapter

from ..affinity import session_key
from ..state import OWNER, STATE
from ..validation import parse
from .answers import SessionDeleted
from .options import reconfigured, settings_of
from .schema import SessionConfig, SessionInput
from .session import LiveSession

CONFIG = TypeAdapter(SessionConfig)
INPUT = TypeAdapter(SessionInput)


async def create_session(request: web.Request) -> web.Response:
    """Open a live session. The body has the fields of ``session.update`` and may be empty."""
    state = request.app[STATE]
    raw = await request.read() or b"{}"
    config = parse(CONFIG, raw, max_text_chars=state.limits.max_text_chars)
    affinity = session_key(state.limits.affinity_from, request.headers)
    live = await state.registry.open(request.get(OWNER), affinity=affinity)
    try:
        live.configure(reconfigured(state, live, config), config.history)
    except BaseException:
        await state.registry.close(live)
        raise
    return _json(_shown(live), status=201)


async def patch_session(request: web.Request) -> web.Response:
    """Change settings or the conversation, for the next turn; only the given fields change."""
    state, live = request.app[STATE], _find(request)
    limit = state.limits.max_text_chars
    config = parse(CONFIG, await request.read() or b"{}", max_text_chars=limit)
    live.configure(reconfigured(state, live, config), config.history)
    return _json(_shown(live))


async def put_input(request: web.Request) -> web.Response:
    """Set the whole text so far; return the status as it stands."""
    live = _find(request)
    limit = request.app[STATE].limits.max_text_chars
    body = parse(INPUT, await request.read(), max_text_chars=limit)
    live.touch()
    live.session.replace(body.text, body.revision, turn_id=body.turn_id)
    return _json(live.status())


async def get_session(request: web.Request) -> web.Response:
    """Return settings and status."""
    return _json(_shown(_find(request)))


async def delete_session(request: web.Request) -> web.Response:
    """Close the session; a running response is cancelled."""
    live = _find(request)
    await request.app[STATE].registry.close(live)
    return _json(SessionDeleted(live.id))


def _find(request: web.Request) -> LiveSession:
    registry = request.app[STATE].registry
    return registry.find(request.match_info["id"], request.get(OWNER), param="id")


def _shown(live: LiveSession) -> dict[str, object]:
    return {**to_builtins(settings_of(live)), **to_builtins(live.status())}


def _json(body: object, *, status: int = 200) -> web.Response:
    return web.Response(
        body=json.encode(body), status=status, content_type="application/json", charset="utf-8"
    )
