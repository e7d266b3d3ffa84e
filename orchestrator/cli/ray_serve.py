"""LiveMind on Ray Serve: replicas of the server, and a router that knows which holds a session.

``deploy/ray/livemind.yaml`` is what ``serve run`` takes. Versions: ``ray[serve]`` 2.60.
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

from ..config.settings import Settings, load_settings
from ..server.asgi.application import AsgiApplication
from .asgi import create

SESSION_PATH = re.compile(r"/v1/live/sessions/([^/]+)")
SESSION_HEADER = b"x-livemind-session"
AFTER_DRAIN_S = 5.0


class Replicas(BaseModel):
    """What an application of ``deploy/ray/livemind.yaml`` says under ``args``.

    Attributes:
        config: LiveMind's configuration, or the path of its file, the same on every node.
        min_replicas, max_replicas: Ray Serve scales between them.
        target_ongoing_requests: of a replica; more of them ask for another one. A WebSocket counts
            as long as it is open.
        max_ongoing_requests: of a replica; what is over goes to the next one or waits in Ray.
        num_cpus: that Ray sets aside for a replica.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str | dict[str, Any]
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 4
    target_ongoing_requests: PositiveInt = 64
    max_ongoing_requests: PositiveInt = 512
    num_cpus: float = Field(1.0, ge=0)


class SessionRouter(ConsistentHashRouter):
    """Consistent hashing on Ray's session header, else on the live session of a request.

    A live session that its client names is then one replica's without that header.
    """

    def _routing_key(self, pending_request: Any) -> str | None:
        if pending_request is not None and not pending_request.metadata.session_id:
            session = session_of(pending_request.args)
            if session is not None:
                return session
        key: str | None = super()._routing_key(pending_request)
        return key


def session_of(args: Sequence[Any]) -> str | None:
    """Return the live session that an HTTP request of Ray's proxy is about, None if none."""
    scope = getattr(args[0], "_asgi_scope", None) if args else None
    if scope is None:
        return None
    if found := SESSION_PATH.search(scope["path"]):
        return found[1]
    headers = {name.lower(): value for name, value in scope["headers"]}
    told: bytes | None = headers.get(SESSION_HEADER)
    return None if told is None else told.decode("latin-1")


class LiveMindServer:
    """One replica: the ASGI application of a configuration."""

    def __init__(self, config: str | dict[str, Any]) -> None:
        self._config = config

    def __serve_build_asgi_app__(self) -> AsgiApplication:
        """Return the application; Ray runs its lifespan."""
        return create(settings_of(self._config))


def settings_of(config: str | dict[str, Any]) -> Settings:
    """Return the settings. Raises ConfigError for a file, ValueError for a tree."""
    return Settings.model_validate(config) if isinstance(config, dict) else load_settings(config)


def app(args: Replicas) -> Application:
    """Return the application that ``serve run`` deploys.

    Raises:
        ConfigError, ValueError: the configuration is wrong.
    """
    server = settings_of(args.config).server
    deployment = serve.deployment(
        name="LiveMind",
        max_ongoing_requests=args.max_ongoing_requests,
        graceful_shutdown_timeout_s=server.drain_timeout_s + AFTER_DRAIN_S,
        ray_actor_options={"num_cpus": args.num_cpus},
        autoscaling_config={
            "min_replicas": args.min_replicas,
            "max_replicas": args.max_replicas,
            "target_ongoing_requests": args.target_ongoing_requests,
        },
        request_router_config=RequestRouterConfig(request_router_class=f"{__name__}.SessionRouter"),
    )
    return deployment(serve.ingress()(LiveMindServer)).bind(args.config)
