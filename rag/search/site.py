"""A website by its sitemap as a source of documents: pages are fetched, their addresses name them.

Owns what is fetched: pages of the sitemap's own host alone, as the protocol has it, and of these
what the site's robots.txt lets everybody read (RFC 9309). Names are addresses without fragment and
without credentials; those of the sitemap's address are sent to its host.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message

import httpx
from protego import Protego
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
WHOLE_TIMEOUT_S = 300.0
MOST_REDIRECTS = 5
MAX_MAPS = 1_000
MAX_PAGES = 100_000
MAX_ROBOTS_BYTES = 500 * 1024
"""So much of a robots.txt counts (RFC 9309, 2.5)."""
FORMATS_BY_TYPE = {
    "text/html": "html", "application/xhtml+xml": "html", "text/plain": "txt",
    "text/markdown": "md", "application/pdf": "pdf", "application/json": "json",
    "text/csv": "csv", "application/epub+zip": "epub",
}  # fmt: skip
_BINARY = ("pdf", "docx", "epub")
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_MOST_PORT = 65_535


def is_address(source: str) -> bool:
    """Tell whether this names something to be fetched, not a folder."""
    return source.lower().startswith(("http://", "https://"))


def website_client() -> httpx.AsyncClient:
    """Return a client that says who asks; close it when done."""
    return httpx.AsyncClient(timeout=TIMEOUT_S, headers={"User-Agent": AGENT})


class _Again(Exception):
    """Another try may get it."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What stood at an address, and what its server calls it."""

    content: bytes
    kind: str
    charset: str | None


