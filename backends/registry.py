"""Makes the expert a spec asks for; the heavy modules are imported only when their kind is used."""

from __future__ import annotations

import sys

from .base import Expert
from .spec import ExpertSpec


def create_expert(spec: ExpertSpec) -> Expert:
    """Return the expert for ``spec``, not started.

    Raises:
        ValueError: ``spec.kind`` is unknown. A setting that the engine cannot obey shows at
            ``start``, as ExpertUnavailable.
    """
    match spec.kind:
        case "vllm":
            from .vllm.expert import VllmExpert

            return VllmExpert(spec)
        case "remote":
            from .remote.expert import RemoteExpert

            return RemoteExpert(spec)
        case _:
            raise ValueError(f"expert {spec.expert_id!r}: unknown kind {spec.kind!r}")


def release() -> None:
    """End what the experts of this process share; what running ones still need is kept."""
    module = sys.modules.get(f"{__package__}.vllm.process")
    if module is not None:
        module.stop_fork_server()
