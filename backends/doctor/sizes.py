"""What a running engine takes: weights, KV cache, and the rest."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import ExpertSpec
from .engine_tables import EngineTables
from .model_files import ModelFiles
from .model_shape import ModelShape, estimated_parameters
from .quantities import GIB

# An EngineCore and a worker with torch loaded and nothing else: 0.94 GB of their own (USS),
# measured with vLLM 0.32 on a CPU. Engines of ours have no worker: more than they need.
PROCESS_BYTES = 1 * GIB
# vLLM's step on a CPU if max_num_batched_tokens is not given (engine/arg_utils.py).
STEP_TOKENS = 2048
_ELEMENT_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_SAME = {"half": "float16", "float": "float32"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one expert; None = not known."""

    dtype: str
    element_bytes: int
    kv_element_bytes: int
    weights: int | None
    weights_estimated: bool
    parameters: int | None
    kv_pool: int | None
    working: int

    @property
    def total(self) -> int | None:
        """Everything, None if the weights are unknown."""
        if self.weights is None or self.kv_pool is None:
            return None
        return self.weights + self.kv_pool + self.working


def effective_dtype(spec: ExpertSpec, config: dict[str, object] | None) -> str:
    """Return the dtype that the engine computes in; ``auto`` is the model's, float32 is halved."""
    if spec.dtype != "auto":
        return _SAME.get(spec.dtype, spec.dtype)
    stored = stored_dtype(config)
    return "bfloat16" if stored in (None, "float32") else str(stored)


def stored_dtype(config: dict[str, object] | None) -> str | None:
    """Return the dtype that config.json names."""
    config = config or {}
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else {}
    for part in (config, inner):
        value = part.get("torch_dtype", part.get("dtype"))
        if isinstance(value, str) and value.removeprefix("torch.") in _ELEMENT_BYTES:
            return value.removeprefix("torch.")
    return None


def measure(
    spec: ExpertSpec,
    files: ModelFiles | None,
    shape: ModelShape | None,
    machine: int,
    engine: EngineTables | None,
) -> Sizes:
    """Return the sizes of an expert on a machine with this much memory."""
    config = None if files is None or files.config is None else dict(files.config)
    dtype = effective_dtype(spec, config)
    each = _ELEMENT_BYTES.get(dtype, 2)
    weights, parameters, estimated = _weights(files, config, each)
    working = PROCESS_BYTES + _activations(spec, shape)
    if spec.gpu_memory_utilization is None:
        pool: int | None = int(spec.kv_cache_gib * GIB)
    else:
        share = int(spec.gpu_memory_utilization * machine)
        pool = None if weights is None else max(share - weights - working, 0)
    cached = 1 if spec.kv_cache_dtype.startswith("fp8") else each
    return Sizes(dtype, each, cached, weights, estimated, parameters, pool, working)


def _weights(
    files: ModelFiles | None, config: dict[str, object] | None, each: int
) -> tuple[int | None, int | None, bool]:
    """Return bytes, parameters, and whether they are an estimate."""
    found = None if files is None else files.weights
    if found is not None and not (found.problems and found.format == "safetensors"):
        packed = any(not name.startswith(("F", "BF")) for name in found.dtypes)
        elements = sum(found.dtypes.values())
        return found.loaded_bytes(each), None if packed or not elements else elements, False
    if config is None or config.get("quantization_config"):
        return None, None, False
    guess = estimated_parameters(config)
    return (None, None, False) if guess is None else (guess * each, guess, True)


def _activations(spec: ExpertSpec, shape: ModelShape | None) -> int:
    """Return about what one step computes in: activations of its tokens, logits of its requests."""
    if shape is None or shape.hidden is None:
        return 0
    tokens = spec.max_num_batched_tokens or STEP_TOKENS
    width = 8 * shape.hidden + 3 * (shape.intermediate or 4 * shape.hidden)
    return 4 * (tokens * width + 2 * spec.max_num_seqs * (shape.vocabulary or 0))
