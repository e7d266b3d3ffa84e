"""The page in a browser: keys, other sites' pages, files, pictures, speech."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from livemind.backends.fake import FakeExpert
from livemind.rag.bridge.entrance import Access
from livemind.rag.bridge.server import serve_bridge
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.library import Library

pytestmark = pytest.mark.browser

TOKEN = "token-of-these-tests"
SPEECH = """
window.SpeechRecognition = window.webkitSpeechRecognition = class {
  start() {
    const said = (text, isFinal) => ({ results: [{ 0: { transcript: text }, isFinal }] });
    const say = (text, isFinal) => this.onresult(said(text, isFinal));
    setTimeout(() => say("recognise speech", false), 50);
    setTimeout(() => say("wreck a nice", false), 100);
    setTimeout(() => say("wreck a nice beach", true), 150);
    setTimeout(() => this.onend(), 200);
  }
  stop() {}
};
"""
STEAL = """
async ([url, method]) => {
  const body = { messages: [{ role: "user", content: "hello there" }],
                 documents: [{ id: "a.md", text: "# a\\n\\nb c" }] };
  const path = method === "documents" ? "/v1/documents" : "/v1/chat/completions";
  delete body[method === "documents" ? "messages" : "documents"];
  const found = {};
  for (const mode of ["cors", "no-cors"]) {
    try {
      const type = mode === "cors" ? "application/json" : "text/plain";
      const answer = await fetch(url + path, { method: "POST", mode, body: JSON.stringify(body),
                                               headers: { "Content-Type": type } });
      found[mode] = answer.type === "opaque" ? "opaque" : await answer.text();
    } catch (error) { found[mode] = "refused"; }
  }
  found.socket = await new Promise((told) => {
    const socket = new WebSocket(url.replace("http", "ws") + "/v1/live");
    socket.onmessage = (message) => told(message.data);
    socket.onerror = () => told("refused");
  });
  return found;
}
"""


@asynccontextmanager
async def bridge(
    folder: Path, monkeypatch: pytest.MonkeyPatch, embedder: FakeEmbedder | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Serve an empty bridge; yield the section ``rag`` for it."""
    monkeypatch.setenv("LIVEMIND_BRIDGE_TOKEN", TOKEN)
    embedder = embedder or FakeEmbedder()
    library = Library.in_folder(folder / "library", embedder)
    await library.create("default")
    worker = EmbedWorker(embedder)
    async with serve_bridge(library, worker, port=0, access=Access(token=TOKEN)) as url:
        yield {"enabled": True, "bridge_url": url, "min_score": -1}
    await worker.aclose()
    await library.aclose()


