"""A website by its sitemap, on real sockets: what is read, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from livemind.rag.documents.blocks import UnreadableFile
from livemind.rag.search import site as module
from livemind.rag.search.ingest import IngestError
from livemind.rag.search.library import Incoming
from livemind.rag.search.site import Website, website_client

HTML = {"Content-Type": "text/html; charset=utf-8"}


class Site:
    """A server whose answers a test sets: path → body, headers, status; ``asked`` counts."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[bytes, dict[str, str], int]] = {}
        self.asked: Counter[str] = Counter()
        self.fails_first: set[str] = set()
        self.drips: set[str] = set()
        self.user: bytes | None = None
        self.url = ""

    def put(self, path: str, body: str | bytes, status: int = 200, **headers: str) -> None:
        given = {name.replace("_", "-"): value for name, value in headers.items()} or HTML
        self.answers[path] = (body.encode() if isinstance(body, str) else body, given, status)

    def sitemap(self, *pages: str, path: str = "/sitemap.xml", index: bool = False) -> str:
        outer, inner = ("sitemapindex", "sitemap") if index else ("urlset", "url")
        named = [page if "://" in page else self.url + page for page in pages]
        body = "".join(f"<{inner}><loc>{page}</loc></{inner}>" for page in named)
        self.put(path, f"<{outer}>{body}</{outer}>", content_type="application/xml")
        return self.url + path

    async def drip(self, request: web.Request) -> web.StreamResponse:
        """Answer a byte at a time, for ever."""
        response = web.StreamResponse(headers=HTML)
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.05)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked[request.path] += 1
        if request.path in self.fails_first and self.asked[request.path] == 1:
            return web.Response(status=503)
        basic = f"Basic {base64.b64encode(self.user or b'').decode()}"
        if self.user is not None and request.headers.get("Authorization") != basic:
            return web.Response(status=401)
        if request.path in self.drips:
            return await self.drip(request)
        body, headers, status = self.answers.get(request.path, (b"", HTML, 404))
        return web.Response(body=body, headers=headers, status=status)


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(module, "wait_random_exponential", lambda **_: lambda _: 0.0)
    found, app = Site(), web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    async with TestServer(app) as server:
        found.url = str(server.make_url("")).rstrip("/")
        yield found


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with website_client() as client:
        yield client


async def fetched(website: Website) -> tuple[dict[str, Incoming], list[str]]:
    documents, refused = {}, []
    async for one in website.documents():
        if isinstance(one, UnreadableFile):
            refused.append(str(one))
        else:
            documents[one.source.partition("://")[2].partition("/")[2]] = one
    return documents, refused


async def test_site_gives_each_page_in_its_format_named_by_its_address(
    site: Site, http: httpx.AsyncClient
) -> None:
    pages = ["/a", "/b.md", "/c.pdf", "/d", "/e.rst", "/f", "/g"]
    site.put("/a", "<p>one")
    site.put("/b.md", "# two", content_type="text/plain")
    site.put("/c.pdf", b"%PDF-", content_type="application/pdf")
    site.put("/d", "four", content_type="text/plain; charset=utf-8")
    site.put("/e.rst", "five", content_type="application/octet-stream")
    site.put("/f", b"\x89PNG", content_type="image/png")
    website = await Website.of(site.sitemap(*pages), http)
    documents, refused = await fetched(website)
    assert len(website) == len(pages)
    formats = {name: one.format for name, one in documents.items()}
    assert formats == {"a": "html", "b.md": "md", "c.pdf": "pdf", "d": "txt", "e.rst": "rst"}
    assert documents["a"].id == documents["a"].source == site.url + "/a"
    assert documents["a"].content == b"<p>one"
    assert refused == [
        f"{site.url}/f: image/png is none of the known formats", f"{site.url}/g: status 404",
    ]  # fmt: skip


