"""The page out of the package: whole, guarded, small, and only where it is wanted."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest

from livemind.orchestrator.config.server import ServerConfig
from livemind.orchestrator.server.page.site import ENTRANCES, FOLDER, PREFIX, shown

MOST_BYTES = 150_000
IMPORT = re.compile(r'"\./([a-z]+\.js)"')


class _Page(HTMLParser):
    """What a page loads, and what a strict policy would not let it do."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: set[str] = set()
        self.inline: list[str] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._open = tag
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        target = given.get("src") or (given.get("href") if tag == "link" else None)
        if target:
            self.loads.add(target)

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def read(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    return page


@pytest.mark.parametrize("path", sorted(ENTRANCES))
async def test_page_loads_nothing_but_files_of_this_server_and_has_its_style_alone_in_it(
    serve: Any, path: str
) -> None:
    async with serve() as doors:
        async with doors.http.get(doors.url + path) as answer:
            assert answer.status == 200
            policy = answer.headers["Content-Security-Policy"]
            page = read(await answer.text())
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        [style] = page.inline
        assert style == (FOLDER / "style.css").read_text()
        assert f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy
        wanted = set(page.loads)
        for target in page.loads:
            async with doors.http.get(doors.url + target) as answer:
                assert answer.status == 200, target
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                if target.endswith(".js"):
                    assert answer.content_type == "text/javascript"
                    names = IMPORT.findall(await answer.text())
                    wanted |= {PREFIX + name for name in names}
        for target in wanted:
            assert (await doors.http.get(doors.url + target)).status == 200, target


def test_page_packed_is_no_larger_than_its_limit() -> None:
    packed = sum(len(gzip.compress(file.read_bytes())) for file in FOLDER.iterdir())
    assert packed <= MOST_BYTES


def test_every_module_is_imported_by_another_or_by_a_page() -> None:
    modules = {file.name: file.read_text() for file in FOLDER.glob("*.js")}
    used = {name for text in modules.values() for name in IMPORT.findall(text)}
    for entrance in FOLDER.glob("*.html"):
        loads = read(entrance.read_text()).loads
        used |= {target.removeprefix(PREFIX) for target in loads}
    assert set(modules) == {name for name in used if name.endswith(".js")}


async def test_file_that_the_browser_has_is_not_sent_again(serve: Any) -> None:
    async with serve() as doors:
        url = f"{doors.url}{PREFIX}style.css"
        async with doors.http.get(url) as first:
            tag = first.headers["ETag"]
            assert first.headers["Cache-Control"] == "no-cache"
            assert first.headers["Content-Encoding"] == "gzip"
        async with doors.http.get(url, headers={"If-None-Match": tag}) as again:
            assert (again.status, await again.read()) == (304, b"")
        async with doors.http.get(url, headers={"Accept-Encoding": "identity"}) as plain:
            assert "Content-Encoding" not in plain.headers
            assert await plain.read() == (FOLDER / "style.css").read_bytes()


async def test_page_needs_no_key_and_what_it_asks_for_does(serve: Any) -> None:
    async with serve(api_keys=["right"]) as doors:
        for path in (*ENTRANCES, f"{PREFIX}main.js"):
            assert (await doors.http.get(doors.url + path)).status == 200
        about = (await doors.ask("GET", f"{PREFIX}about.json"))[1]
        assert about["needs_key"] is True
        assert not {"experts", "keys"} & set(about)
        for path in ("/v1/models", "/stats", "/v1/live", "/v1/documents"):
            assert (await doors.ask("GET", path))[0] == 401


async def test_page_by_a_foreign_name_or_loaded_by_another_site_is_refused(serve: Any) -> None:
    async with serve() as doors:
        rebound = await doors.http.get(doors.url, headers={"Host": "rebound.example"})
        assert rebound.status == 421
        loaded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert (await doors.http.get(f"{doors.url}{PREFIX}main.js", headers=loaded)).status == 403
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert (await doors.http.get(doors.url, headers=followed)).status == 200


@pytest.mark.parametrize(
    ("host", "playground", "expected"),
    [
        ("127.0.0.1", None, True),
        ("localhost", None, True),
        ("0.0.0.0", None, False),
        ("0.0.0.0", True, True),
        ("127.0.0.1", False, False),
    ],
)
def test_page_is_shown_on_loopback_and_elsewhere_when_asked(
    host: str, playground: bool | None, expected: bool
) -> None:
    assert shown(ServerConfig(host=host, playground=playground)) is expected


async def test_server_without_the_page_has_no_such_paths(serve: Any) -> None:
    async with serve(playground=False) as doors:
        for path in (*ENTRANCES, f"{PREFIX}main.js"):
            status, answer = await doors.ask("GET", path)
            assert (status, answer["error"]["code"]) == (404, "unknown_path")
    async with serve(playground=False, api_keys=["right"]) as doors:
        assert (await doors.ask("GET", "/"))[0] == 401
