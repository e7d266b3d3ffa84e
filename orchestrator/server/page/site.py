"""Serves the page's files out of the package, with the headers that guard them.

The page is a client like any other: it uses the public doors alone. Its files hold nothing of
anybody, so they need no key; what they ask for does. A page is sent with its style sheet in it,
which spares the first frame a request; the policy names it by its digest.
"""

from __future__ import annotations

import gzip
import mimetypes
from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from ....rag.access.origins import is_loopback
from ...config.server import ServerConfig
from ...config.settings import Settings

FOLDER = Path(__file__).with_name("files")
PREFIX = "/page/"
ABOUT = f"{PREFIX}about.json"
ENTRANCES = {"/": "index.html", "/ops": "ops.html"}
PACKED_FROM_BYTES = 512
STYLE = "style.css"
STYLE_LINK = b'<link rel="stylesheet" href="/page/style.css">'

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
GUARDS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent; ``packed``: gzipped, None where that is no gain."""

    body: bytes
    packed: bytes | None
    kind: str
    tag: str
    guards: dict[str, str] = field(default_factory=lambda: GUARDS)


def shown(server: ServerConfig) -> bool:
    """Return whether the page is served: as the configuration says, else on loopback alone."""
    return is_loopback(server.host) if server.playground is None else server.playground


def is_open(path: str) -> bool:
    """Return whether a path is one of the page's own files, which anybody may have."""
    return path in ENTRANCES or path.startswith(PREFIX)


def routes(settings: Settings, *, needs_key: bool) -> list[web.RouteDef]:
    """Return the routes of the page's files. Reads them, which blocks for milliseconds.

    Args:
        settings: what the page is told of: whether documents and images have a place here.
        needs_key: whether requests need a key.
    """
    files = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.is_file()}
    about = {
        "version": metadata.version("livemind"),
        "needs_key": needs_key,
        "retrieval": settings.rag.enabled,
        "handbook": settings.rag.enabled and settings.rag.corpus is settings.rag.data is None,
        "images": any(expert.images for expert in settings.experts),
    }

    async def told(_: web.Request) -> web.Response:
        return web.json_response(about, headers={**GUARDS, "Cache-Control": "no-cache"})

    named = [web.get(path, _serves(files[name])) for path, name in ENTRANCES.items()]
    inner = [
        web.get(PREFIX + name, _serves(file))
        for name, file in files.items()
        if name not in ENTRANCES.values()
    ]
    return [*named, *inner, web.get(ABOUT, told)]


def _read(path: Path) -> _File:
    body, guards = path.read_bytes(), GUARDS
    if STYLE_LINK in body:
        style = path.with_name(STYLE).read_bytes()
        body = body.replace(STYLE_LINK, b"<style>" + style + b"</style>")
        digest = b64encode(sha256(style).digest()).decode()
        policy = POLICY.replace("style-src", f"style-src 'sha256-{digest}'")
        guards = {**GUARDS, "Content-Security-Policy": policy}
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if path.suffix == ".js":  # systems disagree
        kind = "text/javascript"
    packed = gzip.compress(body, mtime=0) if len(body) >= PACKED_FROM_BYTES else None
    return _File(body, packed, kind, sha256(body).hexdigest()[:32], guards)


def _serves(file: _File) -> Handler:
    async def serve(request: web.Request) -> web.StreamResponse:
        headers = {**file.guards, "Cache-Control": "no-cache", "ETag": f'"{file.tag}"'}
        known = request.if_none_match or ()
        if any(tag.value in (file.tag, "*") for tag in known):
            return web.Response(status=304, headers=headers)
        body = file.body
        if file.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = file.packed, "gzip"
        return web.Response(body=body, content_type=file.kind, charset="utf-8", headers=headers)

    return serve
