"""Which hosts, web pages and bodies a server of this machine answers: rules, no server. Pure.

A browser lets every page send requests to this machine. What tells such a request is its Origin,
its Host (a name of the page's own that points here: DNS rebinding) and, for a body that it sends
without asking first, its content type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

ANY = "*"
# What a page may send elsewhere without asking first.
_FORMS = frozenset({"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"})
# No page can send the second one unasked, and tools do so where nobody named a type.
_TAKEN = frozenset({"application/json", "application/octet-stream"})
# What curl and others call a body of which they know nothing; a page shows itself by its Origin.
_UNNAMED = frozenset({"", "application/x-www-form-urlencoded"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered; the message is fit to be shown."""

    status: int
    code: str
    message: str


class Origins:
    """The rules of one server.

    Args:
        bound: address that the server listens on; a request may name it.
        hosts: further names that requests may call the server by; ``*.NAME`` = all below it,
            ``*`` = any.
        origins: pages at other origins that may use the server; ``*`` = any.
        hosts_key, origins_key: what these two are called in the configuration, for messages.
        any_host: the name need not be looked at.
    """

    def __init__(
        self,
        bound: str,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        *,
        hosts_key: str = "server.allowed_hosts",
        origins_key: str = "server.allowed_origins",
        any_host: bool = False,
    ) -> None:
        self._hosts = frozenset(host.lower().rstrip(".") for host in (*hosts, bound))
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._hosts_key, self._origins_key = hosts_key, origins_key
        self._any_host = any_host or ANY in self._hosts
        self._any_address = not is_loopback(bound)

    def refusal(self, method: str, headers: Mapping[str, str], *, has_body: bool) -> Refusal | None:
        """Return why a request is not answered, None if it is.

        Args:
            method: of the request.
            headers: of the request, whatever the case of their names is.
            has_body: whether there is one.
        """
        host = headers.get("Host", "")
        if not self._takes_host(host):
            message = f"Host: this server is not called {_shown(host)}; see {self._hosts_key}"
            return Refusal(421, "host_not_allowed", message)
        origin = headers.get("Origin")
        if origin is not None:
            if not self.allows(origin, host):
                message = (
                    f"Origin: pages of {_shown(origin)} may not use this server; see "
                    f"{self._origins_key}"
                )
                return Refusal(403, "origin_not_allowed", message)
        elif headers.get("Sec-Fetch-Site") == "cross-site" and not (
            method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
        ):
            message = f"Origin: another site's page asks; see {self._origins_key}"
            return Refusal(403, "origin_not_allowed", message)
        if method in ("POST", "PUT", "PATCH", "DELETE") and has_body:
            return _wrong_type(headers)
        return None

    def allows(self, origin: str, host: str) -> bool:
        """Return whether a page of this origin may use a server that it calls ``host``."""
        origin = origin.lower()
        if ANY in self._origins or origin in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or not name:
            return False
        return is_loopback(name) or parts.netloc == host.lower()

    def _takes_host(self, host: str) -> bool:
        if self._any_host or not host:
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if is_loopback(name) or name in self._hosts:
            return True
        # Where others may come in: addresses, to which nobody can point a name, and names without a
        # dot, which no site has: containers and services call each other so.
        if self._any_address and ("." not in name or _is_address(name)):
            return True
        return any(h.startswith("*.") and name.endswith(h[1:]) for h in self._hosts)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine under one of its own names, whatever a DNS says."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _wrong_type(headers: Mapping[str, str]) -> Refusal | None:
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    by_page = "Origin" in headers or "Sec-Fetch-Site" in headers
    if kind in _TAKEN or kind.endswith("+json") or (kind in _UNNAMED and not by_page):
        return None
    why = "; a form cannot be read" if kind in _FORMS else ""
    message = f"Content-Type: got {_shown(kind or 'none')}, need application/json{why}"
    return Refusal(415, "unsupported_content_type", message)


def _shown(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:100])
