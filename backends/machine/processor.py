"""The processor of this machine: its name, and the instruction sets that decide what is fast."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
X86 = ("x86_64", "AMD64")
ARM = ("aarch64", "arm64")
# Of the flags in /proc/cpuinfo those that choose kernels here, in vLLM, torch or oneDNN.
TOLD = (
    *("avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)


@dataclass(frozen=True, slots=True)
class Processor:
    """One kind of processor.

    Attributes:
        model: as the system names it; empty = not known.
        architecture: as ``platform.machine()`` says it.
        instruction_sets: those of ``TOLD`` that it has, in that order; empty = not known.
    """

    model: str
    architecture: str
    instruction_sets: tuple[str, ...] = ()

    def has(self, *names: str) -> bool:
        """Whether it has all of these instruction sets."""
        return set(names) <= set(self.instruction_sets)

    @property
    def known(self) -> bool:
        """Whether its instruction sets could be read."""
        return bool(self.instruction_sets)

    @property
    def has_avx512(self) -> bool:
        """Whether vLLM takes it for a processor with AVX-512, as torch does."""
        return self.has("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma")

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether it has instructions for products of bfloat16; else they are emulated."""
        return any(map(self.has, ("avx512_bf16", "amx_bf16", "bf16")))

    @property
    def multiplies_float16(self) -> bool:
        """Whether it has instructions for products of float16 matrices."""
        return any(map(self.has, ("avx512_fp16", "amx_fp16", "asimdhp")))

    def kv_cache_refusal(self, head_dim: int | None) -> str | None:
        """Return why vLLM has no 8-bit KV cache here, None if it has.

        The rules of ``vllm.v1.attention.backends.cpu_attn._get_attn_isa``, vLLM 0.32: AVX-512 or
        AMX, and heads of a multiple of 32. A head size that is not known passes.
        """
        if self.known and not (self.has_avx512 or self.has("amx_tile")):
            return "vLLM has an 8-bit KV cache on processors with AVX-512 or AMX only"
        if head_dim is not None and head_dim % 32:
            return f"vLLM's 8-bit KV cache needs heads of a multiple of 32, these have {head_dim}"
        return None


@cache
def this_processor() -> Processor:
    """Return this machine's processor."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return read_processor(lines, platform.machine())


def read_processor(lines: Iterable[str], architecture: str) -> Processor:
    """Return what ``/proc/cpuinfo`` says of the first core, on x86 and on Arm."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), value.strip())
    flags = set(found.get("flags", found.get("features", "")).split())
    model = found.get("model name") or platform.processor()
    return Processor(model, architecture, tuple(name for name in TOLD if name in flags))
