"""A website by its sitemap, on real sockets: what is read, and what becomes of the rest."""

from __future__ import annotations

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

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[request.path] += 1
        if request.path in self.fails_first and self.asked[request.path] == 1:
            return web.Response(status=503)
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
    ("/others.xml", "none of its 1 pages is on this host"),
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
