"""The configuration of one expert, and the checks that look at one expert alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ...backends.packages import PACKAGE_PREFIX, parse_package
from ...backends.remote.routers import HEADER_NAME, RESERVED_HEADERS
from ...backends.spec import ExpertSpec, RouterName, ToolStrictLevel
from ...backends.zoo import catalog
from ...kernels.vllm_plugin import operator_selection
from ..routing.domains import domain_name
from .problems import Problem, got, raise_problems

ROUTED_MODEL = "auto"
ZOO_PREFIX = "zoo:"
_IS_PATH = re.compile(r"^(\.{1,2}|~)?/|^\.{1,2}$")
_URL = re.compile(r"^https?://[^/\s?#@]+(/[^\s?#]*)?$")
_HOST = re.compile(r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$", re.IGNORECASE)
_FLOAT16_ONLY = ("awq", "gptq")
_FLOAT16_NAMES = ("auto", "float16", "half")
# What only one kind of expert has; the other kind refuses it rather than ignore it.
REMOTE_KEYS = (
    "base_urls",
    "model",
    "api_key_env",
    "router",
    "send_priorities",
    "session_headers",
    "token_headers",
)
_ENGINE_KEYS = (
    "model_path",
    "quantization",
    "dtype",
    "gpu_memory_utilization",
    "enable_neon",
    "neon_optimizations",
    "kv_cache_gib",
    "kv_cache_dtype",
    "kv_cache_fallback",
    "block_size",
    "max_num_batched_tokens",
    "cpu_cores",
    "enforce_eager",
    "prompt_lookup",
    "engine_log",
    "start_timeout_s",
    "tool_parser",
    "reasoning_parser",
    "tool_strict_level",
    "json_whitespace",
)


class Section(BaseModel):
    """Base of every part of the configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


def url_problem(key: str, value: str) -> Problem | None:
    """Return what is wrong with an HTTP base URL, None if nothing is."""
    if "@" in value:
        return Problem((key,), "got a URL with credentials, need one without")
    if not _URL.match(value):
        return got(key, value, "a URL such as http://127.0.0.1:8001")
    return None


def is_host_entry(value: str) -> bool:
    """Whether this is a host name in ASCII, ``*.NAME``, an address or a network."""
    try:
        ip_network(value, strict=False)
    except ValueError:
        return _HOST.match(value) is not None
    return True


def header_name(value: str) -> str:
    """Return the name of a header that says what belongs together.

    Raises:
        ValueError: it is no name of a header, or one that says something else.
    """
    if not HEADER_NAME.fullmatch(value) or RESERVED_HEADERS.fullmatch(value):
        raise ValueError(f"got {value!r}, need the name of a header of its own, as X-Session-Id")
    return value


HeaderName = Annotated[str, AfterValidator(header_name)]


def from_folder(value: Path, info: ValidationInfo) -> Path:
    """Resolve a path against the folder of the configuration file, if it came from a file."""
    folder = (info.context or {}).get("folder")
    value = value.expanduser()
    return value if folder is None else folder / value


