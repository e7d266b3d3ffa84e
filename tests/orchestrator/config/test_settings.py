"""The settings tree: what is refused and in which words, what is resolved, what is never shown."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError
from rich.console import Console

from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.config.experts import ExpertConfig
from livemind.orchestrator.config.sections import DomainConfig
from livemind.orchestrator.config.settings import Settings, check_config, describe, load_settings
from livemind.orchestrator.errors import ConfigError

LOCAL = {"expert_id": "a", "model_path": "zoo:fast"}
REMOTE = {"expert_id": "r", "kind": "remote", "base_urls": ["http://h:1"], "model": "m"}


def load(folder: Path, value: object) -> Settings:
    file = folder / "x.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    return load_settings(file)


def problems(folder: Path, value: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, value)
    prefix = f"{folder / 'x.json'}: "
    lines = caught.value.message.splitlines()
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def expert(**changes: object) -> dict[str, object]:
    return {"experts": [{**LOCAL, **changes}]}


def test_load_settings_smallest_file_has_all_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, {"experts": [LOCAL]})
    assert settings == Settings(experts=(ExpertConfig(expert_id="a", model_path="zoo:fast"),))
    assert (settings.server.port, settings.speculation.mode) == (8000, "draft")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([], "got an empty list, need an object"),
        ({}, "experts: missing, need a value"),
        ({"experts": []}, "experts: got an empty list, need at least 1 of them"),
        ({"experts": LOCAL}, "experts: got an object, need a list"),
        ({"experts": [3]}, "experts[0]: got 3, need an object"),
        (expert(dtype="bf16"), 'experts[0].dtype: got "bf16", need one of "auto", "bfloat16",'),
        (expert(dtpye="auto"), 'experts[0].dtpye: unknown key, did you mean "dtype"?'),
        (expert(zzz=1), "experts[0].zzz: unknown key, known are api_key_env, base_urls"),
        (expert(max_num_seqs=0), "experts[0].max_num_seqs: got 0, need >= 1"),
        (expert(max_num_seqs="8"), 'experts[0].max_num_seqs: got "8", need a whole number'),
        (expert(max_num_seqs=True), "experts[0].max_num_seqs: got true, need a whole number"),
        (expert(enforce_eager=1), "experts[0].enforce_eager: got 1, need true or false"),
        (expert(kv_cache_gib=0), "experts[0].kv_cache_gib: got 0, need > 0"),
        (expert(kv_cache_gib="1"), 'experts[0].kv_cache_gib: got "1", need a number'),
        (expert(gpu_memory_utilization=1.5), "experts[0].gpu_memory_utilization: got 1.5, need <="),
        (expert(block_size=7), "experts[0].block_size: got 7, need one of 16, 32, 64 or 128"),
        (expert(cpu_cores="0-"), 'experts[0].cpu_cores: got "0-", need text of the form'),
        (expert(cpu_cores="0,3-1"), 'experts[0].cpu_cores: got "0,3-1", need 1-3, the lower core'),
        (expert(cpu_cores="0-12345"), 'experts[0].cpu_cores: got "0-12345", need text of the form'),
        (expert(neon_optimizations=[]), "experts[0].neon_optimizations: got an empty list, need"),
        (expert(expert_id=""), 'experts[0].expert_id: got "", need text of the form'),
        (expert(expert_id="auto"), 'experts[0].expert_id: got "auto", which asks for routing'),
        (expert(model_path=""), 'experts[0].model_path: got "", need at least 1 characters'),
        (expert(model_path="zoo:fsat"), 'experts[0].model_path: got "zoo:fsat", need an embedded'),
        (
            expert(model_path="package:a"),
            'experts[0].model_path: got "package:a", need package:NAME==VERSION',
        ),
        (
            expert(dtype="bfloat16", quantization="awq"),
            'experts[0].dtype: got "bfloat16" with quantization "awq", which needs float16',
        ),
        (
            expert(dtype="float32", quantization="gptq"),
            'experts[0].dtype: got "float32" with quantization "gptq", which needs float16',
        ),
        (
            expert(prompt_lookup=True, verify_drafts=False),
            "experts[0].prompt_lookup: got true, need verify_drafts, which is false",
        ),
        (
            expert(max_num_batched_tokens=16, max_num_seqs=32),
            "experts[0].max_num_batched_tokens: got 16, need >= max_num_seqs, which is 32",
        ),
        (
            expert(max_model_len=256, max_tokens_default=256),
            "experts[0].max_tokens_default: got 256, need < max_model_len, which is 256",
        ),
        (
            expert(enable_neon=False, neon_optimizations={"rms_norm": True}),
            "experts[0].neon_optimizations: not used unless enable_neon is true",
        ),
        (
            expert(neon_optimizations={"rms_norm": True}, enforce_eager=False),
            "experts[0].neon_optimizations.rms_norm: got true, needs enforce_eager",
        ),
        (
            expert(neon_optimizations={"sampling": True, "rope": True}),
            "experts[0].neon_optimizations.rope: got true, but it stays with vLLM",
        ),
        (
            expert(neon_optimizations={"rmsnorm": False}),
            "experts[0].neon_optimizations.rmsnorm: unknown, need one of sampling, penalties",
        ),
        (
            expert(base_urls=["http://h"]),
            'experts[0].base_urls: not used by kind "vllm", only by kind "remote"',
        ),
        (
            {"experts": [{"expert_id": "a"}]},
            'experts[0].model_path: missing, need a model for kind "vllm"',
        ),
        (
            {"experts": [{"expert_id": "r", "kind": "remote", "model": "m"}]},
            'experts[0].base_urls: missing, need at least one URL for kind "remote"',
        ),
        (
            {"experts": [{**REMOTE, "model": None}]},
            "experts[0].model: missing, need the name the servers know it by",
        ),
        (
            {"experts": [{**REMOTE, "dtype": "auto"}]},
            'experts[0].dtype: not used by kind "remote", only by kind "vllm"',
        ),
        (
            {"experts": [{**REMOTE, "base_urls": ["http://h", "h:80"]}]},
            'experts[0].base_urls[1]: got "h:80", need a URL such as http://127.0.0.1:8001',
        ),
        (
            {"experts": [{**REMOTE, "base_urls": ["http://h/v1/"]}]},
            'experts[0].base_urls[0]: got "http://h/v1/", need the URL without /v1',
        ),
        (
            {"experts": [LOCAL, LOCAL]},
            'experts[1].expert_id: got "a", need another than experts[0] has',
        ),
        (
            {**expert(), "router": {"fast_expert": "b"}},
            'router.fast_expert: got "b", need the id of an expert: "a"',
        ),
        (
            {**expert(), "router": {"default_expert": "b"}},
            'router.default_expert: got "b", need the id of an expert: "a"',
        ),
        (
            {**expert(), "router": {"embedder": "other"}},
            'router.embedder: got "other", need one of "all-MiniLM-L6-v2" or "multilingual-e5-',
        ),
        (
            {**expert(), "domains": {"coding": {"examples": ["x"]}}},
            'domains.coding: no expert has this domain, only "general"',
        ),
        (
            {**expert(), "domains": {"general": {"examples": ["x", " "]}}},
            "domains.general.examples[1]: got blank text, need a question",
        ),
        (
            {**expert(), "domains": {"general": {"exmaples": ["x"]}}},
            "domains.general.examples: missing, need a value",
        ),
        (
            {**expert(), "lazy_loading": {"max_loaded_experts": 2}},
            "lazy_loading.max_loaded_experts: got 2, need <= the number of experts, which is 1",
        ),
        (
            {**expert(), "lazy_loading": {"warmup_pool_size": 3}},
            "lazy_loading.warmup_pool_size: got 3, need <= max_loaded_experts, which is 2",
        ),
        (
            {**expert(), "rag": {"bridge_url": "ftp://h"}},
            'rag.bridge_url: got "ftp://h", need a URL such as http://127.0.0.1:8001',
        ),
        ({**expert(), "server": {"port": 65536}}, "server.port: got 65536, need <= 65535"),
        ({**expert(), "serber": {}}, 'serber: unknown key, did you mean "server"?'),
        (
            {**expert(), "speculation": {"mode": "on"}},
            'speculation.mode: got "on", need one of "off", "prefill" or "draft"',
        ),
    ],
)
def test_load_settings_wrong_value_is_named(tmp_path: Path, value: object, line: str) -> None:
    assert problems(tmp_path, value)[0].startswith(line)


def test_load_settings_several_problems_give_one_line_each(tmp_path: Path) -> None:
    value = {
        "server": {"port": -1},
        "experts": [{**LOCAL, "dtype": "x"}, {**LOCAL, "dtype": "bfloat16", "quantization": "awq"}],
    }
    assert [line.partition(":")[0] for line in problems(tmp_path, value)] == [
        "server.port",
        "experts[0].dtype",
        "experts[1].dtype",
    ]


@pytest.mark.parametrize("dtype", ["auto", "float16", "half"])
def test_expert_awq_with_float16_is_accepted(tmp_path: Path, dtype: str) -> None:
    assert load(tmp_path, expert(quantization="awq", dtype=dtype)).experts[0].dtype == dtype


def test_load_settings_secrets_are_never_shown(tmp_path: Path) -> None:
    secret = "sk-very-secret"
    wrong: list[dict[str, object]] = [
        {"api_keys": secret},
        {"api_keys": [[secret]]},
        {"api_keys": {"a": secret}},
        {"api_key": secret},
    ]
    for server in wrong:
        assert secret not in "\n".join(problems(tmp_path, {**expert(), "server": server}))
    url = {**expert(), "rag": {"bridge_url": f"http://user:{secret}@h"}}
    assert problems(tmp_path, url) == [
        "rag.bridge_url: got a URL with credentials, need one without"
    ]


def test_describe_masks_secrets_and_shows_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, {**expert(), "server": {"api_keys": ["sk-very-secret"]}})
    shown = json.loads(describe(settings))
    assert settings.server.api_keys == (SecretStr("sk-very-secret"),)
    assert shown["server"]["api_keys"] == ["**********"]
    assert shown["server"]["max_sessions"] == 1024
    assert "sk-very-secret" not in repr(settings)


def test_describe_without_secrets_is_a_file_that_means_the_same(tmp_path: Path) -> None:
    engines = [{**LOCAL, "expert_id": f"e{index}"} for index in range(2)]
    for experts in ([REMOTE], [LOCAL], [REMOTE, *engines]):
        shown = describe(load(tmp_path, {"experts": experts, "rag": {"corpus": "docs"}}))
        assert describe(load(tmp_path, json.loads(shown))) == shown


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load(tmp_path, expert())
    with pytest.raises(ValidationError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]


def test_load_settings_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    value = {**expert(model_path="./m", engine_log="log.txt"), "rag": {"corpus": "docs"}}
    settings = load(tmp_path, value)
    assert settings.experts[0].model_path == str(tmp_path / "m")
    assert settings.experts[0].engine_log == tmp_path / "log.txt"
    assert settings.rag.corpus == tmp_path / "docs"


def test_load_settings_hub_name_is_not_a_path(tmp_path: Path) -> None:
    settings = load(tmp_path, expert(model_path="org/name-7b"))
    assert settings.experts[0].model_path == "org/name-7b"


def test_to_spec_every_field_reaches_the_factory() -> None:
    values: dict[str, Any] = {
        "expert_id": "a",
        "domain": "d",
        "model_path": "m",
        "priority": 3,
        "quantization": "fp8",
        "dtype": "float16",
        "gpu_memory_utilization": 0.5,
        "max_num_seqs": 4,
        "max_model_len": 512,
        "enable_neon": True,
        "neon_optimizations": {"q4_linear": False},
        "kv_cache_gib": 0.25,
        "block_size": 64,
        "max_num_batched_tokens": 128,
        "cpu_cores": "0-1",
        "enforce_eager": False,
        "verify_drafts": False,
        "max_tokens_default": 7,
        "images": True,
        "engine_log": "e.log",
        "start_timeout_s": 9.0,
        "timeout_s": 8.0,
    }
    assert ExpertConfig(**values).to_spec() == ExpertSpec(**values)
    routing_alone = {"cost", "languages"}
    assert set(ExpertConfig.model_fields) - routing_alone == set(ExpertSpec.__dataclass_fields__)


def test_to_spec_defaults_are_those_of_the_factory() -> None:
    config = ExpertConfig(expert_id="a", model_path="m")
    assert config.to_spec() == ExpertSpec("a", model_path="m")


def test_to_spec_zoo_name_becomes_a_folder() -> None:
    path = ExpertConfig(expert_id="a", model_path="zoo:technical").to_spec().model_path
    assert path is not None
    assert Path(path).parts[-3:] == ("zoo", "models", "technical")


def test_to_spec_package_becomes_the_folder_of_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEMIND_MODELS", "/models")
    config = ExpertConfig(expert_id="a", model_path="package:Some_Model==1.0")
    assert config.to_spec().model_path == "/models/some-model-1.0"


def test_default_expert_not_given_is_the_first_of_highest_priority() -> None:
    experts = tuple(
        ExpertConfig(expert_id=name, model_path="m", priority=priority)
        for name, priority in (("low", 1), ("high", 5), ("later", 5))
    )
    assert Settings(experts=experts).default_expert == "high"


def test_settings_built_in_python_are_checked_too() -> None:
    with pytest.raises(ValidationError, match=r"domains\.x: no expert has this domain"):
        Settings(
            experts=(ExpertConfig(expert_id="a", model_path="m"),),
            domains={"x": DomainConfig(examples=("y",))},
        )


def test_check_config_prints_every_problem_and_fails(tmp_path: Path) -> None:
    file, screen = tmp_path / "x.json", io.StringIO()
    file.write_text(json.dumps({**expert(dtype="[red]x"), "a": 1}), encoding="utf-8")
    assert check_config(file, Console(file=screen, width=40)) == 1
    first, second = screen.getvalue().splitlines()
    assert first.startswith(f'✗ {file}: experts[0].dtype: got "[red]x", need one of')
    assert second.startswith(f"✗ {file}: a: unknown key")


def test_check_config_valid_file_lists_the_experts(tmp_path: Path) -> None:
    file, screen = tmp_path / "x.json", io.StringIO()
    file.write_text(json.dumps(expert()), encoding="utf-8")
    assert check_config(file, Console(file=screen, width=400)) == 0
    assert screen.getvalue() == f"✓ {file}: a\n"


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the settings models, found as subclasses of the common base."""
    for child in model.__subclasses__():
        yield child
        yield from sections(child)


