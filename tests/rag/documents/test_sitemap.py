"""Sitemaps as sites write them: XML, indexes, text, gzip; and what is none."""

from __future__ import annotations

import gzip

import pytest

from livemind.rag.documents import sitemap as module
from livemind.rag.documents.blocks import UnreadableFile
from livemind.rag.documents.sitemap import Sitemap, read_sitemap

SPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
URLS = f"""<?xml version="1.0" encoding="UTF-8"?>
<urlset {SPACE} xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
  <url><loc> https://a.example/one?x=1&amp;y=2 </loc><lastmod>2026-01-02</lastmod></url>
  <url><loc>https://a.example/two</loc>
    <image:image><image:loc>https://a.example/picture.png</image:loc></image:image>
    <image:loc>https://a.example/other.png</image:loc></url>
  <url><loc>https://a.example/two</loc></url>
  <url><lastmod>2026-01-02</lastmod></url>
</urlset>"""
PAGES = ("https://a.example/one?x=1&y=2", "https://a.example/two")


def test_sitemap_names_each_page_once_and_no_picture() -> None:
    assert read_sitemap(URLS.encode()) == Sitemap(pages=PAGES)


def test_sitemap_index_names_sitemaps() -> None:
    index = f"<sitemapindex {SPACE}><sitemap><loc>https://a.example/m.xml</loc></sitemap>"
    found = read_sitemap(f"{index}</sitemapindex>".encode())
    assert found == Sitemap(maps=("https://a.example/m.xml",))


@pytest.mark.parametrize("content", [
    "\ufeff" + URLS.partition("?>")[2], URLS.replace(SPACE, ""), "\n".join(PAGES) + "\n\n",
    "\ufeff" + "\r\n".join(PAGES),
], ids=["byte-order-mark", "no-namespace", "text", "text-of-windows"])  # fmt: skip
def test_sitemap_in_other_forms_names_the_same(content: str) -> None:
    assert read_sitemap(content.encode()).pages == PAGES
    assert read_sitemap(gzip.compress(content.encode())).pages == PAGES


@pytest.mark.parametrize(("content", "why"), [
    (b"<urlset><url>", "not XML"),
    (b"<html><body>404</body></html>", "not a sitemap: <html>"),
    (b"Not found", "not a sitemap: 'Not found' is no address"),
    (b"https://a.example/\xff", "not UTF-8"),
    (gzip.compress(URLS.encode())[:-20], "cut"),
    (b"\x1f\x8b rubbish", "not readable gzip"),
])  # fmt: skip
def test_sitemap_that_is_none_says_why(content: bytes, why: str) -> None:
    with pytest.raises(UnreadableFile, match=why):
        read_sitemap(content)


def test_sitemap_in_several_gzip_members_is_read_whole() -> None:
    members = [gzip.compress(f"{page}\n".encode()) for page in PAGES]
    assert read_sitemap(b"".join(members)).pages == PAGES
    half = len(URLS) // 2
    members = [gzip.compress(URLS[:half].encode()), gzip.compress(URLS[half:].encode())]
    assert read_sitemap(b"".join(members)).pages == PAGES


def test_sitemap_address_with_a_comment_in_it_is_whole() -> None:
    page = "<urlset><url><loc>https://a.example/<!-- here -->x</loc></url></urlset>"
    assert read_sitemap(page.encode()).pages == ("https://a.example/x",)


def test_sitemap_of_entities_is_not_expanded() -> None:
    bomb = (
        '<!DOCTYPE u [<!ENTITY a "https://a.example/">]><urlset><url><loc>&a;</loc></url></urlset>'
    )
    assert read_sitemap(bomb.encode()).pages == ()


def test_sitemap_beyond_the_limits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ADDRESSES", 1)
    with pytest.raises(UnreadableFile, match="2 addresses, the limit is 1"):
        read_sitemap(URLS.encode())
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    for content in (URLS.encode(), gzip.compress(URLS.encode())):
        with pytest.raises(UnreadableFile, match="larger than 100 bytes"):
            read_sitemap(content)
