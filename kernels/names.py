"""The names of all kernels; each exists in ``reference.py`` and in the compiled module."""

KERNELS = (
    "apply_penalties",
    "cosine_top_k",
    "entropy",
    "filter_logits",
    "fused_add_rms_norm",
    "js_divergence",
    "kl_divergence",
    "log_softmax",
    "pairwise_cosine",
    "q4_linear",
    "quantize_rows",
    "rms_norm",
    "rope",
    "softmax",
    "swiglu",
)