class ExpertConfig(Section):
    """One expert: a model that runs here (``vllm``) or an OpenAI-compatible server (``remote``)."""

    expert_id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$",
        description="Unique name; also the model name that users ask for.",
    )
    kind: Literal["vllm", "remote"] = Field(
        "vllm", description="vllm: an engine of this machine; remote: a server reached by HTTP."
    )
    model_path: str | None = Field(
        None,
        min_length=1,
        description="A folder (./x is relative to this file), package:NAME==VERSION (imported by "
        "`livemind serve` or `livemind models import`), zoo:NAME (an embedded expert), or the name "
        "of a model hub.",
    )
    domain: Annotated[str, AfterValidator(domain_name)] = Field(
        "general",
        min_length=1,
        max_length=64,
        description="What the router sends here: general, technical, coding, multilingual, "
        "multimodal (with or without _expert behind it), all (everything, for a fast expert), or a "
        "name of your own that `domains` describes.",
    )
    languages: tuple[Annotated[str, Field(pattern="^[a-z]{2,3}$")], ...] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="ISO 639-1 codes that it reads: text that is surely in another language goes "
        "to an expert that reads it; null: router.languages, for multilingual any.",
    )
    priority: int = Field(
        0, ge=-1000, le=1000, description="Among experts of one domain the highest is preferred."
    )
    cost: float = Field(
        1.0, ge=0, le=1_000_000, description="Relative price; of equal experts the cheapest wins."
    )
    images: bool = Field(False, description="The model takes images.")
    tool_parser: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_.-]*$",
        description="vLLM's parser of the model's tool calls (hermes, mistral, llama3_json, …), or "
        "none; null: told from the chat template.",
    )
    reasoning_parser: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_.-]*$",
        description="vLLM's parser of what the model thinks before it answers (qwen3, deepseek_v3, "
        "…); null or none: thoughts are part of the answer.",
    )
    tool_strict_level: ToolStrictLevel = Field(
        "auto",
        description="How far calls of tools are held to a grammar, as vLLM has it. auto: the call "
        "where one is forced, its arguments where the tool is strict; function: the call always; "
        "parameter: every tool is strict. A small model needs the last.",
    )
    json_whitespace: int | None = Field(
        None,
        ge=1,
        le=1_000,
        description="Most white spaces in a row of JSON that is asked for; null: any number, as "
        "vLLM has it. A small model may write blanks until its limit.",
    )
    quantization: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="vLLM's quantization method; q4 or q8: dense weights are packed to 4 or 8 bits "
        "when they are loaded, on a CPU; auto: q8 where that was measured to be worth it "
        "(docs/experts.md).",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32", "half", "float"] = Field(
        "auto",
        description="Number format of weights and activations; auto: the fastest on this processor "
        "that the model allows and the memory holds (docs/experts.md).",
    )
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="Share of a GPU's memory the engine may take."
    )
    max_num_seqs: int = Field(16, ge=1, le=4096, description="Requests that run at the same time.")
    max_model_len: int | None = Field(
        None, ge=16, le=10_000_000, description="Context limit, tokens; null: the model's own."
    )
    enable_neon: bool = Field(
        True, description="Let the kernels replace operators of a CPU engine (docs/kernels.md)."
    )
    neon_optimizations: dict[str, bool] = Field(
        default_factory=dict,
        description="Which operators, each on or off, the others on: "
        + ", ".join(operator_selection.OPERATORS)
        + ". None given: LIVEMIND_VLLM_KERNELS decides.",
    )
    kv_cache_gib: float = Field(
        0.5, gt=0, le=4096, description="KV cache of a CPU engine, GiB; a GPU engine uses a share."
    )
    kv_cache_dtype: Literal["auto", "fp8", "fp8_e4m3", "fp8_e5m2"] = Field(
        "auto", description="Number format of the KV cache; auto: the model's, fp8: half of it."
    )
    kv_cache_fallback: bool = Field(
        True,
        description="Start with a KV cache in the model's format where the processor cannot have "
        "the one asked for; false: refuse to start.",
    )
    block_size: Literal[16, 32, 64, 128] = Field(
        32, description="Tokens per KV block; only full blocks of a prefix are reused."
    )
    max_num_batched_tokens: int | None = Field(
        None, ge=16, le=10_000_000, description="Most tokens of one engine step; null: vLLM's own."
    )
    cpu_cores: str | None = Field(
        None,
        pattern=r"^\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*$",
        description="Cores of the engine's threads, as 0-3 or 0,2; null: unbound.",
    )
    enforce_eager: bool = Field(True, description="Run without compiling the model first.")
    engine_log: Path | None = Field(None, description="File for the engine's log; null: none.")
    base_urls: tuple[str, ...] = Field(
        (), max_length=256, description="Remote servers of this model, without /v1."
    )
    model: str | None = Field(None, min_length=1, description="Model name the servers know.")
    api_key_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable that holds the servers' API key.",
    )
    router: RouterName | None = Field(
        None,
        description="What stands at the base URLs in front of engines; its headers keep a "
        "conversation on one engine. null: none of these; X-Session-Id is sent.",
    )
    session_headers: tuple[HeaderName, ...] | None = Field(
        None,
        max_length=8,
        description="Request headers with the conversation's key; null: as router has them.",
    )
    token_headers: tuple[HeaderName, ...] | None = Field(
        None,
        max_length=8,
        description="Headers of an answer that go back with the conversation's next request; "
        "null: as router has them.",
    )
    send_priorities: bool = Field(
        False,
        description="Tell the server which requests are computed ahead, so that answers go first "
        "in its queue; it needs vLLM's --scheduling-policy priority.",
    )
    verify_drafts: bool | None = Field(
        None,
        description="Verify drafted answers several tokens per step; null: a vllm expert does, a "
        "remote one does not (its server must be started for it).",
    )
    prompt_lookup: bool = Field(
        True,
        description="Where drafts are verified: an answer that brings none is drafted from its own "
        "prompt where it quotes it. Not with a seed or log-probabilities.",
    )
    max_tokens_default: int = Field(
        512, ge=1, le=1_000_000, description="Answer length if a request names none, tokens."
    )
    start_timeout_s: float = Field(180, gt=0, le=7200, description="Longest start, seconds.")
    timeout_s: float = Field(
        120, gt=0, le=7200, description="Longest silence before a token, seconds."
    )

    @field_validator("engine_log")
    @classmethod
    def _resolve_log(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return None if value is None else from_folder(value, info)

    @field_validator("model_path")
    @classmethod
    def _resolve_model(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or value.startswith(ZOO_PREFIX) or not _IS_PATH.match(value):
            return value
        return str(from_folder(Path(value), info))

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems(self._kind_problems())
        raise_problems(self._engine_problems())
        return self

    @staticmethod
    def engine_keys() -> tuple[str, ...]:
        """Return the keys that only an engine of this machine has."""
        return _ENGINE_KEYS

    @property
    def unused_keys(self) -> tuple[str, ...]:
        """The keys that this kind of expert has no use for."""
        return REMOTE_KEYS if self.kind == "vllm" else _ENGINE_KEYS

    def _kind_problems(self) -> Iterator[Problem]:
        if self.kind == "vllm":
            other = "remote"
            yield from self._model_problems()
        else:
            other = "vllm"
            if not self.base_urls:
                yield Problem(("base_urls",), 'missing, need at least one URL for kind "remote"')
            if self.model is None:
                yield Problem(("model",), "missing, need the name the servers know it by")
        for key in self.unused_keys:
            if key in self.model_fields_set:
                yield Problem((key,), f'not used by kind "{self.kind}", only by kind "{other}"')
        for index, url in enumerate(self.base_urls):
            problem = url_problem("base_urls", url)
            if problem is None and url.rstrip("/").endswith("/v1"):
                problem = got("base_urls", url, "the URL without /v1")
            if problem is not None:
                yield Problem(("base_urls", index), problem.text)

    def _model_problems(self) -> Iterator[Problem]:
        path = self.model_path
        if path is None:
            yield Problem(("model_path",), 'missing, need a model for kind "vllm"')
        elif path.startswith(ZOO_PREFIX):
            known = catalog.model_names()
            if path.removeprefix(ZOO_PREFIX) not in known:
                listed = ", ".join(f"{ZOO_PREFIX}{name}" for name in known)
                yield got("model_path", path, f"an embedded expert: {listed}")
        elif path.startswith(PACKAGE_PREFIX):
            try:
                parse_package(path)
            except ValueError:
                yield got("model_path", path, f"{PACKAGE_PREFIX}NAME==VERSION")

    def _engine_problems(self) -> Iterator[Problem]:
        if self.expert_id == ROUTED_MODEL:
            yield Problem(("expert_id",), 'got "auto", which asks for routing; need another name')
        method = self.quantization
        if method in _FLOAT16_ONLY and self.dtype not in _FLOAT16_NAMES:
            yield Problem(
                ("dtype",), f'got "{self.dtype}" with quantization "{method}", which needs float16'
            )
        asked = self.prompt_lookup and "prompt_lookup" in self.model_fields_set
        if asked and self.verify_drafts is False:
            yield got("prompt_lookup", True, "verify_drafts, which is false")
        for part in (self.cpu_cores or "").split(","):
            first, _, last = part.partition("-")
            if last and int(first) > int(last):
                yield got("cpu_cores", self.cpu_cores, f"{last}-{first}, the lower core first")
        step = self.max_num_batched_tokens
        if step is not None and step < self.max_num_seqs:
            need = f">= max_num_seqs, which is {self.max_num_seqs}"
            yield got("max_num_batched_tokens", step, need)
        limit = self.max_model_len
        answer = self.max_tokens_default if "max_tokens_default" in self.model_fields_set else 0
        if limit is not None and answer >= limit:
            yield got("max_tokens_default", answer, f"< max_model_len, which is {limit}")
        if self.neon_optimizations and not self.enable_neon:
            yield Problem(("neon_optimizations",), "not used unless enable_neon is true")
        for name, wanted in self.neon_optimizations.items():
            reason = operator_selection.refusal(name, wanted, eager=self.enforce_eager)
            if reason is not None:
                yield Problem(("neon_optimizations", name), reason)

    def to_spec(self) -> ExpertSpec:
        """Return the settings as the expert factory takes them, embedded models as folders."""
        values = self.model_dump(exclude={"cost", "languages"})  # of interest to the router alone
        if self.engine_log is not None:
            values["engine_log"] = str(self.engine_log)
        if self.model_path is not None and self.model_path.startswith(ZOO_PREFIX):
            name = self.model_path.removeprefix(ZOO_PREFIX)
            values["model_path"] = str(catalog.model_path(name))
        elif self.model_path is not None and self.model_path.startswith(PACKAGE_PREFIX):
            values["model_path"] = str(parse_package(self.model_path).folder)
        return ExpertSpec(**values)
