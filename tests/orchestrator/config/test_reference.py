"""The generated reference: up to date, whole, and true about vLLM's arguments."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import livemind
from livemind.backends.engine_args import engine_args, engine_environment, late_environment
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.config.experts import ExpertConfig, Section
from livemind.orchestrator.config.reference import VLLM_ARGUMENTS, reference

ROOT = Path(livemind.__file__).parent


def test_configuration_page_is_what_the_command_prints() -> None:
    """If this fails: livemind config reference > docs/configuration.md"""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == reference()


def test_reference_has_a_row_with_a_meaning_for_every_key() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| ([^|]+)", reference(), re.MULTILINE)
    meanings = dict(rows)
    keys = {name for section in Section.__subclasses__() for name in section.model_fields}
    assert keys <= set(meanings)
    assert not [key for key, meaning in rows if len(meaning.strip()) < 8]


def test_reference_names_every_engine_argument_that_a_key_becomes(tmp_path: Path) -> None:
    """Each setting is changed in turn; the argument that changes with it must be the named one."""
    changes: dict[str, Any] = {
        "expert_id": "other",
        "model_path": str(tmp_path),
        "quantization": "awq",
        "dtype": "float16",
        "gpu_memory_utilization": 0.5,
        "max_num_seqs": 3,
        "max_model_len": 64,
        "kv_cache_gib": 2.0,
        "kv_cache_dtype": "fp8",
        "block_size": 64,
        "images": True,
        "max_num_batched_tokens": 128,
        "enforce_eager": False,
        "cpu_cores": "0-2",
        "enable_neon": False,
        "neon_optimizations": {"penalties": False},
    }
    assert set(changes) == set(VLLM_ARGUMENTS)
    plain = ExpertSpec("one", model_path="org/model")
    for key, value in changes.items():
        spec = replace(plain, **{key: value})
        before = engine_args(plain) | engine_environment(plain, 4) | late_environment(plain)
        after = engine_args(spec) | engine_environment(spec, 4) | late_environment(spec)
        changed = {name for name in before.keys() | after if before.get(name) != after.get(name)}
        named = set(re.findall(r"`(\w+)`", VLLM_ARGUMENTS[key])) - {"gpu_memory_utilization"}
        assert named & changed or key == "gpu_memory_utilization", (key, changed)
        assert key != "gpu_memory_utilization" or key in changed


def test_reference_kinds_agree_with_what_experts_refuse() -> None:
    assert set(ExpertConfig.engine_keys()) <= set(ExpertConfig.model_fields)
    assert set(VLLM_ARGUMENTS) <= set(ExpertConfig.model_fields)


def test_reference_has_every_key_of_the_original_system() -> None:
    """Their names stay; what an engine cannot obey it refuses by name (test_faulty_configs)."""
    original = {
        "experts[]": (
            "expert_id model_path domain priority quantization dtype gpu_memory_utilization "
            "max_num_seqs max_model_len enable_neon neon_optimizations"
        ),
        "lazy_loading": (
            "enabled warmup_pool_size max_loaded_experts memory_threshold auto_unload_after_s"
        ),
        "rag": "enabled bridge_url",
    }
    text = reference()
    for section, keys in original.items():
        part = text.split(f"## `{section}`\n")[1].split("\n## ")[0]
        for key in keys.split():
            assert f"| `{key}` |" in part, key
