"""``/v1/models``: what may be named as ``model``; ``auto``, the first, is routed."""

from __future__ import annotations

from aiohttp import web

from ...errors import NotFound
from ..state import STATE, ServerState
from .format import Json


async def models(request: web.Request) -> web.Response:
    """List ``auto`` and the experts."""
    return web.json_response({"object": "list", "data": _models(request.app[STATE])})


async def model(request: web.Request) -> web.Response:
    """Show one expert."""
    name = request.match_info["model"]
    for entry in _models(request.app[STATE]):
        if entry["id"] == name:
            return web.json_response(entry)
    raise NotFound("model: no such model", param="model", code="model_not_found")


def _models(state: ServerState) -> list[Json]:
    made: Json = {"object": "model", "created": state.started_at, "owned_by": "livemind"}
    experts: list[Json] = [
        {
            "id": info.expert_id,
            **made,
            "max_model_len": info.max_model_len,
            "domain": info.domain,
            "state": info.state,
        }
        for info in state.mind.experts()
    ]
    return [{"id": "auto", **made}, *experts]
