"""Which sampling parameters of two requests differ, and what of a draft that leaves valid. Pure."""

from __future__ import annotations

from msgspec.structs import asdict

from ...backends.base import GenerationParams


def differing(a: GenerationParams, b: GenerationParams) -> tuple[str, ...]:
    """Return the names of the parameters that differ, in their order; a prediction is none."""
    others = asdict(b)
    return tuple(
        name for name, value in asdict(a).items() if name != "prediction" and value != others[name]
    )
