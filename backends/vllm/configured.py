"""vLLM's configuration of one engine: what was asked for, less what its kernels cannot do."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from ..doctor.cpu_kernels import cpu_kernels
from ..engine_args import engine_args
from ..errors import ExpertUnavailable
from ..machine.processor import this_processor
from ..spec import ExpertSpec
from .drafts import missing_hook

log = logging.getLogger(__name__)


def that_this_vllm_obeys(spec: ExpertSpec) -> ExpertSpec:
    """Return the spec, without the verification of drafts where this vLLM has no hooks for it."""
    if spec.verify_drafts is False:
        return spec
    missing = missing_hook()
    if missing is None:
        return spec
    log.warning("expert %s verifies no drafts: this vLLM lacks %s", spec.expert_id, missing)
    return replace(spec, verify_drafts=False)


def engine_config(spec: ExpertSpec) -> Any:
    """Return a ``VllmConfig``; takes seconds, most of them imports.

    Raises:
        ExpertUnavailable: a setting cannot be obeyed, or the model cannot be run on this device.
        Exception: whatever vLLM raises at a model it cannot read.
    """
    config = _made(engine_args(spec))
    if config.device_config.device_type != "cpu":
        return config
    model = config.model_config
    able = cpu_kernels(model.hf_config.to_dict(), model.has_inner_state, this_processor())
    if able.refusal:
        raise ExpertUnavailable(spec.expert_id, able.refusal)
    if why := able.refuses(str(model.dtype).removeprefix("torch.")):
        raise ExpertUnavailable(spec.expert_id, f"dtype {spec.dtype}: {why}")
    if not able.together:
        spec = replace(spec, max_num_seqs=1)
    if not (able.prefix_caching and able.drafts and able.together):
        less = engine_args(spec, prefix_caching=able.prefix_caching, drafts=able.drafts)
        config = _made(less)
    _compute_in_the_core(config)
    return config


def _made(arguments: dict[str, object]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs

    return AsyncEngineArgs(**arguments).create_engine_config()


def _compute_in_the_core(config: Any) -> None:
    """Let the EngineCore compute instead of a Worker process of its own.

    vLLM's CPU platform insists on a Worker because it binds OpenMP threads when it starts one; the
    launcher has set their number and their cores before that. The Worker would cost its imports at
    each start, their memory, and a core on which the EngineCore spins for its results: of two, that
    takes a token of a small model half as long again.
    """
    config.parallel_config.distributed_executor_backend = "uni"
