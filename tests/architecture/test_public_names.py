"""The front door: what public calls take, return and raise can be had from ``livemind`` itself."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind import public
from livemind.backends import errors as expert_errors
from livemind.orchestrator import errors
from livemind.orchestrator.client.events import LiveEvent
from livemind.rag.base import Embedder

ROOT = Path(livemind.__file__).parent
# Made by ``LiveMind.session``, ``LiveClient.session`` and ``commit``, never by a program.
NOT_CALLED = {
    "Session.__init__",
    "SessionItems.__init__",
    "RemoteSession.__init__",
    "LiveAnswer.__init__",
}
PROTOCOL = ("__init__", "__aenter__", "__anext__")


def annotated(kind: Any) -> Iterator[type]:
    """Yield the classes in an annotation, however deep."""
    if isinstance(kind, type):
        yield kind
    for part in typing.get_args(kind):
        for inner in part if isinstance(part, list) else [part]:
            yield from annotated(inner)


def calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every public function and method, and classes for their fields."""
    for name in livemind.__all__:
        thing = getattr(livemind, name)
        yield name, thing
        for attribute, value in vars(thing).items() if inspect.isclass(thing) else ():
            if attribute.startswith("_") and attribute not in PROTOCOL:
                continue
            found = value.fget if isinstance(value, property) else value
            found = getattr(found, "__func__", found)
            where = f"{name}.{attribute}"
            if inspect.isfunction(found) and where not in NOT_CALLED:
                yield where, found


CALLS = dict(calls())


def test_root_exports_exactly_the_imports_of_its_list() -> None:
    text = (ROOT / "public.py").read_text(encoding="utf-8")
    listed = set(re.findall(r"^ +(\w+) as \1,$", text, re.MULTILINE))
    assert len(listed) > 100
    assert set(livemind.__all__) == listed


@pytest.mark.parametrize("where", sorted(CALLS))
def test_public_call_takes_and_returns_only_public_types(where: str) -> None:
    hints = typing.get_type_hints(CALLS[where], localns={"Embedder": Embedder})
    ours = {
        kind.__name__
        for hint in hints.values()
        for kind in annotated(hint)
        if kind.__module__.split(".")[0] == "livemind"
    }
    assert ours <= set(livemind.__all__)


@pytest.mark.parametrize("where", sorted(CALLS))
def test_public_call_raises_only_public_errors(where: str) -> None:
    told = (inspect.getdoc(CALLS[where]) or "").partition("Raises:")[2]
    ours = {
        name
        for module in (errors, expert_errors)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert set(re.findall(r"[A-Z]\w+", told)) & ours <= set(livemind.__all__)


def test_every_event_and_every_error_is_public() -> None:
    sent = {kind.__name__ for kind in typing.get_args(LiveEvent)}
    raised = {
        name
        for module in (errors, expert_errors)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert sent | raised <= set(livemind.__all__)


def test_client_module_and_root_name_the_same() -> None:
    from livemind import client

    names = [
        name
        for name, home in public.homes().items()
        if home.startswith((".orchestrator.client", ".orchestrator.server"))
    ]
    assert sorted(client.__all__) == sorted([*names, "LiveEvent"])
    assert all(getattr(livemind, name) is getattr(client, name) for name in names)


def test_livemind_dir_shows_its_names_without_loading_them() -> None:
    assert set(livemind.__all__) <= set(dir(livemind))


def test_paths_in_deployed_commands_still_lead_there() -> None:
    """``vllm serve`` is started with these names; the entry points of pyproject.toml are others."""
    from livemind.backends import vllm_drafts
    from livemind.backends.vllm import drafts
    from livemind.orchestrator import cli

    assert vllm_drafts.DraftProposer is drafts.DraftProposer
    assert vllm_drafts.DraftWorker is drafts.DraftWorker
    assert callable(cli.main)
