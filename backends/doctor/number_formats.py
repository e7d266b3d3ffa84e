"""The number formats an engine computes and caches in: what ``auto`` is; what is not to be had.

``dtype: auto`` is the fastest format of this processor that the model allows and the memory holds,
``quantization: auto`` a packing at load where that is worth it; what is explicit is obeyed. For
CPUs: on a GPU vLLM's own choice stands. Reads headers and JSON, and blocks while it does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...kernels.vllm_plugin.operator_selection import PACKING
from ..engine_args import model_location
from ..errors import ExpertUnavailable
from ..machine.memory import machine_memory
from ..machine.processor import Processor, this_processor
from ..machine.speeds import Speeds, known_speeds, measured_speeds
from ..spec import ExpertSpec
from .case import Case
from .cpu_kernels import cpu_kernels
from .engine_tables import EngineTables, installed_engine
from .memory_plan import heaviest
from .model_files import locate, read_sizes
from .model_shape import model_shape
from .sizes import measure, stored_dtype

log = logging.getLogger(__name__)

WORTH = 1.2
"""How many times as fast another format has to be before the stored one is left."""
PACKED_WORTH, PACKED_TURN = 1.5, 1.25
"""How many times as fast packed weights have to make an answer's token, and how much longer they
may take for a whole turn: a live prompt is computed before the turn's clock begins."""
_PACKED_BY_ITSELF = "q8"  # of the packings the one whose answers differ least
_PACKED_MODELS = ("LlamaForCausalLM",)  # whose answers were compared
# What an engine may compute in without losing what the weights hold, by their stored format; vLLM's
# own choice first. Float16 lacks the range of the others.
_CANDIDATES = {
    "bfloat16": ("bfloat16", "float32"),
    "float16": ("float16", "float32", "bfloat16"),
    "float32": ("bfloat16", "float32"),
}


@dataclass(frozen=True, slots=True)
class Host:
    """What computes: this processor, how fast each format is there, and the installed vLLM."""

    processor: Processor
    speeds: Speeds
    engine: EngineTables | None

    @property
    def on_cpu(self) -> bool:
        """Whether engines compute on the processor."""
        return self.engine is not None and self.engine.is_cpu


@dataclass(frozen=True, slots=True)
class Room:
    """The memory that experts share; fields as in ``Question``. 0 bytes: not known, any fits."""

    memory: int
    threshold: float = 0.9
    loaded_at_most: int = 1
    warm: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Formats:
    """What one expert is to be started with.

    Attributes:
        spec: its settings with formats that are to be had; ``dtype`` stays ``auto`` where vLLM
            decides.
        dtype_why: why it is this ``dtype`` and not the stored one; empty where it is that one.
        packing_why: why ``quantization`` became a packing; empty where it was not ``auto``, or none
            is worth it.
        asked_kv_cache: the ``kv_cache_dtype`` that was configured.
        kv_cache_why: why the 8-bit KV cache that was asked for is not to be had; empty where it is.
        refused: without that cache the expert is not to start.
    """

    spec: ExpertSpec
    dtype_why: str = ""
    asked_kv_cache: str = "auto"
    kv_cache_why: str = ""
    refused: bool = False
    packing_why: str = ""


def this_host(*, probe: bool = False) -> Host:
    """Return what computes here; with ``probe`` measured, which takes seconds the first time."""
    processor, engine = this_processor(), installed_engine()
    host = Host(processor, known_speeds(processor), engine)
    return replace(host, speeds=measured_speeds(processor)) if probe and host.on_cpu else host


def fit_alone(spec: ExpertSpec) -> Formats:
    """Return the formats of an expert that has the machine for itself; may measure."""
    host = this_host(probe="auto" in (spec.dtype, spec.quantization))
    return fit_formats([spec], host, Room(machine_memory() or 0))[spec.expert_id]


def tell_formats(formats: Formats) -> None:
    """Log what was chosen instead of what vLLM would have taken, or the operator asked for."""
    name, spec = formats.spec.expert_id, formats.spec
    if formats.dtype_why:
        log.info("expert %s computes in %s: %s", name, spec.dtype, formats.dtype_why)
    if formats.packing_why:
        log.info("expert %s has weights of at most 8 bits: %s", name, formats.packing_why)
    if formats.kv_cache_why and not formats.refused:
        log.warning(
            "expert %s: kv_cache_dtype %s becomes the model's own format: %s",
            name, formats.asked_kv_cache, formats.kv_cache_why,
        )  # fmt: skip


