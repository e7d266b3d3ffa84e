"""The page in a browser before ``livemind serve`` with the tiny experts: the way of a newcomer."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Tab, tiny

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(420)]

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
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
TRANSFERRED = """
[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((sum, one) => sum + one.encodedBodySize, 0)
"""
OPENED = 9


async def test_newcomer_sees_route_passages_and_an_adopted_draft(
    new_tab: Callable[..., Any], tmp_path: Path, figures: dict[str, float]
) -> None:
    async with tiny(tmp_path) as url:
        began_s = time.monotonic()
        tab = await new_tab(reduced_motion="no-preference")
        await tab.page.add_init_script(WATCH_KEYS)
        await tab.open(url)
        figures["first_paint_ms.new_browser"] = await tab.page.evaluate(PAINT)
        await tab.page.get_by_role("button", name=QUESTIONS[0]).click()
        await tab.page.locator(".parts article:first-child.firm").wait_for()  # the route is settled
        await tab.page.locator(".passages li").first.wait_for()
        await tab.page.locator(".drafts .drafting").wait_for()
        await asyncio.sleep(1)
        assert any(await tab.texts(".trail .second"))  # where else a word might have sent it
        await tab.picture("typed")
        await tab.page.keyboard.press("Enter")
        await tab.ended(1)
        figures["newcomer_s"] = time.monotonic() - began_s
        assert await tab.texts(".answer") == ["The port of Kestrel is 785."]
        assert "draft adopted" in (await tab.texts(".turn .told"))[0]
        assert "Kestrel · technical.md" in await tab.texts(".source")
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
        await measure_paints(await new_tab(), url, figures)


async def measure_paints(tab: Tab, url: str, figures: dict[str, float]) -> None:
    """Open the page again and again in a window that stands, each time with an empty cache."""
    devtools = await tab.page.context.new_cdp_session(tab.page)
    await devtools.send("Network.enable")
    await devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    paints = []
    for _ in range(OPENED):
        await tab.page.goto("about:blank")
        await asyncio.sleep(0.4)  # a browser that starts a window has both cores
        await tab.open(url)
        await tab.page.wait_for_load_state("networkidle")
        paints.append(await tab.page.evaluate(PAINT))
    figures["page_gzipped_kb"] = await tab.page.evaluate(TRANSFERRED) / 1000
    figures["first_paint_ms.p50"] = statistics.median(paints)
    figures["first_paint_ms.worst"] = max(paints)
