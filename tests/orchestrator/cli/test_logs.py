"""What a log line looks like."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from livemind.orchestrator.cli import entry
from livemind.orchestrator.cli.logs import LogFormat, configure_logs


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(log_format: LogFormat, capsys: pytest.CaptureFixture[str]) -> list[str]:
    configure_logs("info", log_format)
    log = logging.getLogger("livemind.test")
    log.debug("not shown")
    log.info("loaded %s", "exp\nert")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed")
    streams = capsys.readouterr()
    assert streams.out == ""
    return streams.err.splitlines()


def test_logs_as_json_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = [json.loads(line) for line in logged("json", capsys)]
    assert (first["level"], first["logger"], first["message"]) == (
        "info",
        "livemind.test",
        "loaded exp\nert",
    )
    assert first["time"].endswith("+00:00")
    assert "exception" not in first
    assert second["level"] == "error"
    assert "ValueError: two\nlines" in second["exception"]


def test_logs_as_text_begin_with_time_level_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    lines = logged("text", capsys)
    assert lines[0].endswith("INFO livemind.test: loaded exp")
    assert any("ValueError: two" in line for line in lines)


def test_log_file_gets_what_stderr_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "livemind.log"
    file.write_text("before\n")
    configure_logs("info", "text", file)
    logging.getLogger("livemind.test").info("loaded")
    file.rename(tmp_path / "livemind.log.1")
    logging.getLogger("livemind.test").info("again")
    assert (tmp_path / "livemind.log.1").read_text().splitlines()[1].endswith("test: loaded")
    assert file.read_text().endswith("test: again\n")
    assert capsys.readouterr().err == ""


def test_log_file_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none" / "livemind.log"
    assert entry.main(["serve", "--log-file", str(file)]) == 2
    assert f"--log-file: {file}: No such file or directory" in capsys.readouterr().err
