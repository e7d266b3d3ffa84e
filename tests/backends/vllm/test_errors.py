"""vLLM's exceptions: each class is known and translated; a new one makes this file fail."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from livemind.backends.errors import (
    ExpertError,
    ExpertOverloaded,
    ExpertUnavailable,
    PromptRejected,
)

exceptions = pytest.importorskip("vllm.exceptions")
engine_exceptions = pytest.importorskip("vllm.v1.engine.exceptions")

from livemind.backends.vllm.errors import translate  # noqa: E402
from livemind.backends.vllm.process import first_error, one_line  # noqa: E402

KNOWN: dict[str, type[ExpertError]] = {
    "VLLMError": ExpertUnavailable,
    "VLLMClientError": PromptRejected,
    "VLLMServerError": ExpertUnavailable,
    "VLLMValidationError": PromptRejected,
    "VLLMNotFoundError": PromptRejected,
    "LoRAAdapterNotFoundError": PromptRejected,
    "VLLMUnprocessableEntityError": PromptRejected,
    "GenerationError": ExpertUnavailable,
    "RetryableRequestError": ExpertOverloaded,
    "GracefulHTTPError": ExpertUnavailable,
    "QueueOverflowError": ExpertOverloaded,
    "MaxQueuedTokensError": ExpertOverloaded,
    "ProfilerAlreadyActiveError": PromptRejected,
    "EngineGenerateError": ExpertUnavailable,
    "EngineDeadError": ExpertUnavailable,
}
ARGUMENTS = {
    "LoRAAdapterNotFoundError": ("name", "path"),
    "GracefulHTTPError": ("message", 500),
    **dict.fromkeys(("QueueOverflowError", "MaxQueuedTokensError"), ()),
    "ProfilerAlreadyActiveError": (),
}


def classes() -> dict[str, type[Exception]]:
    return {
        name: found
        for module in (exceptions, engine_exceptions)
        for name, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == module.__name__
    }


def test_translate_knows_every_exception_of_vllm() -> None:
    assert set(classes()) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_translate_vllms_exception_becomes_the_right_one(name: str) -> None:
    error = classes()[name](*ARGUMENTS.get(name, ("message",)))
    translated = translate("e", error)
    assert type(translated) is KNOWN[name]
    assert translated.expert_id == "e"
    assert translated.message


def test_translate_validation_error_names_the_parameter() -> None:
    error = exceptions.VLLMValidationError("too high", parameter="top_p", value=3)
    translated = translate("e", error)
    assert isinstance(translated, PromptRejected)
    assert (translated.param, translated.message) == ("top_p", "too high")


def test_translate_generate_error_with_a_bad_value_behind_it_is_the_requests_fault() -> None:
    error = engine_exceptions.EngineGenerateError()
    error.__cause__ = ValueError("token id 9999 is out of vocabulary")
    translated = translate("e", error)
    assert isinstance(translated, PromptRejected)
    assert "out of vocabulary" in translated.message


def test_translate_unknown_exception_shows_its_kind_only() -> None:
    translated = translate("e", ZeroDivisionError("secret prompt"))
    assert isinstance(translated, ExpertUnavailable)
    assert translated.message == "unexpected ZeroDivisionError in the engine"


def test_one_line_shows_no_folder_no_newline_and_no_novel() -> None:
    assert one_line("cannot read\n  '/home/me/models/x.bin': no") == "cannot read 'x.bin': no"
    assert one_line("see https://host/a/b") == "see https://host/a/b"
    assert len(one_line("x" * 1000)) == 300


def test_first_error_finds_the_root_cause_behind_the_prefixes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ValueError: of an earlier run\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write(
            "(Worker pid=1) ERROR 11-20 [x.py:1] WorkerProc failed to start.\n"
            "(Worker pid=1) ERROR 11-20 [x.py:1]     raise RuntimeError('no')\n"
            "(Worker pid=1) ERROR 11-20 [x.py:1] RuntimeError: head_dim=16 is unsupported\n"
            "RuntimeError: Engine core initialization failed. See root cause above.\n"
        )
    assert first_error(log, start) == "RuntimeError: head_dim=16 is unsupported"
    assert first_error(tmp_path / "none") == ""
    log.write_text(
        "Fatal Python error: Illegal instruction\n\nThread 0x1 (most recent call first):\n"
    )
    assert first_error(log) == "Fatal Python error: Illegal instruction"
