"""Links between documents lead somewhere, and every page can be found from the index."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import livemind

ROOT = Path(livemind.__file__).parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*.md")])
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        text = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(text.replace(" ", "-"))
    return found


def links(page: Path) -> list[str]:
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in _LINK.findall(text) if not link.startswith(("http", "mailto:"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_page_lead_to_files_and_headings(page: Path) -> None:
    lost = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


def test_index_leads_to_every_page_and_every_example() -> None:
    index = ROOT / "docs" / "index.md"
    reached = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    wanted = {page for page in PAGES if page not in (index, ROOT / "CHANGELOG.md")}
    wanted |= set((ROOT / "examples").glob("*.py"))
    assert not wanted - reached


def generated(name: str, function: str) -> str:
    text: str = runpy.run_path(str(ROOT / "docs" / "generator" / name))[function]()
    return text


def test_picture_of_a_turn_is_what_the_defaults_say() -> None:
    picture = (ROOT / "docs" / "plots" / "turn-clock.svg").read_text(encoding="utf-8")
    command = "python docs/generator/turn_clock.py > docs/plots/turn-clock.svg"
    assert picture == generated("turn_clock.py", "svg"), command


def test_page_of_clients_is_what_their_programs_told() -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    assert page == generated("clients_page.py", "page"), (
        "python docs/generator/clients_page.py > docs/clients.md"
    )


def test_page_of_openais_api_is_what_the_tables_say() -> None:
    page = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")
    assert page == generated("openai_page.py", "page"), (
        "python docs/generator/openai_page.py > docs/openai.md"
    )


def test_python_reference_is_what_the_docstrings_say() -> None:
    page = generated("sdk.py", "page")
    assert (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8") == page, (
        "python docs/generator/sdk.py > docs/sdk.md"
    )
    assert {name for name in livemind.__all__ if f"\n### `{name}`\n" not in page} == set()
