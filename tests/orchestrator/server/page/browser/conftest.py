"""A headless Chromium of the distribution, driven by Playwright, and pictures of what it shows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import livemind

ROOT = Path(livemind.__file__).parent
KEPT = ROOT / "var" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LIMIT_MS = 20_000
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
    if found:
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / "figures.json").write_text(json.dumps(found, indent=2) + "\n")
        print("\n" + "\n".join(f"{name}: {value:g}" for name, value in found.items()))
