"""Hooks of mkdocs: what the pages link to outside ``docs/`` becomes part of the site.

Documents elsewhere in the repository are pages under ``project/``; other text files that a page
links to are shown under ``source/``. Links in the Markdown stay those of the repository, so that
they work on a code host as well; here they are turned into those of the site.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
# Beyond this a file is offered as it is: highlighting would make a page of megabytes.
MOST_SHOWN_BYTES = 65_536
ENTRANCES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)")
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
_LANGUAGES = {".py": "python", ".json": "json", ".sh": "bash", ".service": "ini"}


def place(path: str) -> str:
    """Return where a path of the repository is in the site."""
    at = PurePosixPath(path)
    if at.parts[0] == "docs":
        return str(at.relative_to("docs"))
    if at.suffix == ".md":
        return f"project/{path.lower()}"
    shown = (ROOT / path).is_dir() or (ROOT / path).stat().st_size <= MOST_SHOWN_BYTES
    return f"source/{path}.md" if shown else f"source/{path}"


def linked(page: str) -> Iterator[str]:
    """Yield the paths of the repository that a page of it links to outside its code blocks."""
    for part in _CODE.split((ROOT / page).read_text(encoding="utf-8"))[::2]:
        yield from (_target(page, link) for link in _LINK.findall(part))


def rewritten(page: str, markdown: str) -> str:
    """Return a page's text with the links of the site."""
    here = str(PurePosixPath(place(page)).parent)

    def link(match: re.Match[str]) -> str:
        return relpath(place(_target(page, match[1])), here)

    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(link, part) for part in parts[::2]]
    return "".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside ``docs/`` and is linked to, and what that links to."""
    pages = {f"docs/{file.src_uri}" for file in files.documentation_pages()}
    todo, done = [*ENTRANCES, *sorted(pages)], set(pages)
    while todo:
        path = todo.pop()
        if path.endswith(".md"):
            todo.extend(target for target in linked(path) if target not in done)
        if path not in done and not path.startswith("docs/"):
            files.append(_file(path, config))
        done.add(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of one page into those of the site."""
    path = page.file.src_uri
    if path.startswith("source/"):
        return markdown
    source = page.file.abs_src_path
    assert source is not None
    return rewritten(Path(source).resolve().relative_to(ROOT).as_posix(), markdown)


def _target(page: str, link: str) -> str:
    return normpath(PurePosixPath(page).parent / link)


def _file(path: str, config: MkDocsConfig) -> File:
    at, uri = ROOT / path, place(path)
    if path.endswith(".md") or not uri.endswith(".md"):
        return File.generated(config, uri, abs_src_path=str(at))
    if at.is_dir():
        names = sorted(child.name for child in at.iterdir() if child.is_file())
        text = "\n".join(f"- `{name}`" for name in names)
    else:
        language = _LANGUAGES.get(at.suffix, "text")
        text = f"````{language}\n{at.read_text(encoding='utf-8')}````"
    return File.generated(config, uri, content=f"# {path}\n\n{text}\n")