@asynccontextmanager
async def another_site() -> AsyncIterator[str]:
    """Serve an empty page at an origin of its own."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<title>another site</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://page.example:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("method", ["chat", "documents"])
async def test_page_at_another_origin_reads_and_writes_nothing_unless_listed(
    serve: Any,
    new_tab: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    tab = await new_tab()
    async with another_site() as origin, bridge(tmp_path, monkeypatch) as rag:
        await tab.page.goto(origin)
        async with serve(rag=rag) as doors:
            found = await tab.page.evaluate(STEAL, [doors.url, method])
            assert found["cors"] == "refused"
            assert found["no-cors"] in ("opaque", "refused")  # sent, not read: and it did nothing
            assert found["socket"] == "refused"
            assert doors.experts["fake"].started == 0
            assert (await doors.ask("GET", "/v1/documents"))[1]["documents"] == []
        async with serve(rag=rag, allowed_origins=[origin]) as doors:
            found = await tab.page.evaluate(STEAL, [doors.url, method])
            wanted = '"passages"' if method == "documents" else "HELLO THERE"
            assert wanted in found["cors"]
            assert json.loads(found["socket"])["type"] == "session.created"


async def test_key_opens_the_socket_by_ticket_and_is_kept_only_when_asked(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    async with serve(api_keys=["a-right-key"]) as doors:
        tab = await new_tab()
        await tab.page.goto(doors.url)
        key = tab.page.locator("[name=key]")
        await tab.page.wait_for_selector("#settings:not([hidden])")
        assert "needs an API key" in (await tab.texts("#notice"))[0]
        await key.fill("a-wrong-key")
        await key.press("Tab")
        await tab.page.locator("#notice", has_text="unknown API key").wait_for()
        await key.fill("a-right-key")
        await key.press("Tab")
        await tab.page.wait_for_selector('#link[data-state="open"]')
        await tab.ask("with a key")
        assert await tab.texts(".answer") == ["WITH A KEY"]
        await tab.page.get_by_role("button", name="Ask the same at once, cold").click()
        await tab.page.wait_for_selector(".race")
        assert await tab.page.evaluate("sessionStorage.length + localStorage.length") == 0
        assert not [url for url in tab.urls if "right" in url]
        await tab.page.locator("[name=keep_key]").check()
        await tab.page.reload()
        await tab.page.wait_for_selector('#link[data-state="open"]')


async def test_dropped_file_is_stored_found_while_typing_and_named_under_the_answer(
    serve: Any, new_tab: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bridge(tmp_path, monkeypatch) as rag, serve(rag=rag) as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await drop(tab, {"birds.md": "# Osprey\n\nThe port of Osprey is 4711.", "sheet.xlsx": "x"})
        stored = tab.page.locator("#document-list li", has_text="1 passage")
        await stored.wait_for()
        refused = tab.page.locator("#document-list .failed", has_text="xlsx")
        await refused.wait_for()
        assert "documents.0" not in await refused.inner_text()
        await refused.get_by_role("button", name="Dismiss sheet.xlsx").click()
        await refused.wait_for(state="detached")
        await tab.type("What is the port of Osprey ")
        await tab.page.locator(".passages li", has_text="birds.md").wait_for()
        await tab.page.keyboard.press("Enter")
        await tab.ended(1)
        assert await tab.texts(".source") == ["Osprey · birds.md"]
        await tab.picture("cited")
        assert await tab.violations() == []
        await stored.get_by_role("button", name="Remove birds.md").click()
        await stored.wait_for(state="detached")
        assert (await doors.ask("GET", "/v1/documents"))[1]["documents"] == []


async def test_dropped_file_tells_how_far_it_is_and_can_be_called_off(
    serve: Any, new_tab: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = FakeEmbedder()
    text = "\n\n".join(f"# Part {n}\n\nThe port is {n}." for n in range(70))
    async with bridge(tmp_path, monkeypatch, embedder) as rag, serve(rag=rag) as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        embedder.gate.clear()
        await drop(tab, {"long.md": text, "later.md": "# Later\n\nIt waits."})
        long = tab.page.locator("#document-list li", has_text="long.md")
        later = tab.page.locator("#document-list li", has_text="later.md")
        await long.filter(has_text="0 of 70 passages indexed").wait_for()
        await later.filter(has_text="waits for another file").wait_for()
        await tab.picture("indexing")
        assert await tab.violations() == []
        await later.get_by_role("button", name="Cancel later.md").click()
        await later.filter(has_text="cancelled").wait_for()
        embedder.gate.set()
        await long.filter(has_text="70 passages").wait_for()
        await long.get_by_role("button", name="Remove long.md").wait_for()
        listed = (await doors.ask("GET", "/v1/documents"))[1]["documents"]
        assert [one["id"] for one in listed] == ["long.md"]


async def drop(tab: Any, files: dict[str, str]) -> None:
    """Drop files of these names and texts on the page."""
    await tab.page.evaluate(
        """(given) => {
          const files = new DataTransfer();
          for (const [name, text] of Object.entries(given)) files.items.add(new File([text], name));
          const told = { dataTransfer: files, bubbles: true, cancelable: true };
          document.body.dispatchEvent(new DragEvent("drop", told));
        }""",
        files,
    )


async def test_picture_goes_with_the_question_to_an_expert_that_sees(
    serve: Any, new_tab: Callable[..., Any], tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    sees = {"one": {"images": True}}
    async with serve(FakeExpert("one", images=True), experts_given=sees) as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await tab.page.locator("#file").set_input_files(tmp_path / "red.png")
        await tab.page.wait_for_selector("#pictures img")
        await tab.ask("what colour is it")
        assert await tab.texts(".answer") == ["WHAT COLOUR IS IT"]
        assert "1 image" in (await tab.texts(".turn"))[0]
        assert await tab.texts("#pictures li") == []
        await tab.ask("and now", turns=2)
        assert tab.complaints == []


async def test_microphone_sends_partial_transcripts_and_asks_the_final_one(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    async with serve() as doors:
        tab = await new_tab()
        await tab.page.add_init_script(SPEECH)
        await tab.open(doors.url)
        await tab.page.get_by_role("button", name="Speak").click()
        await tab.ended(1)
        assert await tab.texts(".answer") == ["WRECK A NICE BEACH"]
        assert await tab.page.locator(".timeline .key.edit").count() == 1
        assert await tab.page.locator("#speak").get_attribute("aria-pressed") == "false"


async def test_turn_is_saved_as_data_with_every_time(
    serve: Any, new_tab: Callable[..., Any], tmp_path: Path
) -> None:
    async with serve(FakeExpert("a"), FakeExpert("b"), fast="a") as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await tab.ask("one two three")
        async with tab.page.expect_download() as saved:
            await tab.page.get_by_role("button", name="Save as JSON").click()
        await (await saved.value).save_as(tmp_path / "turn.json")
        found = json.loads(await asyncio.to_thread((tmp_path / "turn.json").read_text))
        assert found["schema"] == "livemind.turn/1"
        assert (found["question"], found["answer"]) == ("one two three", "ONE TWO THREE")
        assert len(found["keys"]) == len("one two three")
        assert 0 < found["commit_ms"] <= found["first_text_ms"] <= found["end_ms"]
        assert found["done"]["status"] == "completed"


async def test_operator_sees_experts_hours_and_slowest_turns_with_a_key_and_no_text(
    serve: Any, new_tab: Callable[..., Any], body: Any
) -> None:
    async with serve(FakeExpert("one"), api_keys=["a-right-key"]) as doors:
        bearer = {"Authorization": "Bearer a-right-key"}
        await doors.post("/v1/chat/completions", body("a secret question"), headers=bearer)
        tab = await new_tab()
        await tab.page.goto(f"{doors.url}/ops")
        await tab.page.locator("#key").fill("a-right-key")
        await tab.page.keyboard.press("Enter")
        await tab.page.locator("#experts th", has_text="one").wait_for()
        assert len(await tab.texts("#hours tr")) == 1
        assert (await tab.texts("#slowest td"))[0] == "one"
        assert await tab.page.locator("#slowest svg").count() == 1
        assert "secret" not in (await tab.page.content()).lower()
        assert await tab.violations() == []
        assert await tab.page.evaluate("sessionStorage.length + localStorage.length") == 0
        await tab.picture("operator")
