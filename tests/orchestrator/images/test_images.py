"""What an image must be before an expert is given it, and where it may come from."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import PIL.Image
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from livemind.orchestrator.errors import LiveMindError
from livemind.orchestrator.images.decode import ImageLimits, checked, from_data_url
from livemind.orchestrator.images.fetch import AllowList, ImageFetcher

LIMITS = ImageLimits(max_bytes=100_000, max_pixels=10_000)


def picture(kind: str = "PNG", size: tuple[int, int] = (20, 10)) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, "red").save(file, kind)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header promises many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_image_of_a_known_format_passes_as_it_came(kind: str) -> None:
    data = picture(kind)
    found = checked(data, "x", LIMITS)
    assert (found.media_type, found.data) == (f"image/{kind.lower()}", data)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (picture(size=(200, 100)), "invalid_image", "200 x 100 = 20000 pixels, the limit is 10000"),
        (bomb(40_000, 40_000), "invalid_image", "pixels"),
        (bomb(2**31 - 1, 2**31 - 1), "invalid_image", "pixels"),
        (bomb(30, 30), "invalid_image", "not a whole image"),
        (picture()[:45], "invalid_image", "not a whole image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "invalid_image", "need one of PNG, JPEG"),
        (picture("BMP"), "invalid_image", "need one of PNG, JPEG"),
        (bytes(100_001), "image_too_large", "more than 100000 bytes"),
    ],
    ids=["pixels", "bomb", "giant", "short", "cut", "svg", "bmp", "bytes"],
)
def test_image_that_cannot_be_used_is_refused_by_name(data: bytes, code: str, words: str) -> None:
    with pytest.raises(LiveMindError) as refused:
        checked(data, "messages[0]", LIMITS)
    assert (refused.value.code, refused.value.param) == (code, "messages[0]")
    assert words in refused.value.message


def test_image_of_a_camera_with_two_pictures_is_a_jpeg() -> None:
    file = io.BytesIO()
    one, other = PIL.Image.new("RGB", (9, 9), "red"), PIL.Image.new("RGB", (9, 9), "blue")
    one.save(file, "MPO", save_all=True, append_images=[other])
    assert checked(file.getvalue(), "x", LIMITS).media_type == "image/jpeg"


def test_data_url_is_decoded_and_its_faults_are_named() -> None:
    data = picture()
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    assert from_data_url(url, "x", LIMITS) == data
    for wrong in (
        "data:image/png,abc",
        "data:image/png;base64,####",
        "data:;base32,AA",
        "data:image/png;base64,AA\u00e9A",
    ):
        with pytest.raises(LiveMindError, match="base64"):
            from_data_url(wrong, "x", LIMITS)
    with pytest.raises(LiveMindError, match="more than 100000 bytes"):
        from_data_url("data:image/png;base64," + "A" * 140_000, "x", LIMITS)


@pytest.mark.parametrize(
    ("host", "listed"),
    [
        ("img.example.org", True),
        ("IMG.example.org.", True),
        ("a.cdn.example.org", True),
        ("cdn.example.org", False),
        ("evil-img.example.org", False),
        ("img.example.org.evil.com", False),
        ("10.1.2.3", True),
        ("10.2.2.3", False),
        ("127.0.0.1", False),
    ],
)
def test_allow_list_names_hosts_and_networks(host: str, listed: bool) -> None:
    allowed = AllowList(["img.example.org", "*.cdn.example.org", "10.1.0.0/16"])
    assert allowed.has_name(host) == listed


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("10.1.9.9", True),
        ("10.2.9.9", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a9fe:a9fe::1", False),
        ("fec0::1", False),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
    ],
)
def test_address_that_is_not_public_must_be_listed_itself(address: str, allowed: bool) -> None:
    assert AllowList(["img.example.org", "10.1.0.0/16"]).has_address(address) == allowed


Handler = Callable[[web.Request], object]


@asynccontextmanager
async def site(
    limits: ImageLimits = LIMITS, *, allowed: tuple[str, ...]
) -> AsyncIterator[tuple[ImageFetcher, str]]:
    async def image(_: web.Request) -> web.Response:
        return web.Response(body=picture())

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(200_000))

    async def away(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    app = web.Application()
    app.add_routes([web.get("/i", image), web.get("/large", large), web.get("/away", away)])
    async with TestServer(app) as server:
        yield ImageFetcher(allowed, limits, 5.0), str(server.make_url("")).rstrip("/")


LOOPBACK = ("127.0.0.0/8",)


async def test_fetch_from_a_listed_network_follows_redirects_inside_the_list() -> None:
    async with site(allowed=LOOPBACK) as (fetcher, url):
        assert await fetcher.fetch(f"{url}/i", "x") == picture()
        assert await fetcher.fetch(f"{url}/away?to=/i", "x") == picture()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/large", "more than 100000 bytes"),
        ("/nothing", "HTTP 404"),
        ("/away?to=http://192.168.0.1/i", "not listed"),
        ("/away?to=http://example.org/i", "not listed"),
        ("/away?to=http://[", "cannot be fetched"),
        ("/away?to=http://127.0.0.1:99999999/", "not a URL|cannot be fetched"),
        ("/away?to=ftp://127.0.0.1/i", "need a data:, http: or https: URL"),
        ("/away?to=/away%3Fto%3D/away%253Fto%253D/away%25253Fto%25253D/away", "redirects|HTTP"),
    ],
)
async def test_fetch_outside_the_rules_is_refused(path: str, words: str) -> None:
    async with site(allowed=LOOPBACK) as (fetcher, url):
        with pytest.raises(LiveMindError, match=words):
            await fetcher.fetch(url + path, "x")


async def test_fetch_of_a_listed_name_that_leads_to_a_private_address_is_refused() -> None:
    async with site(allowed=("localhost",)) as (fetcher, url):
        with pytest.raises(LiveMindError, match="cannot be fetched"):
            await fetcher.fetch(url.replace("127.0.0.1", "localhost") + "/i", "x")
    async with site(allowed=("localhost", "127.0.0.1")) as (fetcher, url):
        assert await fetcher.fetch(url.replace("127.0.0.1", "localhost") + "/i", "x") == picture()


async def test_fetch_of_a_name_that_cannot_exist_is_refused() -> None:
    async with site(allowed=("*.example.org",)) as (fetcher, _):
        with pytest.raises(LiveMindError, match="x: "):
            await fetcher.fetch(f"http://{'a' * 64}.example.org/i", "x")


async def test_fetch_without_a_list_refuses_every_host() -> None:
    async with site(allowed=()) as (fetcher, url):
        with pytest.raises(LiveMindError, match="not listed"):
            await fetcher.fetch(f"{url}/i", "x")
