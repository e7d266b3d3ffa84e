"""The page in a browser, before fake experts: everyday use. The first two run in ``make test``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert

QUESTION = "What is the port of the kestrel server?"


def experts() -> tuple[FakeExpert, ...]:
    return FakeExpert("fast"), FakeExpert("other")


async def test_typed_question_shows_route_cache_and_draft_which_is_adopted(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    async with serve(*experts(), fast="fast") as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await tab.type(QUESTION)
        await tab.page.wait_for_selector(".drafts .drafting, .drafts .adopted")
        assert await tab.texts(".trail li > span") == QUESTION.split()
        assert (await tab.texts(".bars li > span"))[0] in ("fast", "other")
        assert await tab.texts(".bars li > b") == ["default"]  # nothing estimates here
        assert "token" in (await tab.texts(".parts article:nth-child(3) .told"))[0]
        assert await tab.texts("#turns li") == []  # nothing of a draft is shown
        await tab.picture("typed")
        await tab.page.keyboard.press("Enter")
        await tab.page.wait_for_selector(".turn.over")
        assert await tab.texts(".answer") == [QUESTION.upper()]
        assert "draft adopted" in (await tab.texts(".turn .told"))[0]
        assert await tab.page.locator(".timeline .key").count() == len(QUESTION)
        assert await tab.page.locator(".timeline .adopted").count() == 1
        await tab.page.get_by_role("button", name="Ask the same at once, cold").click()
        await tab.page.wait_for_selector(".race")
        assert "the same answer" in (await tab.texts(".verdict"))[0]
        await tab.picture("answered")
        assert tab.complaints == []


async def test_page_is_used_by_keyboard_alone_and_axe_finds_nothing(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    async with serve(*experts(), fast="fast") as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        assert await tab.violations() == []
        press, type_ = tab.page.keyboard.press, tab.page.keyboard.type
        focused = "document.activeElement.id || document.activeElement.className"
        assert await tab.page.evaluate(focused) == "question"
        await type_(QUESTION)
        await press("Enter")
        await tab.page.wait_for_selector(".turn.over")
        for _ in range(12):  # back from the field to the buttons of the turn
            await press("Shift+Tab")
            if "cold-button" in await tab.page.evaluate(focused):
                break
        await press("Enter")
        await tab.page.wait_for_selector(".race")
        await press("Tab")
        await press("Enter")  # Edit
        assert await tab.page.evaluate(focused) == "question"
        assert await tab.page.locator("#question").input_value() == QUESTION
        assert await tab.texts(".turn") == []
        for button in ("settings-button",):
            await tab.page.locator(f"#{button}").focus()
            await press("Enter")
        assert await tab.page.locator("#settings").is_visible()
        assert await tab.violations() == []
        assert tab.complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1600])
async def test_page_fits_every_width_in_light_and_dark_without_violations(
    serve: Any, new_tab: Callable[..., Any], width: int, scheme: str
) -> None:
    async with serve(*experts(), fast="fast") as doors:
        tab = await new_tab(viewport={"width": width, "height": 780}, color_scheme=scheme)
        await tab.open(doors.url)
        await tab.page.locator("#settings-button").click()
        assert await tab.violations() == []
        await tab.page.locator("#settings-button").click()
        await tab.ask(f"{QUESTION} {'long' * 40}")
        await tab.page.get_by_role("button", name="Ask the same at once, cold").click()
        await tab.page.wait_for_selector(".race")
        await tab.type("and the next?")
        assert await tab.page.evaluate("document.documentElement.scrollWidth") <= width
        hidden = "(e) => e.scrollWidth - e.clientWidth"  # of the timeline
        assert await tab.page.locator(".turn .scroll").evaluate(hidden) <= 0
        assert await tab.violations() == []
        await tab.picture(f"{width}-{scheme}")
        assert tab.complaints == []


@pytest.mark.browser
async def test_edits_and_pastes_reach_the_server_as_the_whole_text(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    async with serve(*experts(), fast="fast") as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await tab.type("one two four")
        for _ in range(4):
            await tab.page.keyboard.press("Backspace")
        await tab.type("three")
        await tab.page.keyboard.press("Home")
        await tab.page.keyboard.insert_text("zero ")
        await tab.page.keyboard.press("Shift+Enter")
        await tab.type("and")
        await tab.page.keyboard.press("Enter")
        await tab.page.wait_for_selector(".turn.over")
        assert await tab.texts(".answer") == ["ZERO \nANDONE TWO THREE"]
        assert await tab.page.locator(".timeline .key.edit").count() > 0


@pytest.mark.browser
async def test_text_typed_before_the_modules_are_there_is_not_lost(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    async with serve(*experts(), fast="fast") as doors:
        tab = await new_tab()
        typed = asyncio.Event()

        async def hold(route: Any) -> None:
            await typed.wait()
            await route.continue_()

        await tab.page.route("**/page/main.js", hold)
        await tab.page.goto(doors.url, wait_until="commit")
        await tab.page.wait_for_selector("#question")
        await tab.type(QUESTION)
        typed.set()
        await tab.page.wait_for_selector(".drafts .drafting, .drafts .adopted")
        assert await tab.texts(".trail li > span") == QUESTION.split()


@pytest.mark.browser
async def test_stopped_answer_is_cut_where_it_was_and_the_conversation_goes_on(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    slow = FakeExpert("slow", token_s=0.15)
    async with serve(slow) as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await tab.page.locator("#settings-button").click()
        await tab.page.locator("[name=speculation]").select_option("off")
        await tab.type(" ".join(f"word{n}" for n in range(40)), delay=0)
        await tab.page.keyboard.press("Enter")
        await tab.writes(20)
        await tab.page.keyboard.press("Escape")
        await tab.page.wait_for_selector(".turn.over")
        answer = (await tab.texts(".answer"))[0]
        assert answer.endswith("stopped here")
        assert len(answer.split()) < 40
        assert await tab.page.locator("#stop").is_hidden()
        [session] = doors.state.registry._by_id.values()
        heard = list(session.session.items)[-1].text
        assert answer.startswith(heard.strip())
        await tab.ask("next", turns=2)
        assert (await tab.texts(".answer"))[1] == "NEXT"


@pytest.mark.browser
async def test_question_asked_under_a_running_answer_takes_its_place(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    async with serve(FakeExpert("slow", token_s=0.2)) as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await tab.type(" ".join(["first"] * 30), delay=0)
        await tab.page.keyboard.press("Enter")
        await tab.writes(8)
        await tab.ask("second one", turns=2)
        assert (
            await tab.page.locator(".turn").nth(0).get_attribute("class") == "turn over cancelled"
        )
        assert (await tab.texts(".answer"))[1] == "SECOND ONE"


@pytest.mark.browser
async def test_server_that_goes_and_comes_back_gets_the_conversation_again(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    def tell(messages: Any) -> str:
        return f"{len(messages)} messages"

    tab = await new_tab()
    async with serve(FakeExpert("one", answer=tell)) as doors:
        await tab.open(doors.url)
        await tab.ask("first")
        port = int(doors.url.rpartition(":")[2])
    await tab.page.wait_for_selector('#link[data-state="lost"]')
    await tab.type("typed while it was away")
    assert await tab.page.locator("#ask").is_disabled()
    await tab.picture("lost")
    async with serve(FakeExpert("one", answer=tell), at_port=port):
        await tab.page.wait_for_selector('#link[data-state="open"]')
        await tab.page.wait_for_selector("#ask:enabled")
        await tab.page.keyboard.press("Enter")
        await tab.ended(2)
        assert (await tab.texts(".answer"))[1] == "3 messages"


@pytest.mark.browser
async def test_reload_begins_anew_and_the_browser_keeps_nothing(
    serve: Any, new_tab: Callable[..., Any]
) -> None:
    async with serve() as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await tab.ask("a secret question")
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert await tab.page.evaluate(kept) == '[{},{},""]'
        await tab.page.reload()
        await tab.page.wait_for_selector('#link[data-state="open"]')
        assert await tab.texts(".turn") == []
        assert await tab.page.locator("#question").input_value() == ""
        assert not [url for url in tab.urls if "secret" in url]


@pytest.mark.browser
async def test_settings_count_for_the_next_turn(serve: Any, new_tab: Callable[..., Any]) -> None:
    async with serve(*experts(), fast="fast") as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        await tab.page.locator("#settings-button").click()
        await tab.page.wait_for_selector("[name=model] option[value=other]", state="attached")
        await tab.page.locator("[name=model]").select_option("other")
        await tab.page.locator("[name=speculation]").select_option("off")
        await tab.page.locator("[name=max_tokens]").fill("2")
        await tab.page.locator("[name=max_tokens]").press("Tab")
        await tab.ask("one two three four")
        assert await tab.texts(".answer") == ["ONE TWO"]
        told = (await tab.texts(".turn .told"))[0]
        assert told.startswith("other · ")
        assert "draft" not in told


@pytest.mark.browser
async def test_what_models_and_users_write_is_shown_as_text_and_saved_as_text(
    serve: Any, new_tab: Callable[..., Any], tmp_path: Path
) -> None:
    def hostile(messages: Any) -> str:
        return "<img src=x onerror=alert(1)> <script>alert(2)</script> <b>bold</b>"

    async with serve(FakeExpert("one", answer=hostile)) as doors:
        tab = await new_tab()
        dialogs: list[str] = []
        tab.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await tab.open(doors.url)
        await tab.ask("<svg onload=alert(3)>")
        assert await tab.texts(".answer") == [hostile(())]
        assert (
            await tab.page.locator("#turns img, #turns script, #turns b:not(.race b)").count() == 0
        )
        async with tab.page.expect_download() as saved:
            await tab.page.locator("#report-button").click()
        await (await saved.value).save_as(tmp_path / "report.html")
        await tab.page.goto(f"file://{tmp_path}/report.html")
        await asyncio.sleep(0.2)
        assert dialogs == []
        assert hostile(()) in (await tab.texts(".answer"))[0]


@pytest.mark.browser
async def test_long_conversation_leaves_the_tab_as_large_as_it_was(
    serve: Any, new_tab: Callable[..., Any], figures: dict[str, float]
) -> None:
    async with serve(*experts(), fast="fast") as doors:
        tab = await new_tab()
        await tab.open(doors.url)
        devtools = await tab.page.context.new_cdp_session(tab.page)

        async def size() -> tuple[float, float]:
            await devtools.send("HeapProfiler.collectGarbage")
            found = await devtools.send("Runtime.getHeapUsage")
            nodes: float = await tab.page.evaluate("document.querySelectorAll('*').length")
            return found["usedSize"] / 2**20, nodes

        sizes = {}
        for number in range(1, 201):
            await tab.page.locator("#question").fill(f"question number {number} of many")
            await tab.page.keyboard.press("Enter")
            last = tab.page.locator(".turn.over:last-child .question", has_text=f" {number} ")
            await last.wait_for()
            if number in (60, 200):
                sizes[number] = await size()
        figures["heap_mib.turn_60"], figures["heap_mib.turn_200"] = sizes[60][0], sizes[200][0]
        figures["heap_growth_mib.turns_60_to_200"] = sizes[200][0] - sizes[60][0]
        assert sizes[200][0] < sizes[60][0] * 1.15 + 0.5
        assert sizes[200][1] <= sizes[60][1] * 1.02