async def test_site_of_an_index_gives_the_pages_of_all_its_sitemaps_once(
    site: Site, http: httpx.AsyncClient
) -> None:
    site.sitemap("/a", "/b", path="/one.xml")
    site.sitemap("/b", "/c", path="/two.xml")
    top = site.sitemap("/one.xml", "/two.xml", "/index.xml", path="/index.xml", index=True)
    website = await Website.of(top, http)
    assert [page.removeprefix(site.url) for page in website.pages] == ["/a", "/b", "/c"]
    assert max(site.asked.values()) == 1


async def test_site_leaves_out_other_hosts_and_what_robots_txt_keeps(
    site: Site, http: httpx.AsyncClient
) -> None:
    site.put("/robots.txt", "User-agent: *\nDisallow: /private/\n", content_type="text/plain")
    elsewhere = ["http://elsewhere.example/x", "ftp://elsewhere.example/y", "http://[", "/a"]
    website = await Website.of(site.sitemap("/private/x", *elsewhere), http)
    assert website.pages == (site.url + "/a",)
    assert website.left_out == 4
    assert "/private/x" not in site.asked


async def test_site_follows_redirects_on_its_host_alone(
    site: Site, http: httpx.AsyncClient
) -> None:
    site.put("/old", "", 301, location="/new")
    site.put("/new", "<p>moved")
    site.put("/away", "", 302, location="http://elsewhere.example/")
    site.put("/round", "", 302, location="/round")
    documents, refused = await fetched(
        await Website.of(site.sitemap("/old", "/away", "/round"), http)
    )
    assert documents["old"].content == b"<p>moved"
    assert refused == [
        f"{site.url}/away: leads to another host, elsewhere.example",
        f"{site.url}/round: more than 5 redirects",
    ]


async def test_site_that_is_busy_is_asked_again_and_given_up_after_three_tries(
    site: Site, http: httpx.AsyncClient
) -> None:
    site.fails_first = {"/sitemap.xml", "/a"}
    site.put("/a", "<p>at last")
    site.put("/b", "", 503)
    documents, refused = await fetched(await Website.of(site.sitemap("/a", "/b"), http))
    assert documents["a"].content == b"<p>at last"
    assert refused == [f"{site.url}/b: status 503"]
    assert site.asked["/b"] == 3


