"""The page in a browser before ``livemind serve`` with the tiny experts: the way of a newcomer."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.orchestrator.config.file import read_json

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(420)]

TINY = Path(livemind.__file__).parent / "configs" / "tiny.json"
QUESTIONS = ("What is the port of Kestrel?", "Who is the owner of the hotel Willow?")
# From a key's own time stamp to the frame after it: what the browser then shows.
WATCH_KEYS = """
window.keyMs = [];
addEventListener("keydown", (event) => {
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => keyMs.push(performance.now() - event.timeStamp);
    channel.port2.postMessage(0);
  });
}, true);
"""


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


async def test_newcomer_sees_route_passages_and_an_adopted_draft(
    new_tab: Callable[..., Any], tmp_path: Path, figures: dict[str, float]
) -> None:
    async with tiny(tmp_path) as url:
        began_s = time.monotonic()
        tab = await new_tab(reduced_motion="no-preference")
        await tab.page.add_init_script(WATCH_KEYS)
        await tab.open(url)
        paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        figures["first_paint_ms"] = await tab.page.evaluate(paint)
        await tab.page.get_by_role("button", name=QUESTIONS[0]).click()
        await tab.page.locator(".parts article:first-child.firm").wait_for()  # the route is settled
        await tab.page.locator(".passages li").first.wait_for()
        await tab.page.locator(".drafts .drafting").wait_for()
        await asyncio.sleep(1)
        await tab.picture("typed")
        await tab.page.keyboard.press("Enter")
        await tab.ended(1)
        figures["newcomer_s"] = time.monotonic() - began_s
        assert await tab.texts(".answer") == ["The port of Kestrel is 785."]
        assert "draft adopted" in (await tab.texts(".turn .told"))[0]
        assert "technical.md" in (await tab.texts(".source"))[0]
        await tab.page.get_by_role("button", name="Ask the same at once, cold").click()
        await tab.page.wait_for_selector(".race")
        assert "the same answer" in (await tab.texts(".verdict"))[0]
        await tab.picture("answered")
        await tab.type(QUESTIONS[1], delay=120)
        await tab.page.keyboard.press("Enter")
        await tab.ended(2)
        keys = sorted(await tab.page.evaluate("keyMs"))
        figures["key_to_change_ms.p50"] = statistics.median(keys)
        figures["key_to_change_ms.p95"] = statistics.quantiles(keys, n=20)[-1]
        assert await tab.violations() == []
        assert tab.complaints == []
