"""Images from http(s) URLs, only from hosts that the configuration lists.

A host is listed by name, or its address by network: an address that is not public has to be listed
itself, whatever the name that leads to it. Redirects are followed by the same rule.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from .decode import ImageLimits, invalid, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

# IPv4-mapped and NAT64 (RFC 6052), IPv4-compatible (RFC 4291).
_WITH_IPV4_BEHIND = tuple(map(IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96", "::/96")))
MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)


class AllowList:
    """Which hosts images may come from.

    Args:
        entries: host names, ``*.example.org`` for every host below one, addresses and networks.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._names: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in entries:
            try:
                self._networks.append(ip_network(entry, strict=False))
            except ValueError:
                self._names.add(entry.lower().rstrip("."))

    def has_name(self, host: str) -> bool:
        """Whether the name, or the literal address, is listed."""
        host = host.lower().rstrip(".")
        try:
            address = ip_address(host.strip("[]"))
        except ValueError:
            return any(name in self._names for name in _patterns(host))
        return any(address in network for network in self._networks)

    def has_address(self, address: str) -> bool:
        """Whether a connection to this address is allowed once the name is."""
        found = ip_address(address.partition("%")[0])
        listed = any(found in network for network in self._networks)
        return listed or all(map(_is_public, (found, *_embedded(found))))


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not address.is_multicast and not site_local


def _embedded(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that a connection to an IPv6 address may lead to."""
    if isinstance(address, IPv4Address):
        return
    if (inner := address.sixtofour) is not None:
        yield inner
    if any(address in network for network in _WITH_IPV4_BEHIND):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def _patterns(host: str) -> Iterator[str]:
    yield host
    labels = host.split(".")
    for start in range(1, len(labels)):
        yield f"*.{'.'.join(labels[start:])}"


class _ListedAddresses(AbstractResolver):
    """Resolves names to the addresses that the list allows; the connection uses these."""

    def __init__(self, allowed: AllowList) -> None:
        self._allowed = allowed
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        kept = [one for one in found if self._allowed.has_address(one["host"])]
        if not kept:
            raise OSError("no address that is allowed")
        return kept

    async def close(self) -> None:
        await self._resolver.close()


class ImageFetcher:
    """Fetches images; a connection for each, nothing is kept.

    Args:
        allowed: hosts; none = http(s) URLs are refused.
        limits: of the images.
        timeout_s: longest time of one image, redirects included.
    """

    def __init__(self, allowed: Sequence[str], limits: ImageLimits, timeout_s: float) -> None:
        self._allowed = AllowList(allowed)
        self._limits = limits
        self._timeout_s = timeout_s

    async def fetch(self, url: str, param: str) -> bytes:
        """Return what the URL answers.

        Raises:
            InvalidRequest: the host is not listed, or it did not answer with an image in time.
            PayloadTooLarge: more bytes than the limit.
        """
        connector = aiohttp.TCPConnector(resolver=_ListedAddresses(self._allowed))
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                aiohttp.ClientSession(connector=connector, trust_env=False) as http,
            ):
                return await self._follow(http, url, param)
        except TimeoutError:
            message = f"no image within {self._timeout_s:g} s (images.timeout_s)"
            raise invalid(param, message) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: of a bad URL
            raise invalid(param, f"cannot be fetched: {type(error).__name__}") from None

    async def _follow(self, http: aiohttp.ClientSession, url: str, param: str) -> bytes:
        target = self._checked(url, param)
        for _ in range(MOST_REDIRECTS + 1):
            async with http.get(target, allow_redirects=False) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    target = self._checked(
                        str(target.join(URL(response.headers["Location"]))), param
                    )
                    continue
                if response.status != 200:
                    raise invalid(param, f"the host answered HTTP {response.status}")
                data = bytearray()
                async for block in response.content.iter_any():
                    data += block
                    if len(data) > self._limits.max_bytes:
                        raise too_large(param, self._limits)
                return bytes(data)
        raise invalid(param, f"more than {MOST_REDIRECTS} redirects")

    def _checked(self, url: str, param: str) -> URL:
        try:
            target = URL(url)
            host, port = target.raw_host, target.port
        except ValueError:
            raise invalid(param, "not a URL") from None
        if target.scheme not in ("http", "https") or not host or port is None or target.user:
            raise invalid(param, "need a data:, http: or https: URL without credentials")
        if not self._allowed.has_name(host):
            raise invalid(param, "the host is not listed in images.allowed_hosts")
        return target
