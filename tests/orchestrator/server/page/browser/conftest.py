"""A headless Chromium, driven by Playwright, pictures of what it shows, and a real server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.orchestrator.config.file import read_json

ROOT = Path(livemind.__file__).parent
TINY = ROOT / "configs" / "tiny.json"
KEPT = ROOT / "var" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LIMIT_MS = 20_000
# What the page promises; figures are held against it where they are shown, never in a test.
BARS = {
    "first_paint_ms.p50": 300.0,
    "page_gzipped_kb": 150.0,
    "key_to_change_ms.p95": 60.0,
    "newcomer_s": 20.0,
    "heap_growth_mib.turns_60_to_200": 0.5,
    "ratio.page_off_bench_ttft": 0.2,
    "lighthouse.performance_lost.desktop": 10.0,
    "lighthouse.performance_lost.mobile": 10.0,
}
# Names of other sites that lead to this machine; no sandbox: tests may run as root.
ARGUMENTS = ["--no-sandbox", "--host-resolver-rules=MAP *.example 127.0.0.1"]


def missing() -> str | None:
    """Return what is missing for these tests."""
    if CHROMIUM is None:
        return "no Chromium on this machine: sudo apt install chromium"
    if find_spec("playwright") is None or find_spec("axe_playwright_python") is None:
        return "no Playwright in this environment: make test-browser brings it"
    return None


@pytest.fixture(autouse=True)
def _browser_is_there() -> None:
    if (why := missing()) is not None:
        pytest.skip(why)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def tiny(folder: Path) -> AsyncIterator[str]:
    """Run ``livemind serve`` with the tiny experts; yield its URL once it is ready."""
    config: Any = read_json(TINY)
    config["rag"]["bridge_url"] = f"http://127.0.0.1:{free_port()}"
    (folder / "tiny.json").write_text(json.dumps(config))
    words = ("-m", "livemind.orchestrator.cli", "serve", "--config", str(folder / "tiny.json"))
    with (folder / "errors").open("w") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, "--port", "0", stdout=PIPE, stderr=errors
        )
    try:
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(240):
            while "curl" not in said:
                line = (await process.stdout.readline()).decode()
                assert line, said + (folder / "errors").read_text()
                said += line
        yield said.partition("is ready on ")[2].split()[0]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


class Tab:
    """A page of its own, with what its console said and what it asked for."""

    def __init__(self, page: Any, name: str) -> None:
        self.page = page
        self.name = name
        self.complaints: list[str] = []
        self.urls: list[str] = []
        page.set_default_timeout(LIMIT_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self._said(said))
        page.on("request", lambda request: self.urls.append(request.url))

    def _said(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(said.text)

    async def open(self, url: str) -> None:
        await self.page.goto(url)
        await self.page.wait_for_selector('#link[data-state="open"]')

    async def type(self, text: str, delay: float = 30) -> None:
        await self.page.locator("#question").press_sequentially(text, delay=delay)

    async def ask(self, text: str, turns: int = 1) -> None:
        await self.type(text, delay=5)
        await self.page.keyboard.press("Enter")
        await self.ended(turns)

    async def ended(self, turns: int) -> None:
        """Wait until so many turns of the page have ended."""
        await self.page.locator(".turn.over").nth(turns - 1).wait_for()

    async def writes(self, characters: int) -> None:
        """Wait until a running answer has so many characters."""
        started = self.page.locator(".writing .answer", has_text=re.compile(f".{{{characters},}}"))
        await started.wait_for()

    async def texts(self, selector: str) -> list[str]:
        found: list[str] = await self.page.locator(selector).all_inner_texts()
        return found

    async def picture(self, what: str) -> None:
        KEPT.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=KEPT / f"{self.name}-{what}.png", full_page=True)

    async def violations(self) -> list[str]:
        """Return what axe finds, with where."""
        from axe_playwright_python.base import AXE_SCRIPT

        await self.page.evaluate(AXE_SCRIPT)
        found = await self.page.evaluate("axe.run(document)")
        return [
            f"{one['id']}: {node['target']}" for one in found["violations"] for node in one["nodes"]
        ]


@pytest.fixture
async def new_tab(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Any]]:
    """Return what opens a tab; ``given`` are Playwright's options of a context."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

        async def opened(**given: Any) -> Tab:
            context = await browser.new_context(**{"reduced_motion": "reduce", **given})
            name = request.node.name.partition("[")[0].removeprefix("test_")
            return Tab(await context.new_page(), name)

        yield opened
        await browser.close()


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, float]]:
    """Return where measurements go; they are written to var/browser/figures.json and printed."""
    found: dict[str, float] = {}
    yield found
    if not found:
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    load = {"load_average.15_min": os.getloadavg()[2], "cores": float(os.cpu_count() or 1)}
    told = {**dict(sorted(found.items())), **load}
    (KEPT / "figures.json").write_text(json.dumps({**told, "bars": BARS}, indent=2) + "\n")
    print()
    for name, value in told.items():
        bar = BARS.get(name)
        judged = "" if bar is None else f" (bar {bar:g}: {'met' if value <= bar else 'missed'})"
        print(f"{name}: {value:.4g}{judged}")
