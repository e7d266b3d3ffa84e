"""What drafts need of vLLM's model runner beyond its proposer hook; runs where the model computes.

Owns the changes to one runner object, made once when it has been built, and one repair of vLLM's
sampler on CPUs. Classes stay as they are.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

_NEEDED = ("requests", "input_batch", "effective_drafter_max_model_len", "model_config")


def prepare(runner: Any, most_tokens: int) -> None:
    """Make a model runner fit for drafts that only some requests bring.

    Args:
        runner: vLLM's GPUModelRunner or CPUModelRunner with a proposer of drafts.
        most_tokens: the most that is proposed for one request.

    Raises:
        RuntimeError: it is not a runner that this module understands.
    """
    for name in _NEEDED:
        if not hasattr(runner, name):
            raise RuntimeError(f"drafts: this model runner has no {name}")
    # Near the context limit the runner replaces proposals by guesses of its own: it keeps room for
    # the positions of a draft model, and there is none.
    runner.effective_drafter_max_model_len = 2 * runner.model_config.max_model_len + most_tokens
    _add_processors(runner)
    _sample_plainly_without_drafts(runner)
    if runner.device.type == "cpu":
        _expand_on_cpu()


def _add_processors(runner: Any) -> None:
    """Add what obeys ``min_p`` and ``logit_bias``: vLLM leaves it out beside speculation."""
    from vllm.utils.torch_utils import PIN_MEMORY
    from vllm.v1.sample.logits_processor.builtin import (
        LogitBiasLogitsProcessor,
        MinPLogitsProcessor,
    )

    processors = runner.input_batch.logitsprocs
    present = {type(processor) for processor in processors.all}
    for made in (MinPLogitsProcessor, LogitBiasLogitsProcessor):
        if made not in present:
            processor = made(runner.vllm_config, runner.device, PIN_MEMORY)
            invariant = processor.is_argmax_invariant()
            chosen = processors.argmax_invariant if invariant else processors.non_argmax_invariant
            chosen.append(processor)


def _sample_plainly_without_drafts(runner: Any) -> None:
    """Leave the rejection sampler out of a step in which nothing was drafted.

    With speculation configured the runner sends every step through it; on a CPU that is 0.3 ms of a
    step. A runner with other methods is left alone: this only saves time.
    """
    import torch
    from vllm.v1.spec_decode.metadata import SpecDecodeMetadata

    sample: Any = getattr(runner, "_sample", None)
    describe: Any = getattr(runner, "_calc_spec_decode_metadata", None)
    if _parameters(sample) != ["logits", "spec_decode_metadata"]:
        return
    if _parameters(describe) != ["num_draft_tokens", "cu_num_scheduled_tokens"]:
        return
    nothing = torch.empty(0, dtype=torch.int32, device=runner.device)
    rows = torch.arange(runner.max_num_reqs + 1, dtype=torch.int32, device=runner.device)
    zeros = torch.zeros_like(rows)

    def sample_plainly(logits: Any, spec_decode_metadata: Any) -> Any:
        drafted = spec_decode_metadata is not None and spec_decode_metadata.max_spec_len > 0
        return sample(logits, spec_decode_metadata if drafted else None)

    def describe_plainly(num_draft_tokens: Any, cu_num_scheduled_tokens: Any) -> Any:
        if num_draft_tokens.any():
            return describe(num_draft_tokens, cu_num_scheduled_tokens)
        count = len(num_draft_tokens)
        last = torch.from_numpy(cu_num_scheduled_tokens - 1)
        return SpecDecodeMetadata(
            draft_token_ids=nothing,
            num_draft_tokens=[0] * count,
            cu_num_draft_tokens=zeros[:count],
            cu_num_sampled_tokens=rows[1 : count + 1],
            target_logits_indices=nothing,
            bonus_logits_indices=rows[:count],
            logits_indices=last.to(runner.device, non_blocking=True),
        )

    runner._sample = sample_plainly
    runner._calc_spec_decode_metadata = describe_plainly


def _expand_on_cpu() -> None:
    """Give the rejection sampler each request's own temperature, top-k and top-p.

    vLLM 0.32's CPU version of the function writes into an integer copy of its result and returns
    memory that nobody has set: drafted positions are then sampled at an arbitrary temperature.
    """
    import torch
    from vllm.v1.sample import rejection_sampler

    def expand_batch_to_tokens(
        x: Any, cu_num_tokens: Any, num_tokens: int, replace_from: int = 0, replace_to: int = 0
    ) -> Any:
        counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
        expanded = x.repeat_interleave(counts, output_size=num_tokens)
        return expanded.masked_fill_(expanded == replace_from, replace_to)

    rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens


def _parameters(method: Any) -> list[str]:
    return list(signature(method).parameters) if callable(method) else []
