"""The plugin beside a vLLM that looks otherwise: it must not end a server that does not use it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from livemind.backends.vllm.drafts import allow_all_sampling


def test_plugin_with_another_vllm_does_nothing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for attributes in ({}, {"SamplingParams": type("SamplingParams", (), {})}):
        other = ModuleType("vllm.sampling_params")
        vars(other).update(attributes)
        monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
        monkeypatch.setitem(sys.modules, "vllm.sampling_params", other)
        caplog.clear()
        allow_all_sampling()
        assert "stay refused" in caplog.text
