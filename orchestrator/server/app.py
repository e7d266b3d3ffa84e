"""The HTTP application: routes, middleware, start and graceful end.

``create_app`` builds it around a running engine; ``run_server`` puts it on a socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.log import access_logger
from prometheus_client import CONTENT_TYPE_LATEST

from ...rag.access.http_server import HttpRunner
from ..errors import ErrorInfo
from ..images.door import ImageDoor
from .access.door import Door
from .http_logs import AccessLogger
from .live import http as live_http, socket as live
from .live.registry import SessionRegistry
from .metrics import Metrics
from .middleware import entrance, error_response, in_flight
from .openai import chat, completions, embeddings, models, rerank, tokenize
from .openai.responses import routes as responses, socket as responses_socket
from .openai.responses.store import ResponseStore
from .page import site
from .page.documents import DocumentDoor
from .realtime import socket as realtime
from .state import OWNER, STARTED, STATE, InFlight, ServerState
from .tracing.traces import Traces

if TYPE_CHECKING:
    import socket

    from ..live_mind import LiveMind

DRAIN_S = 3.0
ABORT_S = 5.0
KEEPALIVE_S = 75.0
LINGER_S = 1.0
"""So long what is left of a refused body is read, before its connection is closed."""


def create_app(mind: LiveMind, traces: Traces | None = None) -> web.Application:
    """Return the application. ``mind`` is already entered and outlives it.

    ``traces``: of turns; None = as the configuration says.

    Raises:
        ConfigError: the API keys cannot be read, or traces cannot be sent.
    """
    limits = mind.settings.server
    has_page = site.shown(limits)
    door = Door(limits, site.is_open) if has_page else Door(limits)
    traces = Traces(mind.settings.telemetry) if traces is None else traces
    metrics = Metrics(traces)
    registry = SessionRegistry(
        mind,
        idle_timeout_s=limits.session_idle_timeout_s,
        observe=metrics.event,
    )
    metrics.sessions.set_function(lambda: len(registry))
    metrics.waiting.set_function(mind.waiting)
    metrics.watch_routing(mind.cache_stats)
    metrics.watch_experts(mind.expert_states)
    app = web.Application(
        middlewares=[entrance(door), in_flight],
        client_max_size=limits.max_body_bytes,
    )
    kept = ResponseStore(limits.max_stored_responses, limits.max_stored_bytes)
    running, images = InFlight(busy_polling=limits.busy_polling), ImageDoor(mind.settings)
    app[STATE] = state = ServerState(mind, registry, metrics, images, running, door, kept)
    metrics.in_flight.set_function(lambda: len(state.in_flight))
    app.add_routes(
        [
            web.post("/v1/chat/completions", chat.chat_completions),
            web.post("/v1/completions", completions.completions),
            web.post("/v1/embeddings", embeddings.embeddings),
            *[web.post(path, rerank.rerank) for path in ("/rerank", "/v1/rerank", "/v2/rerank")],
            *[web.post(path, rerank.score) for path in ("/score", "/v1/score")],
            web.post("/tokenize", tokenize.tokenize),
            web.post("/detokenize", tokenize.detokenize),
            web.get("/tokenizer_info", tokenize.tokenizer_info),
            web.post("/v1/responses", responses.create),
            web.get("/v1/responses", responses_socket.connect),
            web.get("/v1/responses/{id}", responses.show),
            web.delete("/v1/responses/{id}", responses.delete),
            web.post("/v1/responses/{id}/cancel", responses.cancel),
            web.get("/v1/responses/{id}/input_items", responses.input_items),
            web.get("/v1/models", models.models),
            web.get("/v1/models/{model:.+}", models.model),
            web.get("/v1/live", live.live),
            web.get("/v1/realtime", realtime.realtime),
            web.post("/v1/live/tickets", tickets),
            web.post("/v1/live/sessions", live_http.create_session),
            web.get("/v1/live/sessions/{id}", live_http.get_session),
            web.patch("/v1/live/sessions/{id}", live_http.patch_session),
            web.delete("/v1/live/sessions/{id}", live_http.delete_session),
            web.put("/v1/live/sessions/{id}/input", live_http.put_input),
            web.get("/health", health),
            web.get("/ready", ready),
            web.get("/stats", stats),
            web.get("/stats/turns", turns),
            web.get("/metrics", prometheus),
        ]
    )
    documents = DocumentDoor(mind.settings.rag, limits.body_timeout_s)
    app.add_routes(documents.routes())
    if has_page:
        app.add_routes(site.routes(mind.settings, needs_key=bool(door.keys)))
    app.cleanup_ctx.extend((_traces, _sessions, documents.running))
    app.on_shutdown.append(_drain)
    app.on_response_prepare.append(door.allow_page)
    app.on_response_prepare.append(_note_start)
    return app


@asynccontextmanager
async def run_server(
    app: web.Application, listener: socket.socket, *, access_log: bool = False
) -> AsyncIterator[web.AppRunner]:
    """Serve on a bound socket inside this block; at its end streams are finished or told why not.

    A client that disconnects cancels its handler, which frees the engine slot.

    Raises:
        OSError: the socket cannot listen.
    """
    runner = _runner(app, access_log=access_log)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield runner
    finally:
        await runner.cleanup()


@asynccontextmanager
async def run_connections(app: web.Application) -> AsyncIterator[web.Server]:
    """Serve connections that others make inside this block; ends as ``run_server``.

    Yields:
        what makes the protocol of each new connection.
    """
    runner = _runner(app, access_log=False)
    await runner.setup()
    assert runner.server is not None
    try:
        yield runner.server
    finally:
        await runner.cleanup()


def _runner(app: web.Application, *, access_log: bool) -> HttpRunner:
    return HttpRunner(
        app,
        envelope=_envelope,
        name="livemind.http",
        handler_cancellation=True,
        keepalive_timeout=KEEPALIVE_S,
        shutdown_timeout=ABORT_S,
        lingering_time=LINGER_S,
        access_log=access_logger if access_log else None,
        access_log_class=AccessLogger,
    )


def _envelope(status: int, code: str, message: str) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return error_response(ErrorInfo(status, message, kind, None, code))


async def health(request: web.Request) -> web.Response:
    """Say that the process is alive: always 200. A supervisor restarts it when this fails."""
    status, experts = _status(request.app[STATE])
    return web.json_response({"status": status, **_counts(experts), **_known(request, experts)})


async def ready(request: web.Request) -> web.Response:
    """Say whether to send requests here: 200, or 503 with the reason, for load balancers.

    An expert that is not loaded counts: it is loaded on demand. With ``?leaving=404`` a server that
    leaves says so by 404, which HAProxy takes for: nothing new, but what is there may stay.
    """
    status, experts = _status(request.app[STATE])
    known = _known(request, experts) or _counts(experts)
    body = {"status": "ready" if status == "ok" else status, **known}
    drained = status == "leaving" and request.query.get("leaving") == "404"
    return web.json_response(body, status=200 if status == "ok" else 404 if drained else 503)


def _counts(experts: Mapping[str, str]) -> dict[str, int]:
    """Return how many experts there are and how many are loaded, as the original system said it."""
    loaded = sum(state == "ready" for state in experts.values())
    return {"models_loaded": loaded, "models_available": len(experts)}


def _known(request: web.Request, experts: dict[str, str]) -> dict[str, object]:
    """Return the experts by name for whoever may know them, else nothing."""
    return {"experts": experts} if request.app[STATE].door.knows(request) else {}


def _status(state: ServerState) -> tuple[str, dict[str, str]]:
    experts = {info.expert_id: info.state for info in state.mind.experts()}
    if state.in_flight.stopping.is_set():
        return "stopping", experts
    if state.in_flight.leaving.is_set():
        return "leaving", experts
    if all(value == "failed" for value in experts.values()):
        return "failed", experts
    return "ok", experts


async def tickets(request: web.Request) -> web.Response:
    """Return a ticket: with it a browser opens one web socket, without showing its key."""
    return request.app[STATE].door.ticket(request.get(OWNER))


async def stats(request: web.Request) -> web.Response:
    """Return the engine's numbers and the server's."""
    state = request.app[STATE]
    server = {
        **state.metrics.stats(),
        "sessions": len(state.registry),
        "requests_in_flight": len(state.in_flight),
    }
    status, experts = _status(state)
    told = {
        "status": status,
        **_counts(experts),
        **state.mind.stats(),
        "server": server,
        "totals": state.metrics.totals(),
    }
    return web.json_response(told)


async def turns(request: web.Request) -> web.Response:
    """Return what working ahead cost and gained by hour, and the slowest turns, in numbers."""
    return web.json_response(request.app[STATE].metrics.history.told())


async def prometheus(request: web.Request) -> web.Response:
    """Return the counters in Prometheus' text format."""
    body = request.app[STATE].metrics.render()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _traces(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[STATE].metrics.traces.aclose()


async def _sessions(app: web.Application) -> AsyncIterator[None]:
    async with app[STATE].registry.running():
        yield


async def _note_start(request: web.Request, response: web.StreamResponse) -> None:
    request[STARTED] = response


async def _drain(app: web.Application) -> None:
    state = app[STATE]
    await state.in_flight.drain(state.limits.drain_timeout_s, ABORT_S)
