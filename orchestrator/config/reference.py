"""Every configuration key in words: default, limits, meaning, and what of vLLM it becomes.

The text comes from the settings' own fields, so that it cannot say something else than they do;
``docs/configuration.md`` is this module's output.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .experts import REMOTE_KEYS, ExpertConfig
from .problems import model_inside
from .settings import Settings

# Key of an expert → the argument of vLLM's engine, or the environment of its processes. A test
# holds this against what ``backends/engine_args.py`` really passes.
VLLM_ARGUMENTS = {
    "expert_id": "`served_model_name`",
    "model_path": "`model`",
    "quantization": "`quantization`",
    "dtype": "`dtype`; on CPUs `auto` is settled before",
    "gpu_memory_utilization": "`gpu_memory_utilization`",
    "max_num_seqs": "`max_num_seqs`",
    "max_model_len": "`max_model_len`",
    "kv_cache_gib": "`kv_cache_memory_bytes`, unless `gpu_memory_utilization` is given",
    "kv_cache_dtype": "`kv_cache_dtype`",
    "block_size": "`block_size`",
    "max_num_batched_tokens": "`max_num_batched_tokens`",
    "images": "`limit_mm_per_prompt`",
    "enforce_eager": "`enforce_eager`; true also sets `TORCHDYNAMO_DISABLE`",
    "cpu_cores": "environment `OMP_NUM_THREADS`, and the cores of its processes",
    "enable_neon": "environment `LIVEMIND_VLLM_KERNELS`",
    "neon_optimizations": "environment `LIVEMIND_VLLM_KERNELS`",
}
_HEAD = """\
# Configuration reference

Written by `livemind config reference`; do not edit. A configuration is JSON with `//` and `/* */`
comments. A key that is not listed here is refused, with the nearest known one as a hint; so is a
value outside its limits. `livemind config show FILE` prints all settings in force,
`livemind check FILE` says whether the models would run.

The keys of the original system keep their names (`experts[]`, `lazy_loading`, `rag` with
`bridge_url`). Each is obeyed, or refused by name where it cannot be: in `neon_optimizations` what
is no operator, what stays with vLLM (`attention`, `gemm`, `rope` and others: kernels.md says why)
and norms without `enforce_eager`; keys of a local engine by a remote expert and the other way
round. An engine on a GPU, or of a vLLM that the kernels do not know, runs without them and logs it.

![A turn from the first key to the end of the answer, with the settings](plots/turn-clock.svg)

The settings of a turn stand where they act, with their defaults.

"""


def reference() -> str:
    """Return the reference as Markdown."""
    return _HEAD + "\n".join(_sections("", Settings))


def _sections(path: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield the lines of one object's keys, then those of the objects in it."""
    inner: list[tuple[str, type[BaseModel]]] = []
    yield f"## {'The file' if not path else f'`{path}`'}\n"
    yield f"{(model.__doc__ or '').splitlines()[0]}\n"
    engine = model is ExpertConfig
    third = " for kind | vLLM |" if engine else ""
    yield f"| key | value | default | meaning |{third}"
    yield "|---|---|---|---|" + ("---|---|" if engine else "")
    for name, field in model.model_fields.items():
        nested = model_inside(field.annotation)
        if nested is not None:
            inner.append((_inner_path(path, name, field.annotation), nested))
        cells = [f"`{name}`", _value(field, nested), _default(field, nested), _text(field)]
        if engine:
            cells += [_kind(name), VLLM_ARGUMENTS.get(name, "")]
        yield f"| {' | '.join(cells)} |"
    yield ""
    for where, nested in inner:
        yield from _sections(where, nested)


def _inner_path(path: str, name: str, annotation: Any) -> str:
    full = f"{path}.{name}" if path else name
    origin = get_origin(annotation)
    return full + ("[]" if origin is tuple else ".NAME" if origin is dict else "")


def _kind(name: str) -> str:
    if name in REMOTE_KEYS:
        return "remote"
    return "vllm" if name in ExpertConfig.engine_keys() else "both"


def _value(field: FieldInfo, nested: type[BaseModel] | None) -> str:
    kind = _type(field.annotation, nested)
    limits = ", ".join(text for item in field.metadata if (text := _limit(item)))
    return f"{kind}, {limits}" if limits else kind


def _type(annotation: Any, nested: type[BaseModel] | None) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{_json(value)}`" for value in arguments)
    if origin in (Union, types.UnionType):
        parts = [_type(a, nested) for a in arguments if a is not type(None)]
        return " or ".join([*parts, "`null`"])
    if origin is tuple:
        return f"list of {_type(arguments[0], nested)}" if nested is None else "list of objects"
    if origin is dict:
        if nested is not None:
            return "object of objects"
        return f"object, values {_type(arguments[1], nested)}"
    names = {
        str: "text",
        bool: "`true` or `false`",
        int: "whole number",
        float: "number",
        Path: "path",
        SecretStr: "secret text",
    }
    return names.get(annotation, "object")


def _limit(item: Any) -> str:
    match item:
        case Ge(ge=low):
            return f"≥ {low}"
        case Gt(gt=low):
            return f"> {low}"
        case Le(le=high):
            return f"≤ {high}"
        case Lt(lt=high):
            return f"< {high}"
        case MinLen(min_length=low):
            return f"at least {low} long"
        case MaxLen(max_length=high):
            return f"at most {high} long"
    pattern = getattr(item, "pattern", None)
    return f"`{pattern}`".replace("|", "\\|") if pattern else ""


def _default(field: FieldInfo, nested: type[BaseModel] | None) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "all defaults" if nested is not None and not _many(field) else "none"
    value = field.default
    return "none" if value in ((), PydanticUndefined) else f"`{_json(value)}`"


def _many(field: FieldInfo) -> bool:
    return get_origin(field.annotation) in (tuple, dict)


def _json(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(_json(item) for item in value)}]"
    return str(value)


def _text(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")
