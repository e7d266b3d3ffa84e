"""Model classes that the engine knows by name and cannot import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livemind.backends.doctor import engine_imports
from livemind.backends.doctor.engine_imports import import_failures, reason
from livemind.orchestrator.cli import check, entry

from .conftest import make_model, small_config


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModuleNotFoundError("No module named 'torchvision.transforms'"), "torchvision is missing"),
        (RuntimeError("X requires the Torchvision library"), "module torchvision is missing"),
        (RuntimeError("\noperator x\nmore"), "RuntimeError: operator x"),
        (ValueError(), "ValueError"),
    ],
)
def test_reason_of_a_failed_import_names_what_is_missing(error: Exception, told: str) -> None:
    assert told in reason(error)


def test_failures_are_asked_once_for_each_set_of_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[list[str]] = []

    def imported(names: list[str]) -> dict[str, str | None]:
        asked.append(names)
        return {name: None if name == "Fine" else "no" for name in names}

    monkeypatch.setattr(engine_imports, "_imported", imported)
    for _ in range(2):
        assert import_failures(["Fine", "Broken"]) == {"Broken": "no"}
    assert asked == [["Broken", "Fine"]]
    monkeypatch.setattr(engine_imports, "version", lambda name: "another")
    assert import_failures(["Broken"]) == {"Broken": "no"}
    assert asked[1:] == [["Broken"]]


def test_failures_of_a_process_that_fails_are_not_invented(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(engine_imports, "_imported", lambda names: None)
    assert import_failures(["Broken"]) == {}
    assert not list(tmp_path.rglob("*.json"))


def test_check_of_a_class_that_cannot_be_imported_is_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(tmp_path / "model", small_config())
    file = tmp_path / "c.json"
    file.write_text('{"experts": [{"expert_id": "a", "model_path": "./model"}]}')
    assert entry.main(["check", str(file), "--json", "--memory", "16GiB"]) == 0
    capsys.readouterr()
    why = "the module torchvision is missing"
    monkeypatch.setattr(check, "import_failures", lambda names: dict.fromkeys(names, why))
    assert entry.main(["check", str(file), "--json", "--memory", "16GiB"]) == 1
    [found] = [
        one for one in json.loads(capsys.readouterr().out)["findings"] if one["severity"] == "error"
    ]
    assert found["code"] == "architecture_not_importable"
    assert why in found["why"]
    assert "CPU build of torchvision" in found["change"]