def test_settings_every_key_has_a_description_and_numbers_have_bounds() -> None:
    from livemind.orchestrator.config.experts import Section

    for model in sections(Section):
        for name, info in model.model_fields.items():
            where = f"{model.__name__}.{name}"
            assert info.description, where
            numeric = info.annotation in (int, float, int | None, float | None)
            bounds = [item for item in info.metadata if hasattr(item, "ge") or hasattr(item, "gt")]
            assert not numeric or bounds, where


@pytest.mark.parametrize(
    ("fast_domain", "routed"),
    [("all", ["b", "c"]), ("coding", ["b", "c"]), ("general", ["a", "b", "c"])],
    ids=["nobody's specialist", "another's domain", "its own"],
)
def test_fast_expert_is_routed_to_if_it_has_a_domain_of_its_own(
    fast_domain: str, routed: list[str]
) -> None:
    domains = {"a": fast_domain, "b": "coding", "c": "multilingual_expert"}
    experts = [
        {"expert_id": name, "model_path": "zoo:fast", "domain": domain}
        for name, domain in domains.items()
    ]
    settings = Settings.model_validate({"experts": experts, "router": {"fast_expert": "a"}})
    assert [expert.expert_id for expert in settings.routed_experts] == routed
    assert settings.experts[2].domain == "multilingual"


def test_fast_expert_alone_is_routed_to() -> None:
    expert = {"expert_id": "a", "model_path": "zoo:fast", "domain": "all"}
    settings = Settings.model_validate({"experts": [expert], "router": {"fast_expert": "a"}})
    assert settings.routed_experts == settings.experts


def test_domains_are_described_by_their_names_of_the_original_system_too() -> None:
    expert = {"expert_id": "a", "model_path": "zoo:fast", "domain": "multilingual"}
    domains = {"multilingual_expert": {"examples": ["Wie spät ist es?"]}}
    settings = Settings.model_validate({"experts": [expert], "domains": domains})
    assert list(settings.described_domains) == ["multilingual"]