class Host:
    """The one host that is asked, by the rules of its robots.txt once they are known."""

    def __init__(self, http: httpx.AsyncClient, sitemap: str) -> None:
        """Note where the sitemap is. Raises UnreadableFile: that is no address."""
        try:
            given = httpx.URL(sitemap)
        except httpx.InvalidURL as exc:
            raise UnreadableFile(f"the sitemap's address: {exc}") from None
        self.sitemap = _bare(given)
        if not given.host or (given.port or 0) > _MOST_PORT:
            raise UnreadableFile(f"{self.sitemap}: no host, or a port beyond {_MOST_PORT}")
        named = given.username or given.password
        self._auth = httpx.BasicAuth(given.username, given.password) if named else None
        self._http = http
        self._rules = Protego.parse("")

    def own(self, address: str) -> str | None:
        """Return what an address of this host is called; None for one of another, or for none."""
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL:
            return None
        return _bare(url) if self._has(url) else None

    def may(self, name: str) -> bool:
        """Whether robots.txt lets this be read."""
        return bool(self._rules.can_fetch(name, AGENT))

    def _has(self, url: httpx.URL) -> bool:
        own = httpx.URL(self.sitemap)
        return url.scheme in ("http", "https") and url.netloc == own.netloc

    async def read_robots(self) -> None:
        """Keep to robots.txt from now on; where there is none, everything may be read.

        Raises:
            UnreadableFile: the server does not answer, or with an error of its own: then nothing
                may be read (RFC 9309, 2.3.1.4).
        """
        place = str(httpx.URL(self.sitemap).join("/robots.txt"))
        try:
            found = await self.fetched(place, MAX_ROBOTS_BYTES, robots=True)
        except _Absent:
            return
        text = found.content.decode("utf-8-sig", "replace")
        self._rules = Protego.parse(text)

    async def fetched(self, address: str, limit: int, *, robots: bool = False) -> _Fetched:
        """Return what stands at an address.

        Args:
            address: of this host.
            limit: bytes.
            robots: it is robots.txt: followed to other hosts, and cut at the limit, not refused.

        Raises:
            _Absent: the server says that it is not there, or not for us.
            UnreadableFile: it cannot be had, leads where nothing is read, or is too large.
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
                    async with asyncio.timeout(WHOLE_TIMEOUT_S):
                        return await self._answer(address, limit, robots=robots)
        except _Again as exc:
            raise UnreadableFile(f"{address}: {exc}") from None
        except TimeoutError:
            raise UnreadableFile(f"{address}: not whole after {WHOLE_TIMEOUT_S:g} s") from None
        raise AssertionError("tenacity tries, or raises")

    async def _answer(self, address: str, limit: int, *, robots: bool) -> _Fetched:
        place = httpx.URL(address)
        for _ in range(MOST_REDIRECTS + 1):
            auth = self._auth if self._has(place) else None
            request = self._http.build_request("GET", place)
            try:
                response = await self._http.send(request, stream=True, auth=auth)
            except httpx.TransportError as exc:
                raise _Again(f"no answer ({type(exc).__name__})") from None
            try:
                if response.status_code in _AGAIN:
                    raise _Again(f"status {response.status_code}")
                if response.next_request is not None:
                    place = response.next_request.url
                    if not robots:
                        self._check_way(address, place)
                    continue
                if response.status_code != httpx.codes.OK:
                    absent = _Absent if response.is_client_error else UnreadableFile
                    raise absent(f"{address}: status {response.status_code}")
                return await _whole(response, address, limit, cut=robots)
            finally:
                await response.aclose()
        raise UnreadableFile(f"{address}: more than {MOST_REDIRECTS} redirects")

    def _check_way(self, address: str, place: httpx.URL) -> None:
        if not self._has(place):
            raise UnreadableFile(f"{address}: leads to another host, {place.host}")
        if not self.may(_bare(place)):
            raise UnreadableFile(f"{address}: leads to what robots.txt keeps")


class _Absent(UnreadableFile):
    """The server says that it is not there, or not for us."""


@dataclass(frozen=True, slots=True)
class Website:
    """The pages that a sitemap names and that may be read.

    Attributes:
        host: who is asked.
        pages: addresses, in the sitemap's order.
        left_out: how many the sitemap names on other hosts, or robots.txt keeps.
        lost: for each further sitemap that could not be read, why.
    """

    host: Host
    pages: tuple[str, ...]
    left_out: int = 0
    lost: tuple[UnreadableFile, ...] = ()

    @classmethod
    async def of(cls, sitemap: str, http: httpx.AsyncClient) -> Website:
        """Read a sitemap and those that it is an index of.

        Raises:
            IngestError: it or robots.txt cannot be fetched or read, it names no page that may be
                read, more than 100,000, or an index of more than 1,000 sitemaps.
        """
        try:
            host = Host(http, sitemap)
            await host.read_robots()
            named, lost = await _named(host)
        except UnreadableFile as exc:
            raise IngestError(str(exc)) from None
        own = [name for name in map(host.own, named) if name is not None and host.may(name)]
        if not own:
            why = "; ".join(map(str, lost)) or "none is on this host and may be read"
            raise IngestError(f"{host.sitemap}: no page of {len(named)}: {why}")
        return cls(host, tuple(dict.fromkeys(own)), len(named) - len(own), lost)

    def __len__(self) -> int:
        return len(self.pages) + len(self.lost)

    async def documents(self) -> AsyncIterator[Incoming | UnreadableFile]:
        """Fetch and yield each page, or why it cannot be read."""
        for failure in self.lost:
            yield failure
        for first in range(0, len(self.pages), AT_ONCE):
            pages = self.pages[first : first + AT_ONCE]
            for one in await asyncio.gather(*map(self._document, pages)):
                yield one

    async def _document(self, page: str) -> Incoming | UnreadableFile:
        try:
            check_name(page)
            found = await self.host.fetched(page, MAX_FILE_BYTES)
            form = _format(page, found.kind)
            return Incoming(page, page, form, _utf8(page, form, found))
        except UnreadableFile as exc:
            return exc


async def _named(host: Host) -> tuple[list[str], tuple[UnreadableFile, ...]]:
    """Return the pages of a sitemap and of those that it names; why some of these are lost."""
    waiting, seen = [host.sitemap], {host.sitemap}
    pages: dict[str, None] = {}
    lost: list[UnreadableFile] = []
    while waiting:
        place = waiting.pop(0)
        try:
            found = await _sitemap(host, place)
        except UnreadableFile as exc:
            if place == host.sitemap:
                raise
            lost.append(exc)
            continue
        pages |= dict.fromkeys(found.pages)
        maps = map(host.own, found.maps)
        news = dict.fromkeys(one for one in maps if one is not None and one not in seen)
        waiting += news
        seen.update(news)
        if len(seen) > MAX_MAPS:
            raise UnreadableFile(f"{host.sitemap}: an index of more than {MAX_MAPS} sitemaps")
        if len(pages) > MAX_PAGES:
            raise UnreadableFile(f"{host.sitemap}: more than {MAX_PAGES} pages")
    return list(pages), tuple(lost)


async def _sitemap(host: Host, address: str) -> Sitemap:
    content = (await host.fetched(address, MAX_BYTES)).content
    try:
        return read_sitemap(content)
    except UnreadableFile as exc:
        raise UnreadableFile(f"{address}: {exc}") from None


async def _whole(response: httpx.Response, address: str, limit: int, *, cut: bool) -> _Fetched:
    content = bytearray()
    try:
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > limit and cut:
                break
            if len(content) > limit:
                raise UnreadableFile(f"{address}: larger than {limit} bytes")
    except httpx.TransportError as exc:
        raise _Again(f"broke off ({type(exc).__name__})") from None
    except httpx.DecodingError:
        raise UnreadableFile(f"{address}: not encoded as its headers say") from None
    told = Message()
    told["content-type"] = response.headers.get("content-type", "application/octet-stream")
    charset = told.get_content_charset()
    return _Fetched(bytes(content[:limit]), told.get_content_type(), charset)


def _bare(url: httpx.URL) -> str:
    """Return an address without credentials and fragment."""
    return str(url.copy_with(userinfo=b"", fragment=None))


def _format(page: str, kind: str) -> str:
    """Return the format by what the server calls it, else by the address's ending."""
    if (named := FORMATS_BY_TYPE.get(kind)) is not None and named != "txt":
        return named
    name = httpx.URL(page).path
    if name.rpartition(".")[2].lower() in ENDINGS:
        return format_of(name)
    if named is None:
        raise UnreadableFile(f"{page}: {kind} is none of the known formats")
    return named


def _utf8(page: str, form: str, found: _Fetched) -> bytes:
    """Return text of another charset, which headers or the page itself name, as UTF-8."""
    if form in _BINARY:
        return found.content
    charset = found.charset or (_own_charset(found.content) if form == "html" else None)
    if charset is None or charset.replace("_", "-") in ("utf-8", "utf8"):
        return found.content
    try:
        return found.content.decode(charset).encode()
    except (LookupError, UnicodeDecodeError):
        raise UnreadableFile(f"{page}: not text in {charset[:40]!a}") from None


def _own_charset(content: bytes) -> str | None:
    """Return the charset that the head of an HTML page names."""
    from lxml import etree, html

    try:
        head = html.document_fromstring(content[:4096])
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return None
    for meta in head.iter("meta"):
        if meta.get("charset"):
            return str(meta.get("charset")).strip().lower()
        if str(meta.get("http-equiv", "")).lower() == "content-type":
            told = Message()
            told["content-type"] = str(meta.get("content", ""))
            return told.get_content_charset()
    return None
