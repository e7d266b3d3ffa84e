"""What vLLM supports, read from its source."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from livemind.backends.doctor.engine_tables import EngineTables, installed_engine, read_tables


def test_tables_hold_what_generates_text_and_nothing_else(engine: EngineTables) -> None:
    assert engine.architectures is not None
    assert {"LlamaForCausalLM", "Gemma3ForConditionalGeneration"} <= engine.architectures
    assert "BertModel" not in engine.architectures
    assert engine.multimodal == {"Gemma3ForConditionalGeneration"}
    assert engine.last_version == {"Grok1ForCausalLM": "0.24.0"}
    assert engine.is_cpu


def test_tables_hold_quantizations_and_their_dtypes(engine: EngineTables) -> None:
    assert engine.quantizations == frozenset({"awq", "gptq", "fp8", "mxfp4"})
    assert engine.quantization_dtypes == {
        "awq": frozenset({"float16", "bfloat16"}),
        "mxfp4": frozenset({"bfloat16"}),
    }
    assert set(engine.no_float16) == {"gemma3"}


def test_tables_of_source_in_another_form_are_unknown_instead_of_wrong(tmp_path: Path) -> None:
    (tmp_path / "model_executor" / "models").mkdir(parents=True)
    (tmp_path / "model_executor" / "models" / "registry.py").write_text("MODELS = load()\n(")
    tables = read_tables(tmp_path, "vllm 9")
    assert tables.architectures is None
    assert tables.quantizations is None
    assert tables.quantization_dtypes == {}


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_tables_of_the_installed_vllm_are_found_without_importing_it() -> None:
    code = (
        "import sys\n"
        "from livemind.backends.doctor import examine\n"
        "from livemind.backends.doctor.engine_tables import installed_engine\n"
        "found = installed_engine()\n"
        "assert {'LlamaForCausalLM', 'GptOssForCausalLM'} <= found.architectures\n"
        "assert {'awq', 'gptq'} <= found.quantizations\n"
        "assert 'float16' in found.quantization_dtypes['awq']\n"
        "assert 'gemma3' in found.no_float16\n"
        "print(sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.stdout == "[]\n", shown.stderr
    assert installed_engine() is installed_engine()
