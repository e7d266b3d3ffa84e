"""The names of all kernels; each exists in ``reference`` and in the compiled module."""

KERNELS = (
    "apply_penalties",
    "attention",
    "cosine_top_k",
    "encoder_layer",
    "entropy",
    "filter_logits",
    "fp8_decode",
    "fp8_encode",
    "fused_add_rms_norm",
    "js_divergence",
    "kl_divergence",
    "log_softmax",
    "matmul",
    "pairwise_cosine",
    "q4_linear",
    "quantize_rows",
    "rms_norm",
    "rope",
    "softmax",
    "swiglu",
)
