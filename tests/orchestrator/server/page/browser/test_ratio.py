"""Ten questions typed into the page and asked cold, and the same keys through ``bench ttft``.

The button tells the server's times, ``bench ttft`` those of its own client.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import KEPT, Tab, tiny

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

Json = dict[str, Any]
# All of one expert: which of several are in memory is not what is compared.
QUESTIONS = (
    "What is the port of Kestrel?",
    "What is the voltage of Falcon?",
    "Which timeout is set for the server Heron?",
    "What is the weight of Granite?",
    "What is the speed of Ruby?",
    "Which rack is set for Opal?",
    "What is the width of Marble?",
    "Which power does Condor use?",
    "What is the latency of Swallow?",
    "Which mode is set for Agate?",
)
KEY_MS = 90
THINK_S = 0.5


async def test_ratio_of_the_button_is_that_of_bench_ttft(
    new_tab: Callable[..., Any], tmp_path: Path, figures: dict[str, float]
) -> None:
    async with tiny(tmp_path) as url:
        tab = await new_tab()
        await typed(tab, url, QUESTIONS[0])  # loads what has to be loaded
        turns = [await typed(tab, url, question) for question in QUESTIONS]
        bench = await benched(url, turns, tmp_path)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "ratio.json").write_text(json.dumps({"page": turns, "bench": bench}, indent=2) + "\n")
    assert [turn["done"]["status"] for turn in turns] == ["completed"] * len(QUESTIONS)
    assert all(turn["cold"]["same"] for turn in turns)
    pages = [turn["shown_ratio"] for turn in turns]
    benches = [one["at_end"] / one["live"] for one in bench]
    for name, times in (
        ("page.live", [turn["done"]["timings"]["ttft_ms"] for turn in turns]),
        ("page.cold", [turn["cold"]["done"]["timings"]["ttft_ms"] for turn in turns]),
        ("bench_ttft.live", [one["live"] for one in bench]),
        ("bench_ttft.live_server", [one["live_server"] for one in bench]),
        ("bench_ttft.at_end", [one["at_end"] for one in bench]),
    ):
        figures[f"ratio.{name}_ms.p50"] = statistics.median(times)
    figures["ratio.page.p50"] = statistics.median(pages)
    figures["ratio.bench_ttft.p50"] = statistics.median(benches)
    more = figures["ratio.page.p50"] / figures["ratio.bench_ttft.p50"]
    figures["ratio.page_off_bench_ttft"] = abs(more - 1)


async def typed(tab: Tab, url: str, question: str) -> Json:
    """Type a question on a fresh page, ask it cold, too; return the turn as the page saves it."""
    page = tab.page
    await tab.open(url)
    await tab.type(question, delay=KEY_MS)
    await asyncio.sleep(THINK_S)
    await page.keyboard.press("Enter")
    await tab.ended(1)
    await page.get_by_role("button", name="Ask the same at once, cold").click()
    await page.wait_for_selector(".race")
    async with page.expect_download() as saved:
        await page.get_by_role("button", name="Save as JSON").click()
    file = await (await saved.value).path()
    turn: Json = json.loads(await asyncio.to_thread(Path(file).read_text))
    turn["shown_ratio"] = float(await page.locator(".verdict b").get_attribute("data-ratio"))
    return turn


async def benched(url: str, turns: list[Json], folder: Path) -> list[dict[str, float]]:
    """Play the keys of these turns through ``livemind bench ttft``; return both times of each."""
    recording, report = folder / "typed.jsonl", folder / "bench.json"
    recording.write_text("".join(lines_of(turn, number) for number, turn in enumerate(turns)))
    words = ["bench", "ttft", "--base-url", url, "--cadence", str(recording), "--json", str(report)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "livemind.orchestrator.cli", *words, "--commit-after-ms", "own"),
        stdout=DEVNULL,
        stderr=PIPE,
    )
    assert process.stderr is not None
    told = (await process.stderr.read()).decode()
    assert await process.wait() == 0, told
    found: list[dict[str, float]] = [{} for _ in turns]
    for row in json.loads(report.read_text())["turns"]:
        assert row["outcome"] == "completed", row["error"]
        arm = "at_end" if row["arm"] == "request-at-end" else "live"
        one = found[row["conversation"]]
        one[arm], one[f"{arm}_server"] = row["ttft_ms"], row["server_ttft_ms"]
    return found


def lines_of(turn: Json, number: int) -> str:
    """Return a turn's keys as a recording of ``livemind record`` has them."""
    text = turn["question"]
    states = [(key["at"], text[: key["length"]], False) for key in turn["keys"]]
    lines = [
        {"id": str(number), "t_ms": round(at, 1), "text": state, "final": final}
        for at, state, final in (*states, (turn["commit_ms"], text, True))
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)
