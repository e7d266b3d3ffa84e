"""Which of vLLM's operators are replaced: their names, the environment variable, an expert's keys.

Pure: imports no vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping

VARIABLE = "LIVEMIND_VLLM_KERNELS"
"""Empty or ``on``: all operators; ``off``: none; else names, separated by commas."""

PACKING = {"q4": 4, "q8": 8}
"""Quantization methods of ours, which pack dense weights at load → bits of a linear layer's."""

OPERATORS = (
    "sampling",
    "penalties",
    "q4_linear",
    "rms_norm",
    "fused_add_rms_norm",
    "decoder_layer",
)
"""sampling: top-k, top-p and min-p; q4_linear: layers with AWQ or GPTQ weights of 4 bits;
decoder_layer: layers of Llama's kind whose weights are packed at load."""

EAGER_ONLY = frozenset({"rms_norm", "fused_add_rms_norm", "decoder_layer"})
"""A compiled graph fuses these with their neighbours."""

STAYS_WITH_VLLM = {
    **dict.fromkeys(
        ("attention", "flash_attention", "gemm", "matmul", "rope", "softmax", "swiglu"),
        "stays with vLLM (docs/kernels.md says why)",
    ),
    **dict.fromkeys(("fp8", "fp8_kv", "fp8_kv_cache"), "is vLLM's own: set kv_cache_dtype to fp8"),
}
"""Kernels that are not put into vLLM, and why."""


def chosen(text: str) -> tuple[str, ...]:
    """Return the operators that a value of ``LIVEMIND_VLLM_KERNELS`` asks for.

    Raises:
        ValueError: it names something else.
    """
    text = text.strip().lower()
    if text in ("", "on"):
        return OPERATORS
    if text == "off":
        return ()
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in OPERATORS:
            raise ValueError(f'{VARIABLE}: got "{name}", need on, off or some of {_listed()}')
    return tuple(name for name in OPERATORS if name in names)


def environment(enabled: bool, optimizations: Mapping[str, object]) -> dict[str, str]:
    """Return what an engine's environment needs for an expert's choice.

    Args:
        enabled: ``enable_neon``.
        optimizations: ``neon_optimizations``; an operator that it does not name is on. Empty:
            the variable that the engine inherits decides.
    """
    if not enabled:
        return {VARIABLE: "off"}
    if not optimizations:
        return {}
    names = [name for name in OPERATORS if optimizations.get(name, True)]
    return {VARIABLE: ",".join(names) or "off"}


def refusal(name: str, wanted: bool, *, eager: bool) -> str | None:
    """Return why an entry of ``neon_optimizations`` cannot be obeyed, None if it can be."""
    if name in OPERATORS:
        if wanted and not eager and name in EAGER_ONLY:
            return "got true, needs enforce_eager: a compiled graph fuses it with its neighbours"
        return None
    reason = STAYS_WITH_VLLM.get(name)
    if reason is None:
        return f"unknown, need one of {_listed()}"
    return f"got true, but it {reason}" if wanted else None


def _listed() -> str:
    return ", ".join(OPERATORS)
