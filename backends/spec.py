"""What an expert is made from: the settings of one ``experts[]`` entry, without pydantic.

Owns the values and their defaults. Reads no file, checks no combination an engine would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ExpertKind = Literal["vllm", "remote"]
ToolStrictLevel = Literal["auto", "function", "parameter"]
RouterName = Literal[
    "ray-serve-llm", "vllm-production-stack", "llm-d", "dynamo", "aibrix", "sglang"
]
"""Routers whose headers are known; see ``remote/routers.py``."""


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """Settings of one expert; the orchestrator builds it from its configuration.

    Attributes:
        expert_id: unique name, also the model name users ask for.
        domain: what the router sends here.
        kind: ``vllm`` runs in this process group, ``remote`` is an OpenAI-compatible server.
        model_path: folder or hub name of the weights (``vllm`` only); ``zoo:NAME`` = embedded.
        priority: the operator's ranking between experts; used by the router, not by the engine.
        quantization, dtype, kv_cache_dtype: vLLM's arguments of the same name; None = its own
            default. ``auto`` of the first two: ``doctor/number_formats.py`` chooses.
            ``quantization`` ``q4``, ``q8``: ours, dense weights are packed when they are loaded.
        max_model_len, max_num_seqs, max_num_batched_tokens: likewise, tokens and requests.
        enforce_eager, block_size, gpu_memory_utilization: likewise.
        kv_cache_fallback: start with a KV cache in the model's format where the processor cannot
            have the 8-bit one that was asked for.
        kv_cache_gib: KV cache size of a CPU engine, GiB; unused where the share of a GPU's memory
            (``gpu_memory_utilization``) decides.
        cpu_cores: cores the engine's threads are bound to, as ``0-3`` or ``0,2``; None = unbound.
        enable_neon, neon_optimizations: whether, and which of, our kernels replace operators of the
            engine; `kernels/vllm_plugin/operator_selection.py` has their names.
        engine_log: file for the engine's own log; None = no log.
        base_urls, model, api_key_env: a remote expert's servers (without ``/v1``), the model name
            they serve, and the environment variable that holds the key.
        router: what stands at the base URLs in front of engines; None = nothing that is known.
        session_headers, token_headers: headers that carry the conversation's key, and those of
            answers that are sent back with the next request; None = as ``router`` has them.
        send_priorities: a server is told which requests may wait for others; one without
            ``--scheduling-policy priority`` refuses them.
        verify_drafts: drafts are verified several tokens per step; None: by a vLLM of this machine,
            not by a server. A server must have been started for it.
        prompt_lookup: with it, an answer without a draft is drafted from its own prompt.
        images: the model takes images.
        tool_parser, reasoning_parser: vLLM's parsers of tool calls and thoughts, ``none``; None =
            told from the chat template, and no thoughts.
        tool_strict_level: how far calls of tools are held to a grammar, in vLLM's names.
        json_whitespace: most white spaces in a row of JSON that a grammar asks for; None = any.
        max_tokens_default: answer length when a request names none.
        start_timeout_s: longest time a start may take.
        timeout_s: longest silence of a request: time to the first token, and between two.
    """

    expert_id: str
    domain: str = "general"
    kind: ExpertKind = "vllm"
    model_path: str | None = None
    priority: int = 0
    quantization: str | None = None
    dtype: str = "auto"
    gpu_memory_utilization: float | None = None
    max_num_seqs: int = 16
    max_model_len: int | None = None
    enable_neon: bool = True
    neon_optimizations: Mapping[str, object] = field(default_factory=dict)
    base_urls: tuple[str, ...] = ()
    model: str | None = None
    api_key_env: str | None = None
    router: RouterName | None = None
    session_headers: tuple[str, ...] | None = None
    token_headers: tuple[str, ...] | None = None
    kv_cache_gib: float = 0.5
    kv_cache_dtype: str = "auto"
    kv_cache_fallback: bool = True
    block_size: int = 32
    max_num_batched_tokens: int | None = None
    cpu_cores: str | None = None
    enforce_eager: bool = True
    send_priorities: bool = False
    verify_drafts: bool | None = None
    prompt_lookup: bool = True
    images: bool = False
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    tool_strict_level: ToolStrictLevel = "auto"
    json_whitespace: int | None = None
    max_tokens_default: int = 512
    engine_log: str | None = None
    start_timeout_s: float = 180.0
    timeout_s: float = 120.0
