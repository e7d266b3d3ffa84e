"""A program that embeds LiveMind keeps its environment and its logging."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from livemind.backends.vllm.own_half import keep_log, own_environment


@pytest.fixture
def vllm_logger(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """A logger ``vllm`` as in a program that has not configured it."""
    logger = logging.getLogger("vllm")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    return logger


def test_environment_is_put_back_whatever_vllm_does_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    monkeypatch.setenv("LIVEMIND_TEST_GOES", "here")
    monkeypatch.delenv("VLLM_CONFIGURE_LOGGING", raising=False)
    before = dict(os.environ)

    def fail() -> None:
        with own_environment():
            assert (os.environ["DO_NOT_TRACK"], os.environ["VLLM_CONFIGURE_LOGGING"]) == ("1", "0")
            os.environ["NUMEXPR_MAX_THREADS"] = "7"
            del os.environ["LIVEMIND_TEST_GOES"]
            raise RuntimeError("the engine does not start")

    with pytest.raises(RuntimeError):
        fail()
    assert dict(os.environ) == before


def test_environment_that_configures_logging_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, vllm_logger: logging.Logger, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLLM_CONFIGURE_LOGGING", "1")
    with own_environment():
        assert os.environ["VLLM_CONFIGURE_LOGGING"] == "1"
        keep_log(str(tmp_path / "engine.log"))
    assert vllm_logger.handlers == []


def test_log_of_vllm_still_reaches_the_program_and_the_engines_file_once(
    vllm_logger: logging.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, level = tmp_path / "engine.log", vllm_logger.level
    with own_environment():
        for _ in range(3):
            keep_log(str(file))
    logging.getLogger("vllm.v1").warning("a kernel is missing")
    assert caplog.messages == ["a kernel is missing"]
    assert file.read_text().count("a kernel is missing") == 1
    assert (vllm_logger.propagate, vllm_logger.level) == (True, level)
    vllm_logger.handlers[0].close()


def test_log_of_vllm_in_a_program_without_logging_is_silent(
    vllm_logger: logging.Logger,
) -> None:
    with own_environment():
        keep_log(None)
        keep_log(None)
    assert [type(handler) for handler in vllm_logger.handlers] == [logging.NullHandler]