def fit_formats(
    specs: Sequence[ExpertSpec], host: Host, room: Room, models: Path | None = None
) -> dict[str, Formats]:
    """Return the formats of every expert by its id.

    A format wider than the stored one is taken where the KV cache still holds a request of
    ``max_model_len`` and the largest set of experts that may be loaded together fits the memory:
    first for those of ``room.warm``, then in the order of ``specs``.

    Args:
        specs: the experts; remote ones come back as they are.
        host: what computes.
        room: what they share.
        models: folder below which models are looked for by their hub names.
    """
    packable = {spec.expert_id for spec in specs if spec.quantization == "auto"}
    specs = [replace(s, quantization=None) if s.expert_id in packable else s for s in specs]
    found = {spec.expert_id: Formats(spec) for spec in specs}
    if not host.on_cpu:
        return found
    cases: dict[str, Case] = {}
    for spec in specs:
        case = _opened(spec, host, room, models)
        found[spec.expert_id] = formats = _with_kv_cache(spec, case, host.processor)
        if case is not None:
            cases[spec.expert_id] = _measured(case, formats.spec, room)
    sizes = {name: case.sizes.total or 0 for name, case in cases.items()}
    for name in sorted(cases, key=lambda name: name not in room.warm):
        case = cases[name]
        others = case.stored_quantization or case.spec.quantization not in (None, *PACKING)
        if case.spec.dtype == "auto" and not others:
            # Else the engine computes packed weights in the formats that their method has.
            for dtype in _fastest_first(case, host):
                tried = _measured(case, replace(case.spec, dtype=dtype), room)
                together = {**sizes, name: tried.sizes.total or 0}
                if _fits(tried, case, together, room):
                    sizes, why = together, _why(case, dtype, host)
                    found[name] = replace(found[name], spec=tried.spec, dtype_why=why)
                    case = tried
                    break
        if name in packable and not others:
            found[name] = _packed(found[name], case, host.speeds)
    return found


def _packed(formats: Formats, case: Case, speeds: Speeds) -> Formats:
    """Return the formats with weights packed at load where that was measured to be worth it."""
    dtype, packing = case.sizes.dtype, _PACKED_BY_ITSELF
    known = {dtype, packing} <= speeds.decode_ns.keys() and speeds.source == "probe"
    if not known or case.architecture not in _PACKED_MODELS:
        return formats
    decode = speeds.decode_ns[dtype] / speeds.decode_ns[packing]
    prefill = speeds.prefill_ns[dtype] / speeds.prefill_ns[packing]
    if decode < PACKED_WORTH or speeds.times(packing, dtype) > PACKED_TURN:
        return formats
    why = (
        f"the products of a token of an answer are {decode:.1f} times as fast as in {dtype}, those "
        f"of a prompt {prefill:.1f} times (measured)"
    )
    spec = replace(formats.spec, quantization=packing)
    return replace(formats, spec=spec, packing_why=why)


def _opened(spec: ExpertSpec, host: Host, room: Room, models: Path | None) -> Case | None:
    """Return the expert with what its files say; None where there are none to be read."""
    if spec.kind != "vllm":
        return None
    name = spec.model_path or ""
    try:
        place = locate(model_location(spec), models)
        files = None if place is None else read_sizes(place)
        if files is None or files.config is None:
            return None
        shape = model_shape(files.config)
        sizes = measure(spec, files, shape, room.memory, host.engine)
    except (ExpertUnavailable, OSError, ValueError, TypeError, KeyError):
        return None  # so damaged that the engine will say what is wrong
    return Case("", spec, spec.images, name, place, False, files, shape, sizes, host.engine)


def _measured(case: Case, spec: ExpertSpec, room: Room) -> Case:
    sizes = measure(spec, case.files, case.shape, room.memory, case.engine)
    return replace(case, spec=spec, sizes=sizes)


def _with_kv_cache(spec: ExpertSpec, case: Case | None, processor: Processor) -> Formats:
    if spec.kind != "vllm" or not spec.kv_cache_dtype.startswith("fp8"):
        return Formats(spec)
    shape = None if case is None else case.shape
    why = processor.kv_cache_refusal(None if shape is None else shape.head_dim)
    if why is None and case is not None and cpu_kernels(case.config).name == "MLA":
        why = "vLLM's MLA caches in the model's own format alone on a CPU"
    if why is None:
        return Formats(spec)
    if not spec.kv_cache_fallback:
        return Formats(spec, "", spec.kv_cache_dtype, why, refused=True)
    return Formats(replace(spec, kv_cache_dtype="auto"), "", spec.kv_cache_dtype, why)


def _fastest_first(case: Case, host: Host) -> list[str]:
    """Return the formats to try: those that are worth leaving the stored one for, then that one."""
    stored, *others = _candidates(case, host.processor)
    worth = [name for name in others if host.speeds.times(stored, name) >= WORTH]
    return [*sorted(worth, key=lambda name: host.speeds.costs[name]), stored]


def _candidates(case: Case, processor: Processor) -> list[str]:
    able = cpu_kernels(case.config, processor=processor)
    names = _CANDIDATES[stored_dtype(case.config) or "bfloat16"]
    fit = [name for name in names if name != "float16" or not case.refuses_float16]
    return [name for name in fit if not able.refuses(name)] or ["bfloat16"]


def _fits(tried: Case, stored: Case, sizes: Mapping[str, int], room: Room) -> bool:
    """Whether a format may be taken; one that needs no more than the stored one always may."""
    if tried.sizes.element_bytes <= stored.sizes.element_bytes:
        return True
    if tried.sizes.total is None:
        return False
    longest, wanted = tried.longest, tried.max_model_len
    if longest is not None and wanted is not None and longest < wanted:
        return False
    largest = sum(sizes[name] for name in heaviest(sizes, room.warm, room.loaded_at_most))
    return not room.memory or largest <= int(room.memory * room.threshold)


def _why(case: Case, dtype: str, host: Host) -> str:
    stored = _candidates(case, host.processor)[0]
    if dtype == stored:
        return ""
    times = host.speeds.times(stored, dtype)
    known = "measured" if host.speeds.source == "probe" else "by its instruction sets"
    return f"{stored} would take {times:.1f} times as long on this processor ({known})"
