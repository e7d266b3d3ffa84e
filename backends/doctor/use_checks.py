"""Findings about use: context, concurrency, chat template, images, memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...kernels.vllm_plugin.operator_selection import PACKING
from ..engine_args import cores_problem, engine_threads, usable_cores
from ..machine.speeds import PROMPT_TOKENS
from .case import Case
from .findings import Finding
from .number_formats import WORTH, Host
from .quantities import GIB, gib


def check_context(case: Case) -> Iterator[Finding]:
    """Yield whether the context fits the model and the KV cache."""
    limit = None if case.shape is None else case.shape.context_limit
    asked, longest = case.max_model_len, case.longest
    if (
        limit is not None
        and case.spec.max_model_len is not None
        and case.spec.max_model_len > limit
    ):
        why = f"the model's own limit is {limit} tokens (max_position_embeddings)"
        change = f"{{.max_model_len}}: {limit} or less"
        yield case.finding(
            "error", "context_beyond_model", "max_model_len", case.spec.max_model_len, why, change
        )
    if asked is None or longest is None or case.shape is None or case.sizes.kv_pool is None:
        return
    if asked > longest:
        yield _too_long(case, asked, longest)
    elif case.sequences == 1 and case.spec.max_num_seqs > 1:
        why = (
            f"the KV cache of {gib(case.sizes.kv_pool)} holds one request of {asked} tokens: while "
            "a long one is answered, others may wait"
        )
        yield case.finding("info", "concurrency", "max_num_seqs", case.spec.max_num_seqs, why)


def _too_long(case: Case, asked: int, longest: int) -> Finding:
    shape, sizes = case.shape, case.sizes
    assert shape is not None
    assert sizes.kv_pool is not None
    each = shape.kv_bytes_per_token(sizes.kv_element_bytes) or 0
    need = (case.sequence_bytes(asked) or 0) + each * case.spec.block_size
    source = "" if case.spec.max_model_len is not None else ", the model's own as none is given"
    why = (
        f"one request of {asked} tokens{source} needs {gib(need)} of KV cache ({each / 1024:.0f} "
        f"KiB a token), there are {gib(sizes.kv_pool)}: vLLM will not start"
    )
    if case.spec.gpu_memory_utilization is None:
        room = math.ceil(need / GIB * 4) / 4
        more = f"{{.kv_cache_gib}}: {room:g}"
    else:
        more = "a larger {.gpu_memory_utilization}"
    change = f"{{.max_model_len}}: {longest}, or {more}" if longest >= 16 else more
    return case.finding("error", "context_exceeds_kv", "max_model_len", asked, why, change)


def check_answers(case: Case) -> Iterator[Finding]:
    """Yield whether it can hold a conversation, and see."""
    files = case.files
    if files is None or files.config is None:
        return
    if files.has_tokenizer and not files.has_chat_template:
        why = "no chat template: a base model? Conversations cannot be put to it"
        change = (
            "{.model_path}: the instruct or chat version, or add chat_template.jinja to its folder"
        )
        yield case.finding("error", "chat_template_missing", "model_path", case.name, why, change)
    if files.why_no_cut is not None:
        why = f"no prompt is prepared while its text is still written: {files.why_no_cut}"
        change = "{.model_path}: another model, where a head start matters"
        yield case.finding("warning", "open_turn", "model_path", case.name, why, change)
    if case.images and case.sees_images is False:
        why = f"{case.architecture or 'the model'} takes text only"
        change = "{.images}: false, or {.model_path}: a model that sees"
        yield case.finding("error", "images_not_seen", "images", True, why, change)
    elif case.sees_images and not case.images:
        why = "the model could take images; without this key they are not sent to it"
        yield case.finding("info", "images_unused", "images", False, why, "{.images}: true")


def check_memory(case: Case, budget: int) -> Iterator[Finding]:
    """Yield whether it fits the machine when it is alone there."""
    total, weights, pool = case.sizes.total, case.sizes.weights, case.sizes.kv_pool
    if total is None or weights is None or pool is None or total <= budget:
        return
    why = (
        f"it takes {gib(total)} ({weights_text(case)}; KV cache {gib(pool)}; process and "
        f"activations {gib(case.sizes.working)}), {gib(budget)} may be used"
    )
    if weights > budget:
        change = "{.model_path}: a smaller or quantized model, or a machine with more memory"
    else:
        change = "a smaller {.kv_cache_gib} or {.max_num_batched_tokens}, or more memory"
    yield case.finding("error", "expert_too_large", "model_path", case.name, why, change)


def check_speed(case: Case, host: Host | None) -> Iterator[Finding]:
    """Yield whether the first token of an ordinary prompt comes before ``timeout_s``.

    By the measured products of this processor, on the engine's threads; where nothing has been
    measured, or packed weights are computed, nothing is said.
    """
    parameters = case.sizes.parameters
    each_ns = None if host is None else host.speeds.prefill_ns.get(case.sizes.dtype)
    if host is None or not host.on_cpu or each_ns is None or parameters is None:
        return
    sparse = case.shape is not None and case.shape.experts  # computes with a part of its weights
    if sparse or case.stored_quantization or case.spec.quantization:
        return
    threads = engine_threads(case.spec, usable_cores())
    took_s = parameters * PROMPT_TOKENS * each_ns * 1e-9 / threads
    if took_s <= case.spec.timeout_s:
        return
    why = (
        f"a prompt of {PROMPT_TOKENS} tokens takes about {took_s:.0f} s in {case.sizes.dtype} on "
        f"this processor, with {threads} thread{'' if threads == 1 else 's'}: its request has "
        "failed by then"
    )
    change = f"{{.timeout_s}}: {2 * took_s:.0f}, or {{.model_path}}: a smaller model"
    limit = f"{case.spec.timeout_s:g}"
    yield case.finding("warning", "prefill_slow", "timeout_s", limit, why, change)


def check_cores(case: Case, host: Host | None) -> Iterator[Finding]:
    """Yield whether an engine would get the cores that it is given, on the machine at hand."""
    if host is not None and host.on_cpu and (problem := cores_problem(case.spec)):
        why = f"{problem}: the engine would not start here"
        yield case.finding("error", "cores_absent", "cpu_cores", case.spec.cpu_cores, why)


def check_packing(case: Case, host: Host | None) -> Iterator[Finding]:
    """Yield what packing dense weights at load would buy, by the measured products."""
    if host is None or not host.on_cpu or case.files is None or case.sizes.parameters is None:
        return
    if case.stored_quantization or case.spec.quantization:
        return
    dtype, speeds = case.sizes.dtype, host.speeds
    gains = [
        f"{name} {speeds.decode_ns[dtype] / speeds.decode_ns[name]:.1f} times as fast for each "
        f"token of an answer and {speeds.prefill_ns[dtype] / speeds.prefill_ns[name]:.1f} times "
        "for a prompt"
        for name in PACKING
        if {name, dtype} <= speeds.decode_ns.keys() and speeds.times(dtype, name) >= WORTH
    ]
    if gains:
        why = (
            f"weights packed at load would be multiplied faster than {dtype} (measured): "
            f"{'; '.join(gains)}. Answers change a little (docs/experts.md)"
        )
        yield case.finding("info", "packing_faster", "quantization", "none", why)


def weights_text(case: Case) -> str:
    """Return the size of the weights and how it comes about."""
    sizes = case.sizes
    if sizes.weights is None:
        return "size unknown"
    shown = (
        f"{sizes.weights / 1e9:.1f} GB" if sizes.weights >= 1e8 else f"{sizes.weights / 1e6:.1f} MB"
    )
    stored = case.stored_quantization or case.spec.quantization
    about = "about " if sizes.weights_estimated else ""
    if sizes.parameters is None or stored:
        how = f', {"to be " if stored in PACKING else ""}packed by "{stored}"' if stored else ""
        return f"{about}{shown} of weights{how}"
    unit, count = ("billion", 1e9) if sizes.parameters >= 1e8 else ("million", 1e6)
    return (
        f"{about}{sizes.parameters / count:.2f} {unit} parameters x {sizes.element_bytes} bytes "
        f"({sizes.dtype}) = {shown}"
    )
