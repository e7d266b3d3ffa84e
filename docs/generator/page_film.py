"""Films the page for the README: ``python docs/generator/page_film.py > docs/plots/page.png``.

A real browser before a real server with a real model: by default ``livemind serve`` with the tiny
experts, started here; ``--url`` names one that runs. Needs what `make test-browser` needs. The film
is an animated PNG whose frames stand as long as they took.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
QUESTION = "What is the port of Kestrel?"
WIDTH, HEIGHT = 1160, 740
COLOURS = 96
KEY_MS = 110
PAUSE_MS = 1_200
END_S = 4.0


def main() -> None:
    """Write the film to stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a server that runs; default: one is started")
    parser.add_argument("--question", default=QUESTION)
    options = parser.parse_args()
    if sys.stdout.isatty():
        parser.error("stdout is a terminal; direct it into a file")
    if options.url:
        film = _film(options.url, options.question)
    else:
        with _server() as url:
            film = _film(url, options.question)
    sys.stdout.buffer.write(_written(film))


@contextmanager
def _server() -> Iterator[str]:
    words = ["serve", "--config", str(ROOT / "configs" / "tiny.json"), "--port", "0"]
    command = [sys.executable, "-m", "livemind.orchestrator.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="", file=sys.stderr)
                if "is ready on" in line:
                    yield line.partition("is ready on ")[2].split()[0]
                    break
            else:
                sys.exit("the server did not start")
        finally:
            process.terminate()


def _film(url: str, question: str) -> list[tuple[bytes, float]]:
    """Return pictures and when they were taken, seconds."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no Chromium: sudo apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(2):  # the first time experts are loaded and measured
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(url)
            page.wait_for_selector('#link[data-state="open"]')
            pictures = _ask(page, question)
        browser.close()
    return pictures


def _ask(page: Page, question: str) -> list[tuple[bytes, float]]:
    """Type, ask, ask cold; return what the browser drew meanwhile, without waiting for it."""
    pictures: list[tuple[bytes, float]] = []
    devtools = page.context.new_cdp_session(page)

    def drawn(frame: dict[str, Any]) -> None:
        pictures.append((b64decode(frame["data"]), frame["metadata"]["timestamp"]))
        devtools.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    devtools.on("Page.screencastFrame", drawn)
    devtools.send("Page.startScreencast", {"format": "png"})
    page.wait_for_timeout(600)
    page.locator("#question").press_sequentially(question, delay=KEY_MS)
    page.wait_for_timeout(PAUSE_MS)
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn.over")
    page.wait_for_timeout(2 * PAUSE_MS)
    page.get_by_role("button", name="Ask the same at once, cold").click()
    page.wait_for_selector(".race")
    page.mouse.move(WIDTH - 5, HEIGHT - 5)
    page.wait_for_timeout(PAUSE_MS)
    devtools.send("Page.stopScreencast")
    return sorted(pictures, key=lambda picture: picture[1])  # an old one may come late


def _written(pictures: list[tuple[bytes, float]]) -> bytes:
    """Return the animated PNG; pictures that are equal to the one before only make it last."""
    images = [Image.open(BytesIO(data)).convert("RGB") for data, _ in pictures]
    palette = images[-1].quantize(COLOURS)
    times = [at_s for _, at_s in pictures]
    until = [*times[1:], times[-1] + END_S]
    frames: list[Image.Image] = []
    lasts_ms: list[int] = []
    for image, at_s, end_s in zip(images, times, until, strict=True):
        frame = image.quantize(palette=palette, dither=Image.Dither.NONE)
        if frames and frame.tobytes() == frames[-1].tobytes():
            lasts_ms[-1] += round((end_s - at_s) * 1000)
        else:
            frames.append(frame)
            lasts_ms.append(round((end_s - at_s) * 1000))
    out = BytesIO()
    frames[0].save(
        out,
        "PNG",
        save_all=True,
        append_images=frames[1:],
        duration=lasts_ms,
        loop=0,
        optimize=True,
    )
    return out.getvalue()


if __name__ == "__main__":
    main()
