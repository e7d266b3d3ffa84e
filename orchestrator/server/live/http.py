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
from .session import SESSION_HEADER, STATUS_HEADER, LiveSession

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
    return _json(request, live, _shown(live), status=201)


async def patch_session(request: web.Request) -> web.Response:
    """Change settings or the conversation, for the next turn; only the given fields change."""
    state, limit = request.app[STATE], request.app[STATE].limits.max_text_chars
    config = parse(CONFIG, await request.read() or b"{}", max_text_chars=limit)
    live, status = await _find_or_open(request)
    live.configure(reconfigured(state, live, config), config.history)
    return _json(request, live, _shown(live), status=status)


async def put_input(request: web.Request) -> web.Response:
    """Set the whole text so far; return the status as it stands.

    An id of the client's own choice opens its session.
    """
    limit = request.app[STATE].limits.max_text_chars
    body = parse(INPUT, await request.read(), max_text_chars=limit)
    live, status = await _find_or_open(request)
    live.touch()
    live.session.replace(body.text, body.revision, turn_id=body.turn_id)
    return _json(request, live, live.status(), status=status)


async def get_session(request: web.Request) -> web.Response:
    """Return settings and status."""
    live = _find(request)
    return _json(request, live, _shown(live))


async def delete_session(request: web.Request) -> web.Response:
    """Close the session; a running response is cancelled."""
    live = _find(request)
    await request.app[STATE].registry.close(live)
    return _json(request, live, SessionDeleted(live.id))


def _find(request: web.Request) -> LiveSession:
    registry = request.app[STATE].registry
    return registry.find(request.match_info["id"], request.get(OWNER), param="id")


async def _find_or_open(request: web.Request) -> tuple[LiveSession, int]:
    """Return the session of the path and 200, or 201 where it was opened for this request."""
    state, owner, session_id = request.app[STATE], request.get(OWNER), request.match_info["id"]
    known = state.registry.known(session_id, owner) is not None
    affinity = session_key(state.limits.affinity_from, request.headers)
    live = await state.registry.find_or_open(session_id, owner, affinity=affinity)
    return live, 200 if known else 201


def _shown(live: LiveSession) -> dict[str, object]:
    return {**to_builtins(settings_of(live)), **to_builtins(live.status())}


def _json(
    request: web.Request, live: LiveSession, body: object, *, status: int = 200
) -> web.Response:
    """Return an answer that balancers can read the session's id from: header, path, cookie."""
    headers = {SESSION_HEADER: live.id}
    if request.app[STATE].in_flight.leaving.is_set():
        headers[STATUS_HEADER] = "moving"
    if status == 201:
        headers["Location"] = f"/v1/live/sessions/{live.id}"
    response = web.Response(
        body=json.encode(body),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )
    if (cookie := request.app[STATE].limits.session_cookie) is not None:
        secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
        response.set_cookie(cookie, live.id, httponly=True, samesite="Lax", secure=secure)
    return response
