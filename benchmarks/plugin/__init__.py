"""``livemind bench vllm-plugin``: engines with our kernels and without."""
