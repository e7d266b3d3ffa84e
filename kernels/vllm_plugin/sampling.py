"""Top-k, top-p and min-p without a sort of the vocabulary."""

from __future__ import annotations

from typing import Any

import torch

from ... import kernels
from .hooks import attribute, falling_back, replace


def install() -> None:
    """Replace what vLLM's samplers and its check of drafts call.

    Raises:
        Different: this vLLM does it in another way.
    """
    from vllm.v1.sample.logits_processor import builtin
    from vllm.v1.sample.ops import topk_topp_sampler

    by_rank = attribute(topk_topp_sampler, "apply_top_k_top_p", ("logits", "k", "p"))
    processor = builtin.MinPLogitsProcessor
    by_best = attribute(processor, "apply", ("self", "logits"))

    @falling_back("sampling", by_rank)
    def apply_top_k_top_p(
        logits: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None
    ) -> torch.Tensor:
        if k is not None or p is not None:
            kernels.filter_logits(logits, top_k=k, top_p=p)
        return logits

    @falling_back("sampling", by_best)
    def apply(self: Any, logits: torch.Tensor) -> torch.Tensor:
        if self.min_p_count:
            kernels.filter_logits(logits, min_p=self.min_p.view(-1))
        return logits

    replace(topk_topp_sampler, "apply_top_k_top_p", apply_top_k_top_p)
    processor.apply = apply
