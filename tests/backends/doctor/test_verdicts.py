"""The doctor's verdict on whole and faulty folders; in `make test-families` also the engine's."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.doctor import Question, Subject, examine, import_failures, this_host
from livemind.backends.doctor.number_formats import Host
from livemind.backends.errors import ExpertError
from livemind.backends.machine.memory import machine_memory
from livemind.backends.machine.speeds import known_speeds
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert
from livemind.backends.zoo.families import write_family

from .conftest import NARROW

pytest.importorskip("vllm")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Change = Callable[[Path], None]


def as_it_is(folder: Path) -> None:
    """Leave the folder whole."""


def without(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return change


def config(**changed: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))

    return change


def packed(method: str, **more: Any) -> Change:
    return config(quantization_config={"quant_method": method, **more})


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)


def lost_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": [')


@dataclass(frozen=True)
class Folder:
    """One folder: its family, what is done to it, the expert's settings, and the code of the error.

    ``code`` empty: it runs.
    """

    family: str
    change: Change = as_it_is
    code: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
AWQ = packed("awq", bits=4, group_size=32, zero_point=True, version="gemm")
GPTQ = packed("gptq", bits=4, group_size=32, desc_act=False, sym=True, lm_head=False)
FP8 = packed("fp8", activation_scheme="dynamic", weight_block_size=[128, 128])
NO_ROOM = {"kv_cache_gib": 0.0005, "max_model_len": 2048}
FOLDERS = {
    "smollm2": Folder("smollm2"),
    "gemma3": Folder("gemma3"),
    "mistral-swa": Folder("mistral-swa"),
    "deepseek-v2": Folder("deepseek-v2"),
    "mamba2": Folder("mamba2"),
    "granite-hybrid": Folder("granite-hybrid"),
    "qwen3-next": Folder("qwen3-next"),
    "gpt-oss": Folder("gpt-oss"),
    "fp8-cache-left-out": Folder("smollm2", settings={"kv_cache_dtype": "fp8"}),
    "float16": Folder("smollm2", settings={"dtype": "float16"}),
    "fp8-cache-or-nothing": Folder(
        "smollm2", as_it_is, "kv_cache_unsupported",
        {"kv_cache_dtype": "fp8", "kv_cache_fallback": False},
    ),
    "no-config": Folder("smollm2", without("config.json"), "config_missing"),
    "damaged-config": Folder("smollm2", damaged_config, "file_damaged"),
    "no-tokenizer": Folder("smollm2", without(*TOKENIZER), "tokenizer_missing"),
    "no-weights": Folder("smollm2", without("model.safetensors"), "weights_missing"),
    "cut-weights": Folder("smollm2", cut, "weights_damaged"),
    "lost-shard": Folder("smollm2", lost_shard, "weights_damaged"),
    "unknown-class": Folder(
        "smollm2", config(architectures=["NoSuchForCausalLM"]), "architecture_unsupported"
    ),
    "unknown-method": Folder("smollm2", packed("rot13"), "quantization_unsupported"),
    "awq-float32": Folder("smollm2", AWQ, "dtype_quantization", {"dtype": "float32"}),
    "awq-asked-for": Folder(
        "smollm2", as_it_is, "quantization_absent", {"quantization": "awq", "dtype": "float16"}
    ),
    "fp8-blocks": Folder("smollm2", FP8, "kernel_missing"),
    "mxfp4": Folder("gpt-oss", packed("mxfp4"), "kernel_missing", {"dtype": "bfloat16"}),
    "gptq-experts": Folder("qwen3-moe", GPTQ, "kernel_missing", {"dtype": "bfloat16"}),
    "mla-latent": Folder("deepseek-v2", config(kv_lora_rank=64), "kernel_missing"),
    "mla-float32": Folder("deepseek-v2", settings={"dtype": "float32"}),
    "gptq-in-name": Folder("smollm2", GPTQ, "quantization_absent", {"dtype": "bfloat16"}),
    "gated-delta-float32": Folder("qwen3-next", as_it_is, "dtype_model", {"dtype": "float32"}),
    "gemma3-float16": Folder("gemma3", as_it_is, "dtype_model", {"dtype": "float16"}),
    "context": Folder("smollm2", as_it_is, "context_beyond_model", {"max_model_len": 9999}),
    "cache-too-small": Folder("smollm2", as_it_is, "context_exceeds_kv", NO_ROOM),
}  # fmt: skip


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            write_family(made[name], name)
        return made[name]

    return folder


def spec_of(folder: Folder, families: Callable[[str], Path], place: Path) -> ExpertSpec:
    shutil.copytree(families(folder.family), place)
    folder.change(place)
    settings = {"kv_cache_gib": 0.25, **folder.settings}
    return ExpertSpec("one", model_path=str(place), **settings)


def errors(spec: ExpertSpec, host: Host, *, imports: bool = False) -> list[str]:
    question = Question(
        [Subject("experts[0]", spec)],
        machine_memory() or 0,
        host=host,
        imports=import_failures if imports else None,
    )
    return [found.code for found in examine(question).findings if found.severity == "error"]


@pytest.mark.parametrize("name", FOLDERS)
def test_doctor_finds_the_fault_of_a_folder_and_none_in_a_whole_one(
    name: str, families: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = FOLDERS[name]
    # With AMX several of these run: the engine's verdict below is that of this machine.
    host = replace(this_host(), processor=NARROW, speeds=known_speeds(NARROW))
    found = errors(spec_of(folder, families, tmp_path / "model"), host)
    assert found == [] if not folder.code else folder.code in found, found


@pytest.mark.live
@pytest.mark.parametrize("name", FOLDERS)
def test_doctors_verdict_is_the_engines(
    name: str, families: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = spec_of(FOLDERS[name], families, tmp_path / "model")
    cause = asyncio.run(_cause(spec))
    assert bool(errors(spec, this_host())) is bool(cause), cause


async def _cause(spec: ExpertSpec) -> str:
    expert = VllmExpert(spec)
    try:
        await expert.start()
    except ExpertError as error:
        return error.message
    finally:
        await expert.stop()
    return ""