async def test_site_page_beyond_the_limit_is_refused_and_the_rest_read(
    site: Site, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    site.put("/a", "a" * 1001)
    site.put("/b", "<p>b")
    documents, refused = await fetched(await Website.of(site.sitemap("/a", "/b"), http))
    assert list(documents) == ["b"]
    assert refused == [f"{site.url}/a: larger than 1000 bytes"]


@pytest.mark.parametrize(("path", "why"), [
    ("/nothing.xml", "status 404"), ("/page", "not a sitemap: <html>"),
    ("/others.xml", "no page of 1: none is on this host"),
])  # fmt: skip
async def test_site_without_a_usable_sitemap_says_why(
    site: Site, http: httpx.AsyncClient, path: str, why: str
) -> None:
    site.put("/page", "<html></html>")
    site.sitemap("http://elsewhere.example/x", path="/others.xml")
    with pytest.raises(IngestError) as refused:
        await Website.of(site.url + path, http)
    assert str(refused.value).startswith(f"{site.url}{path}: {why}")


async def test_site_that_does_not_answer_says_so(http: httpx.AsyncClient, site: Site) -> None:
    with pytest.raises(IngestError, match="no answer"):
        await Website.of("http://127.0.0.1:1/sitemap.xml", http)


async def test_site_names_pages_by_one_address_each_without_fragment(
    site: Site, http: httpx.AsyncClient
) -> None:
    upper = site.url.replace("http://", "HTTP://")
    top = site.sitemap("/a#one", "/a#two", f"{upper}/a")
    website = await Website.of(top.replace("http://", "HTTP://"), http)
    assert website.pages == (site.url + "/a",)


async def test_site_credentials_are_sent_to_its_host_and_stand_nowhere(
    site: Site, http: httpx.AsyncClient
) -> None:
    site.user = b"me:secret"
    site.put("/a", "<p>a")
    named = site.url.replace("http://", "http://other:secret@")
    top = site.sitemap("/a", f"{named}/b").replace("http://", "http://me:secret@")
    documents, refused = await fetched(await Website.of(top, http))
    assert documents["a"].content == b"<p>a"
    assert documents["a"].id == f"{site.url}/a"
    assert refused == [f"{site.url}/b: status 404"]
    with pytest.raises(IngestError) as failed:
        await Website.of(top.replace("sitemap.xml", "none.xml"), http)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("rules", [
    "User-agent: *\nDisallow: /*.pdf$\nDisallow: /in/*/b",
    "User-agent: *\n\nDisallow: /x.pdf\nDisallow: /in",
    "User-agent: *\nAllow: /\nDisallow: /in/\nDisallow: /x.pdf",
    "\ufeffUser-agent: *\nDisallow: /x.pdf\nUser-agent: *\nDisallow: /in",
    "User-agent: *\nDisallow: /x.pdf\nDisallow: /in\n" + "#" * 600_000,
], ids=["wildcards", "blank-line", "longest", "mark-and-groups", "long"])  # fmt: skip
async def test_site_keeps_to_robots_txt_as_rfc_9309_has_it(
    site: Site, http: httpx.AsyncClient, rules: str
) -> None:
    site.put("/robots.txt", rules, content_type="text/plain")
    site.put("/way", "", 301, location="/x.pdf")
    site.put("/a", "<p>a")
    documents, refused = await fetched(
        await Website.of(site.sitemap("/x.pdf", "/in/a/b", "/way", "/a"), http)
    )
    assert list(documents) == ["a"]
    assert refused == [f"{site.url}/way: leads to what robots.txt keeps"]
    assert not {"/x.pdf", "/in/a/b"} & set(site.asked)


async def test_site_whose_robots_txt_cannot_be_had_is_not_read(
    site: Site, http: httpx.AsyncClient
) -> None:
    site.put("/robots.txt", "", 503)
    site.put("/a", "<p>a")
    with pytest.raises(IngestError, match=r"/robots.txt: status 503"):
        await Website.of(site.sitemap("/a"), http)
    assert "/sitemap.xml" not in site.asked


async def test_site_text_in_another_charset_becomes_utf_8(
    site: Site, http: httpx.AsyncClient
) -> None:
    site.put("/a", "<p>a\u00f1o".encode("latin-1"), content_type="text/html; charset=ISO-8859-1")
    head = "<meta http-equiv='Content-Type' content='text/html; charset=shift_jis'>"
    site.put(
        "/b", f"<html><head>{head}</head><p>\u9df9".encode("shift_jis"), content_type="text/html"
    )
    site.put("/c", "x", content_type="text/html; charset=nonsense")
    documents, refused = await fetched(await Website.of(site.sitemap("/a", "/b", "/c"), http))
    assert documents["a"].content.decode() == "<p>a\u00f1o"
    assert documents["b"].content.decode().endswith("<p>\u9df9")
    assert refused == [f"{site.url}/c: not text in 'nonsense'"]


async def test_site_with_a_lost_sitemap_in_its_index_gives_the_pages_of_the_others(
    site: Site, http: httpx.AsyncClient
) -> None:
    site.put("/a", "<p>a")
    site.sitemap("/a", path="/one.xml")
    top = site.sitemap("/missing.xml", "/one.xml", path="/index.xml", index=True)
    website = await Website.of(top, http)
    documents, refused = await fetched(website)
    assert list(documents) == ["a"]
    assert refused == [f"{site.url}/missing.xml: status 404"]
    assert len(website) == 2


async def test_site_page_that_drips_is_given_up(
    site: Site, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_TIMEOUT_S", 0.5)
    site.drips.add("/a")
    site.put("/b", "<p>b")
    documents, refused = await fetched(await Website.of(site.sitemap("/a", "/b"), http))
    assert list(documents) == ["b"]
    assert refused == [f"{site.url}/a: not whole after 0.5 s"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/s.xml", "http:///s.xml", "http://[/s"])
async def test_site_of_no_address_says_so(http: httpx.AsyncClient, address: str) -> None:
    with pytest.raises(IngestError):
        await Website.of(address, http)
