"""A website by its sitemap as a source of documents: pages are fetched, their addresses name them.

Owns what is fetched: pages of the sitemap's own host alone, as the protocol has it, and of these
what the site's robots.txt lets everybody read (RFC 9309).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.robotparser import RobotFileParser

import httpx
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from ..documents.blocks import UnreadableFile
from ..documents.parsing import ENDINGS, MAX_FILE_BYTES, format_of
from ..documents.sitemap import MAX_BYTES, Sitemap, read_sitemap
from .ingest import IngestError, check_name
from .library import Incoming

AGENT = "LiveMind"
AT_ONCE = 4
TRIES = 3
TIMEOUT_S = 30.0
MOST_REDIRECTS = 5
MAX_MAPS = 1_000
MAX_PAGES = 100_000
MAX_ROBOTS_BYTES = 500 * 1024
FORMATS_BY_TYPE = {
    "text/html": "html", "application/xhtml+xml": "html", "text/plain": "txt",
    "text/markdown": "md", "application/pdf": "pdf", "application/json": "json",
    "text/csv": "csv", "application/epub+zip": "epub",
}  # fmt: skip
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


def is_address(source: str) -> bool:
    """Tell whether this names something to be fetched, not a folder."""
    return source.startswith(("http://", "https://"))


def website_client() -> httpx.AsyncClient:
    """Return a client that says who asks; close it when done."""
    return httpx.AsyncClient(timeout=TIMEOUT_S, headers={"User-Agent": AGENT})


class _Again(Exception):
    """Another try may get it."""


@dataclass(frozen=True, slots=True)
class Website:
    """The pages that a sitemap names and that may be read.

    Attributes:
        http: who fetches.
        pages: addresses, in the sitemap's order.
        left_out: how many the sitemap names on other hosts, or robots.txt keeps.
    """

    http: httpx.AsyncClient
    pages: tuple[str, ...]
    left_out: int = 0

    @classmethod
    async def of(cls, sitemap: str, http: httpx.AsyncClient) -> Website:
        """Read a sitemap and those that it is an index of.

        Raises:
            IngestError: it cannot be fetched or read, names no page that may be read, more than
                100,000, or an index of more than 1,000 sitemaps.
        """
        try:
            host = httpx.URL(sitemap)
            robots = await _robots(http, host)
            named = await _named(http, sitemap)
        except UnreadableFile as exc:
            raise IngestError(str(exc)) from None
        except httpx.InvalidURL as exc:
            raise IngestError(f"{sitemap}: {exc}") from None
        pages = tuple(page for page in named if _same_host(host, page) and robots(page))
        if not pages:
            message = f"{sitemap}: none of its {len(named)} pages is on this host and may be read"
            raise IngestError(message)
        return cls(http, pages, len(named) - len(pages))

    def __len__(self) -> int:
        return len(self.pages)

    async def documents(self) -> AsyncIterator[Incoming | UnreadableFile]:
        """Fetch and yield each page, or why it cannot be read."""
        for first in range(0, len(self.pages), AT_ONCE):
            pages = self.pages[first : first + AT_ONCE]
            for one in await asyncio.gather(*map(self._document, pages)):
                yield one

    async def _document(self, page: str) -> Incoming | UnreadableFile:
        try:
            check_name(page)
            response = await _fetched(self.http, page, MAX_FILE_BYTES)
            return Incoming(page, page, _format(page, response), response.content)
        except UnreadableFile as exc:
            return exc


async def _named(http: httpx.AsyncClient, sitemap: str) -> list[str]:
    """Return the pages of a sitemap and of those that it names, each once."""
    host, waiting, seen = httpx.URL(sitemap), [sitemap], {sitemap}
    pages: dict[str, None] = {}
    while waiting:
        found = await _sitemap(http, waiting.pop(0))
        pages |= dict.fromkeys(found.pages)
        news = [one for one in found.maps if one not in seen and _same_host(host, one)]
        waiting += news
        seen.update(news)
        if len(seen) > MAX_MAPS:
            raise UnreadableFile(f"{sitemap}: an index of more than {MAX_MAPS} sitemaps")
        if len(pages) > MAX_PAGES:
            raise UnreadableFile(f"{sitemap}: more than {MAX_PAGES} pages")
    return list(pages)


async def _sitemap(http: httpx.AsyncClient, address: str) -> Sitemap:
    content = (await _fetched(http, address, MAX_BYTES)).content
    try:
        return read_sitemap(content)
    except UnreadableFile as exc:
        raise UnreadableFile(f"{address}: {exc}") from None


async def _robots(http: httpx.AsyncClient, host: httpx.URL) -> Callable[[str], bool]:
    rules = RobotFileParser()
    try:
        answer = await _fetched(http, str(host.join("/robots.txt")), MAX_ROBOTS_BYTES)
    except UnreadableFile:
        return lambda page: True
    rules.parse(answer.text.splitlines())
    return lambda page: rules.can_fetch(AGENT, page)


async def _fetched(http: httpx.AsyncClient, address: str, limit: int) -> httpx.Response:
    """Return what stands at an address, read whole.

    Raises:
        UnreadableFile: it cannot be had, leads to another host, or is larger than ``limit`` bytes.
    """
    tries = AsyncRetrying(
        retry=retry_if_exception_type(_Again),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(max=5.0),
        reraise=True,
    )
    try:
        async for attempt in tries:
            with attempt:
                return await _answer(http, address, limit)
    except _Again as exc:
        raise UnreadableFile(f"{address}: {exc}") from None
    raise AssertionError("tenacity tries, or raises")


async def _answer(http: httpx.AsyncClient, address: str, limit: int) -> httpx.Response:
    place = httpx.URL(address)
    for _ in range(MOST_REDIRECTS + 1):
        request = http.build_request("GET", place)
        try:
            response = await http.send(request, stream=True)
        except httpx.TransportError as exc:
            raise _Again(f"no answer ({type(exc).__name__})") from None
        try:
            if response.status_code in _AGAIN:
                raise _Again(f"status {response.status_code}")
            if response.next_request is not None:
                place = response.next_request.url
                if not _same_host(httpx.URL(address), str(place)):
                    raise UnreadableFile(f"{address}: leads to another host, {place.host}")
                continue
            if response.status_code != httpx.codes.OK:
                raise UnreadableFile(f"{address}: status {response.status_code}")
            return await _whole(response, address, limit)
        finally:
            await response.aclose()
    raise UnreadableFile(f"{address}: more than {MOST_REDIRECTS} redirects")


async def _whole(response: httpx.Response, address: str, limit: int) -> httpx.Response:
    content = bytearray()
    try:
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > limit:
                raise UnreadableFile(f"{address}: larger than {limit} bytes")
    except httpx.TransportError as exc:
        raise _Again(f"broke off ({type(exc).__name__})") from None
    except httpx.DecodingError:
        raise UnreadableFile(f"{address}: not encoded as its headers say") from None
    headers = {"content-type": response.headers.get("content-type", "")}
    return httpx.Response(response.status_code, headers=headers, content=bytes(content))


def _same_host(host: httpx.URL, address: str) -> bool:
    try:
        other = httpx.URL(address)
    except httpx.InvalidURL:
        return False
    return other.scheme in ("http", "https") and other.netloc == host.netloc


def _format(page: str, response: httpx.Response) -> str:
    """Return the format by what the server calls it, else by the address's ending."""
    kind = response.headers["content-type"].partition(";")[0].strip().lower()
    if (named := FORMATS_BY_TYPE.get(kind)) is not None and named != "txt":
        return named
    name = httpx.URL(page).path
    if name.rpartition(".")[2].lower() in ENDINGS:
        return format_of(name)
    if named is None:
        raise UnreadableFile(f"{page}: {kind or 'no content type'} is none of the known formats")
    return named
