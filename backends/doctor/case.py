"""One expert under examination: its settings and everything that was read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..spec import ExpertSpec
from .engine_tables import EngineTables
from .findings import Finding, Severity
from .model_files import ModelFiles
from .model_shape import ModelShape
from .sizes import STEP_TOKENS, Sizes

# Where the installed vLLM cannot be asked.
_NO_FLOAT16 = {"gemma2", "gemma3", "gemma3_text"}


@dataclass(frozen=True, slots=True)
class Subject:
    """An expert as configured.

    Attributes:
        where: its place in the configuration, ``experts[2]``.
        images: whether it is to take them.
        name: of the model, as the configuration says it; empty = as in ``spec``.
    """

    where: str
    spec: ExpertSpec
    images: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A local expert.

    Attributes:
        name: what the configuration calls the model.
        place: its folder or file, None if it is not on this machine.
        planned: found below the folder of ``--models``, perhaps without weights.
    """

    where: str
    spec: ExpertSpec
    images: bool
    name: str
    place: Path | None
    planned: bool
    files: ModelFiles | None
    shape: ModelShape | None
    sizes: Sizes
    engine: EngineTables | None

    def finding(
        self, severity: Severity, code: str, key: str, value: object, why: str, change: str = ""
    ) -> Finding:
        """Return a finding at a key of this expert; ``change`` names keys as ``{.key}``."""
        text = change.replace("{.", f"{{{self.where}.").replace("{", "").replace("}", "")
        shown = value if isinstance(value, str) else str(value).lower()
        return Finding(severity, code, f"{self.where}.{key}", shown, why, text)

    @property
    def config(self) -> dict[str, object]:
        """The model's config.json, empty if there is none."""
        return dict(self.files.config or {}) if self.files is not None else {}

    @property
    def architecture(self) -> str | None:
        """The first name in ``architectures``."""
        names = self.config.get("architectures")
        return str(names[0]) if isinstance(names, list) and names else None

    @property
    def stored_quantization(self) -> str | None:
        """The method that the weights are quantized with, by config.json."""
        if self.files is not None and self.files.gguf is not None:
            return "gguf"
        described = self.config.get("quantization_config")
        if not isinstance(described, dict):
            return None
        return str(described.get("quant_method", "unnamed")).lower()

    @property
    def refuses_float16(self) -> bool:
        """Whether vLLM runs no model of this type in float16."""
        kinds = set(self.engine.no_float16) if self.engine is not None else set()
        model = self.shape.model_type if self.shape is not None else ""
        return bool({model, str(self.config.get("model_type"))} & (kinds or _NO_FLOAT16))

    @property
    def step_tokens(self) -> int:
        """Most tokens of an engine step."""
        return self.spec.max_num_batched_tokens or STEP_TOKENS

    @property
    def max_model_len(self) -> int | None:
        """The context that the engine will take, tokens."""
        if self.spec.max_model_len is not None:
            return self.spec.max_model_len
        return None if self.shape is None else self.shape.default_model_len

    @property
    def usable_pool(self) -> int | None:
        """The KV cache without the one block that vLLM always holds back, bytes."""
        each = None if self.shape is None else self.shape.kv_bytes_per_token(self._kv_bytes)
        if each is None or self.sizes.kv_pool is None:
            return None
        return max(self.sizes.kv_pool - each * self.spec.block_size, 0)

    @property
    def longest(self) -> int | None:
        """The longest context whose KV cache fits, tokens."""
        pool, block = self.usable_pool, self.spec.block_size
        if self.shape is None or pool is None:
            return None
        return self.shape.longest(pool, self._kv_bytes, self.step_tokens, block)

    def sequence_bytes(self, tokens: int) -> int | None:
        """Return the KV cache of one request of this length, bytes."""
        if self.shape is None:
            return None
        block = self.spec.block_size
        return self.shape.sequence_bytes(tokens, self._kv_bytes, self.step_tokens, block)

    @property
    def sequences(self) -> int | None:
        """How many requests of ``max_model_len`` the KV cache has room for, as vLLM reports it."""
        limit, pool = self.max_model_len, self.sizes.kv_pool
        one = None if limit is None else self.sequence_bytes(limit)
        return None if not one or pool is None else pool // one

    @property
    def _kv_bytes(self) -> int:
        return self.sizes.kv_element_bytes

    @property
    def sees_images(self) -> bool | None:
        """Whether the model takes images; None = its files are not here."""
        if self.files is None or self.files.config is None:
            return None
        keys = ("vision_config", "vision_tower", "visual", "mm_vision_tower")
        return any(self.config.get(key) for key in keys)
