"""Findings about number formats: dtype, quantization, and how they go together."""

from __future__ import annotations

from collections.abc import Iterator

from ...kernels import dispatch
from ...kernels.vllm_plugin.operator_selection import PACKING
from .case import Case
from .findings import Finding
from .number_formats import Formats
from .quantities import gib
from .sizes import stored_dtype

# Where the installed vLLM cannot be asked: what older versions said of these methods.
_FLOAT16_METHODS = ("awq", "gptq")
# Methods whose weights are stored in integers, whatever else stands beside them.
_PACKED = ("awq", "gptq", "mxfp4")
# Methods that take quantized weights as they are stored; the rest quantize while loading.
_NEED_QUANTIZED = ("awq", "gptq", "compressed-tensors", "mxfp4", "gguf", "quark")


def check_numbers(case: Case, formats: Formats) -> Iterator[Finding]:
    """Yield conflicts of dtype, quantization, KV cache and model; ``formats``: of the expert."""
    yield from _kv_cache(case, formats)
    if case.files is None or case.files.config is None:
        return
    stored, asked = case.stored_quantization, case.spec.quantization
    yield from _methods(case, stored, asked)
    method = asked or stored
    if formats.packing_why:
        yield case.finding("info", "packing_chosen", "quantization", "auto", formats.packing_why)
    if method is not None:
        yield from _method_dtype(case, method, stored is not None and asked is None)
    elif formats.dtype_why:
        yield case.finding("info", "dtype_chosen", "dtype", case.sizes.dtype, formats.dtype_why)
    else:
        yield from _plain_dtype(case)
    yield from _model_dtype(case)


def _kv_cache(case: Case, formats: Formats) -> Iterator[Finding]:
    asked, why = formats.asked_kv_cache, formats.kv_cache_why
    if not why:
        return
    key, model = "kv_cache_dtype", '{.kv_cache_dtype}: "auto"'
    if formats.refused:
        change = f"{model}, or {{.kv_cache_fallback}}: true"
        yield case.finding("error", "kv_cache_unsupported", key, asked, why, change)
    else:
        why += f": it will be {case.sizes.dtype}, {case.sizes.kv_element_bytes} bytes a number"
        yield case.finding("warning", "kv_cache_fallback", key, asked, why, model)


def _all_floats(case: Case) -> bool:
    weights = None if case.files is None else case.files.weights
    whole = weights is not None and weights.format == "safetensors" and not weights.problems
    return weights is not None and whole and not weights.packed_bytes


def _family(method: str) -> str:
    return method.removeprefix("auto_").removesuffix("_marlin").removeprefix("gpt_oss_")


def _methods(case: Case, stored: str | None, asked: str | None) -> Iterator[Finding]:
    engine = case.engine
    method = asked or stored
    if asked in PACKING and stored is None:
        yield from _packing(case, str(asked))
        return
    names = engine.quantizations | set(PACKING) if engine and engine.quantizations else None
    if engine and names and method and method not in names:
        key = "quantization" if asked else "model_path"
        value = asked or case.name
        why = f'{engine.name} has no quantization method "{method}"'
        known = ", ".join(sorted(names & {"awq", "gptq", "fp8", "compressed-tensors"}))
        change = f"{{.{key}}}: weights it can read (safetensors, unquantized or {known})"
        if stored == "gguf":
            change = f"livemind models import {case.name}, and its folder as {{.model_path}}"
        yield case.finding("error", "quantization_unsupported", key, value, why, change)
        return
    if stored is not None and _family(stored) in _PACKED and _all_floats(case):
        why = f'config.json says "{stored}", but no tensor of the weights is packed'
        change = "{.model_path}: weights of this method, or their config.json without it"
        yield case.finding("error", "quantization_absent", "model_path", case.name, why, change)
    if asked is None:
        return
    if stored is None and _family(asked) in _NEED_QUANTIZED:
        why = f'the weights are not quantized: "{asked}" needs a quantization_config in config.json'
        change = "remove {.quantization}, or {.model_path}: a model quantized this way"
        yield case.finding("error", "quantization_absent", "quantization", asked, why, change)
    elif stored is not None and _family(stored) != _family(asked):
        why = f'the weights are quantized with "{stored}", by their config.json'
        change = f'{{.quantization}}: "{stored}", or remove it: vLLM reads it from the model'
        yield case.finding("error", "quantization_mismatch", "quantization", asked, why, change)


def _packing(case: Case, asked: str) -> Iterator[Finding]:
    """Yield why dense weights cannot be packed by our kernels."""
    why = ""
    if case.engine is not None and not case.engine.is_cpu:
        why = "weights are packed for the CPU's kernels, and this vLLM computes on a GPU"
    elif dispatch.isa() == "numpy":
        why = "the kernels that compute with packed weights are not compiled (docs/kernels.md)"
    if why:
        change = "remove {.quantization}, or {.model_path}: a model that is stored quantized"
        yield case.finding("error", "quantization_unsupported", "quantization", asked, why, change)


def _method_dtype(case: Case, method: str, is_stored: bool) -> Iterator[Finding]:
    dtype, engine = case.sizes.dtype, case.engine
    source = f'quantization "{method}"' + (" of the model's config.json" if is_stored else "")
    known = None if engine is None else engine.quantization_dtypes.get(method)
    if known is not None and dtype not in known:
        best = "float16" if "float16" in known else sorted(known)[0]
        why = f"{source}: {engine.name if engine else 'vLLM'} computes it in {_or(known)} only"
        change = f'{{.dtype}}: "{best}"'
        yield case.finding("error", "dtype_quantization", "dtype", dtype, why, change)
    elif _family(method) in _FLOAT16_METHODS and dtype != "float16":
        why = f"{source} needs float16"
        if known is not None:
            why += f": its scales are stored so; {engine.name if engine else 'vLLM'} converts them"
            why += ", older versions refuse to start"
        yield case.finding(
            "error" if known is None else "warning",
            "dtype_quantization",
            "dtype",
            dtype,
            why,
            '{.dtype}: "float16"',
        )


def _plain_dtype(case: Case) -> Iterator[Finding]:
    stored, dtype, weights = stored_dtype(case.config), case.sizes.dtype, case.sizes.weights
    if stored in ("bfloat16", "float16") and dtype == "float32":
        grown = "" if weights is None else f": {gib(weights / 2)} become {gib(weights)}"
        why = f"the model is stored in {stored}; float32 doubles weights and KV cache{grown}"
        yield case.finding(
            "warning", "dtype_widens", "dtype", dtype, why, f'{{.dtype}}: "{stored}"'
        )
    elif stored == "bfloat16" and dtype == "float16" and not case.refuses_float16:
        why = (
            "the model is stored in bfloat16: values above 65504 become infinite in float16, and "
            "answers turn into noise"
        )
        yield case.finding("warning", "dtype_narrows", "dtype", dtype, why, '{.dtype}: "bfloat16"')


def _model_dtype(case: Case) -> Iterator[Finding]:
    if case.sizes.dtype == "float16" and case.refuses_float16:
        kind = case.config.get("model_type")
        why = f"vLLM refuses {kind} in float16: numerical instability"
        yield case.finding("error", "dtype_model", "dtype", "float16", why, '{.dtype}: "bfloat16"')


def _or(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))
