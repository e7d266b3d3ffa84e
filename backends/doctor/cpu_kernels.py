"""What vLLM 0.32's kernels for CPUs can do with a family of models, from its config.json.

Found by starting a tiny model of each family (``make test-families``); the engine is given what
stands here, and asked after its start whether that is so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..machine.processor import X86, Processor
from .model_shape import text_config

MLA_LATENT: Final = 576
"""Numbers cached of a token by MLA: the one size that its decode kernel is compiled for."""
_STATE_LAYERS: Final = ("mamba", "linear_attention", "conv", "recurrent")
_EXPERT_KEYS: Final = ("num_local_experts", "num_experts", "n_routed_experts")
_STATE_KEYS: Final = ("state_size", "mamba_d_state", "hybrid_override_pattern", "ssm_cfg")


@dataclass(frozen=True, slots=True)
class CpuKernels:
    """What is to be had with one model.

    Attributes:
        prefix_caching: a prompt that begins like an earlier one is computed from there on.
        drafts: several tokens a step give what one a step gives.
        together: requests that are computed in one step get the answers that they get alone.
        formats: number formats that it is computed in; empty = in all.
        refusal: why it cannot be run at all; empty where it can.
        name: of what it is that limits it; empty where nothing does.
    """

    prefix_caching: bool = True
    drafts: bool = True
    together: bool = True
    formats: tuple[str, ...] = ()
    refusal: str = ""
    name: str = ""

    def refuses(self, dtype: str) -> str:
        """Return why it is not computed in this format; empty where it is."""
        if not self.formats or dtype in self.formats:
            return ""
        return f"vLLM computes {self.name} in {' or '.join(self.formats)} alone on this CPU"


def cpu_kernels(
    config: Mapping[str, Any], has_state: bool | None = None, processor: Processor | None = None
) -> CpuKernels:
    """Return what vLLM can do with the model on a CPU.

    Args:
        config: its config.json.
        has_state: whether layers keep a state instead of keys and values; None = told by the file.
        processor: which, None = any.
    """
    text = text_config(config)
    if text.get("linear_num_value_heads"):
        # A draft is taken back by Triton kernels; without one the states at the ends of blocks are
        # kept.
        return CpuKernels(drafts=False, formats=("bfloat16",), name="gated delta layers")
    if _has_state(text) if has_state is None else has_state:
        # Their states are copied by Triton kernels, and a draft's are not taken back.
        return CpuKernels(prefix_caching=False, drafts=False, name="state layers")
    if text.get("kv_lora_rank"):
        latent = int(text["kv_lora_rank"]) + int(text.get("qk_rope_head_dim") or 0)
        refusal = ""
        if latent != MLA_LATENT:
            refusal = f"MLA with {latent} cached numbers a token: its kernel has {MLA_LATENT} alone"
        # A step over several tokens, of one request or of two, gives other answers than one token
        # a step. Whether prefixes are kept is vLLM's own decision: it does with AMX alone.
        # With AMX its attention packs weights that are not float32 (AMX_MLA).
        amx = processor is not None and processor.has("amx_tile")
        formats = ("bfloat16", "float16") if amx else ()
        return CpuKernels(
            drafts=False, together=False, formats=formats, refusal=refusal, name="MLA"
        )
    return CpuKernels()


def _has_state(text: Mapping[str, Any]) -> bool:
    kinds = text.get("layer_types") or text.get("layers_block_type")
    named = [str(kind) for kind in kinds] if isinstance(kinds, list) else []
    named.append(str(text.get("model_type")))
    found = any(word in name for name in named for word in _STATE_LAYERS)
    return found or any(text.get(key) for key in _STATE_KEYS)


def packed_refusal(config: Mapping[str, Any], processor: Processor) -> str:
    """Return why the model's packed weights cannot be computed here; empty where they can.

    The rules of vLLM's kernels for linear layers and experts (``is_supported``,
    ``_supports_current_device``): on x86 these ask for AMX.
    """
    packed = config.get("quantization_config")
    amx = processor.has("amx_tile") or not processor.known or processor.architecture not in X86
    if not isinstance(packed, Mapping) or amx:
        return ""
    method = str(packed.get("quant_method", "")).lower()
    experts = any(text_config(config).get(key) for key in _EXPERT_KEYS)
    if "mxfp4" in method:
        what = "MXFP4"
    elif packed.get("weight_block_size"):
        what = "blocks of 8-bit floats"
    elif experts:
        what = f"experts packed by {method}"
    else:
        return ""
    return f"vLLM computes {what} on processors with AMX alone"
