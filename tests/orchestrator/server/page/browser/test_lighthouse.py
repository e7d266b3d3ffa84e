"""What Lighthouse says of the page and the operator's view, with no network but this machine's."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert

from .conftest import CHROMIUM, KEPT

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

LIGHTHOUSE = Path(__file__).with_name("node_modules") / "lighthouse" / "cli" / "index.js"
NODE = shutil.which("node")
WHOLE = ("accessibility", "best-practices", "seo")
# What a page on a loopback address cannot have, and what does not concern one: none is indexed.
ELSEWHERE = ("is-on-https", "redirects-http", "is-crawlable", "robots-txt")

# A browser that is just starting may lose the beginning of Lighthouse's trace, which it then says.
AGAIN = "Please run Lighthouse again"
TRIES = 3


@pytest.mark.skipif(NODE is None, reason="no Node.js on this machine")
@pytest.mark.skipif(not LIGHTHOUSE.exists(), reason="no Lighthouse: make test-browser brings it")
@pytest.mark.parametrize("path", ["/", "/ops"])
@pytest.mark.parametrize("screen", ["mobile", "desktop"])
async def test_lighthouse_finds_no_fault(
    serve: Any, figures: dict[str, float], tmp_path: Path, path: str, screen: str
) -> None:
    # The operator's view asks every two seconds: it is never at rest, which times of a load need.
    wanted = ("performance", *WHOLE) if path == "/" else WHOLE
    async with serve(FakeExpert("one")) as doors:
        found = await looked_at(doors.url + path, screen, wanted, tmp_path)
    audits = found["audits"]
    faults = [
        f"{category}: {one['id']}: {audits[one['id']]['title']}"
        for category in WHOLE
        for one in found["categories"][category]["auditRefs"]
        if one["weight"] and one["id"] not in ELSEWHERE
        if (audits[one["id"]]["score"] or 0) < 1
        if audits[one["id"]]["scoreDisplayMode"] in ("binary", "numeric", "error")
    ]
    KEPT.mkdir(parents=True, exist_ok=True)
    name = f"{path.strip('/') or 'page'}.{screen}"
    (KEPT / f"lighthouse-{name}.json").write_text(json.dumps(found, indent=1))
    if path == "/":
        score = found["categories"]["performance"]["score"]
        figures[f"lighthouse.performance_lost.{screen}"] = round(100 * (1 - score), 1)
        assert found["runWarnings"] == []
    assert faults == []


async def looked_at(
    url: str, screen: str, categories: tuple[str, ...], folder: Path
) -> dict[str, Any]:
    """Run Lighthouse without its slowed network: the page is on this machine."""
    report = folder / "report.json"
    words = [url, "--output=json", f"--output-path={report}", "--throttling-method=provided"]
    words += [
        "--quiet",
        "--no-enable-error-reporting",
        "--chrome-flags=--headless=new --no-sandbox",
    ]
    words.append(f"--only-categories={','.join(categories)}")
    if screen == "desktop":
        words.append("--preset=desktop")
    for _ in range(TRIES):
        said = await told_by(words)
        if AGAIN not in said:
            break
    assert report.exists(), said
    found: dict[str, Any] = json.loads(await asyncio.to_thread(report.read_text))
    return found


async def told_by(words: list[str]) -> str:
    """Run Lighthouse; return what it printed: nothing, unless something went wrong."""
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(LIGHTHOUSE),
        *words,
        env={**os.environ, "CHROME_PATH": str(CHROMIUM)},
        stdout=PIPE,
        stderr=STDOUT,
    )
    return (await process.communicate())[0].decode()
