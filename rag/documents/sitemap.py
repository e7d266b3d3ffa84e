"""Sitemaps as lists of addresses (sitemaps.org, protocol 0.90): XML, text, either in gzip."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from .blocks import UnreadableFile

MAX_BYTES = 50 * 1024 * 1024
MAX_ADDRESSES = 50_000
_GZIP = b"\x1f\x8b"
_BOTH_FORMS = 47  # of zlib: a header of either kind


@dataclass(frozen=True, slots=True)
class Sitemap:
    """What a sitemap names: ``pages``, and ``maps`` where it is an index of others; in order."""

    pages: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()


def read_sitemap(content: bytes) -> Sitemap:
    """Return the addresses in a sitemap as they stand there; doubles are left out.

    Raises:
        UnreadableFile: neither XML of a sitemap nor a list of addresses; larger than 50 MiB when
            unpacked, or with more than 50,000 addresses, the limits of the protocol.
    """
    content = _unpacked(content)
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        found = _xml(content)
    else:
        found = Sitemap(pages=_lines(content))
    if (count := len(found.pages) + len(found.maps)) > MAX_ADDRESSES:
        raise UnreadableFile(f"{count} addresses, the limit is {MAX_ADDRESSES}")
    return found


def _unpacked(content: bytes) -> bytes:
    if content.startswith(_GZIP):
        content = _gunzipped(content)
    if len(content) > MAX_BYTES:
        raise UnreadableFile(f"larger than {MAX_BYTES} bytes")
    return content


def _gunzipped(content: bytes) -> bytes:
    """Return the contents of all members, up to a little more than the limit."""
    found = b""
    while content.startswith(_GZIP) and len(found) <= MAX_BYTES:
        unpack = zlib.decompressobj(_BOTH_FORMS)
        try:
            found += unpack.decompress(content, MAX_BYTES + 1 - len(found))
        except zlib.error:
            raise UnreadableFile("not readable gzip") from None
        if not unpack.eof and len(found) <= MAX_BYTES:
            raise UnreadableFile("the gzip file is cut")
        content = unpack.unused_data
    return found


def _xml(content: bytes) -> Sitemap:
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True
    )
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as exc:
        raise UnreadableFile(f"not XML (line {exc.lineno})") from None
    kind = etree.QName(root).localname
    if kind not in ("urlset", "sitemapindex"):
        raise UnreadableFile(f"not a sitemap: <{kind}> where <urlset> or <sitemapindex> stands")
    # those of the sitemap's own namespace: others are of pictures and videos
    locations = root.xpath("./*/*[local-name() = 'loc' and namespace-uri() = namespace-uri(..)]")
    addresses = _once("".join(one.xpath("text()")).strip() for one in locations)
    return Sitemap(maps=addresses) if kind == "sitemapindex" else Sitemap(pages=addresses)


def _lines(content: bytes) -> tuple[str, ...]:
    try:
        lines = _once(line.strip() for line in content.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as exc:
        raise UnreadableFile(f"not UTF-8 text (byte {exc.start})") from None
    for line in lines:
        if not line.lower().startswith(("http://", "https://")):
            raise UnreadableFile(f"not a sitemap: {line[:100]!a} is no address")
    return lines


def _once(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in addresses if one))
