"""Findings about the files of a model: there, whole, loadable by the installed vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..engine_args import engine_args
from ..errors import ExpertUnavailable
from ..packages import package_of
from .case import Case
from .cpu_kernels import cpu_kernels, packed_refusal
from .findings import Finding
from .number_formats import Host


def check_files(case: Case) -> Iterator[Finding]:
    """Yield what is wrong with the model's files."""
    files = case.files
    if files is None:
        yield from _not_here(case)
        return
    for problem in files.problems:
        yield case.finding(
            "error", "file_damaged", "model_path", case.name, problem, "{.model_path}"
        )
    if files.config is None and files.gguf is None and not files.problems:
        yield case.finding(
            "error",
            "config_missing",
            "model_path",
            case.name,
            "the folder has no config.json: it is not a model in the layout of Hugging Face",
            "{.model_path}: the folder that holds config.json and *.safetensors",
        )
    if not files.has_tokenizer:
        yield case.finding(
            "error",
            "tokenizer_missing",
            "model_path",
            case.name,
            "no tokenizer file (tokenizer.json, tokenizer.model, …): no text can be read",
            "{.model_path}: download the tokenizer files beside the weights",
        )
    yield from _weights(case)


def _not_here(case: Case) -> Iterator[Finding]:
    package = package_of(Path(case.spec.model_path or ""))
    if package is not None:
        why = "not imported yet: `livemind serve` does that first; nothing is known of it here"
        change = f"livemind models import {package.requirement}"
        yield case.finding("info", "model_not_here", "model_path", case.name, why, change)
        return
    looks_local = case.name.startswith(("/", ".", "~")) or case.name.count("/") > 1
    if looks_local:
        why = "there is no such folder"
        change = "{.model_path}: an existing folder, zoo:NAME or the name of a model hub"
        yield case.finding("error", "model_missing", "model_path", case.name, why, change)
        return
    why = "not on this machine: vLLM downloads it at the first start, and no size is known here"
    change = "download it first, or give its folder: livemind check --models DIR"
    yield case.finding("warning", "model_not_here", "model_path", case.name, why, change)


def _weights(case: Case) -> Iterator[Finding]:
    weights = case.files.weights if case.files is not None else None
    if weights is None:
        if case.planned:
            why = "no weights here: sizes are estimated from config.json, norms and vision left out"
            yield case.finding("info", "weights_estimated", "model_path", case.name, why)
        else:
            why = "no weights: neither *.safetensors nor *.bin nor a .gguf file"
            change = "{.model_path}: download the weights"
            yield case.finding("error", "weights_missing", "model_path", case.name, why, change)
        return
    for problem in weights.problems:
        change = "download this file again"
        yield case.finding("error", "weights_damaged", "model_path", case.name, problem, change)


def check_engine(case: Case) -> Iterator[Finding]:
    """Yield what the engine, or LiveMind's own use of it, would refuse."""
    yield from _architecture(case)
    if case.place is None or not case.place.is_dir():
        return
    try:
        engine_args(replace(case.spec, model_path=str(case.place)))
    except ExpertUnavailable as refused:
        key, found, why = refused.message.partition(": ")
        known = found and hasattr(case.spec, key)
        value = getattr(case.spec, key) if known else case.name
        yield case.finding(
            "error",
            "engine_refuses",
            key if known else "model_path",
            value,
            why if known else refused.message,
            f"remove {{.{key}}}" if known else "",
        )


def check_kernels(case: Case, host: Host | None) -> Iterator[Finding]:
    """Yield what the engine's kernels for CPUs cannot do with this model, ``host``'s processor."""
    if case.engine is None or not case.engine.is_cpu or case.files is None:
        return
    processor = None if host is None else host.processor
    able, name = cpu_kernels(case.config, processor=processor), case.name
    other = '{.model_path}: another model; or serve it elsewhere and use {.kind} "remote"'
    refusal = able.refusal or (packed_refusal(case.config, host.processor) if host else "")
    if refusal:
        yield case.finding("error", "kernel_missing", "model_path", name, refusal, other)
        return
    if why := able.refuses(case.sizes.dtype):
        change = '{.dtype}: "bfloat16"'
        yield case.finding("error", "dtype_model", "dtype", case.sizes.dtype, why, change)
    if not able.prefix_caching:
        why = f"{able.name}: on a CPU nothing of a prompt is kept, so none is prepared early"
        change = "{.model_path}: another model, where a head start matters"
        yield case.finding("warning", "prefix_caching", "model_path", name, why, change)
    if not able.together and case.spec.max_num_seqs > 1:
        why = f"{able.name}: on a CPU vLLM answers two requests in a step wrongly; one at a time"
        yield case.finding("warning", "concurrency", "max_num_seqs", case.spec.max_num_seqs, why)
    if not able.drafts and case.spec.verify_drafts:
        why = f"{able.name}: on a CPU vLLM verifies no drafts of them rightly; none will be"
        yield case.finding(
            "warning", "drafts", "verify_drafts", True, why, "remove {.verify_drafts}"
        )


def check_import(case: Case, broken: Mapping[str, str]) -> Iterator[Finding]:
    """Yield that the engine cannot import the model's class; ``broken`` says why, by class."""
    name, why = case.architecture, broken.get(case.architecture or "")
    if name is None or why is None or case.engine is None:
        return
    change = '{.model_path}: another model; or make it {.kind} "remote" on a server that has it'
    if "torchvision" in why:
        change = (
            "install the CPU build of torchvision that fits this torch, from the index that torch "
            "came from: make images (a CUDA build beside a CPU torch breaks transformers); or "
            "{.model_path}: another model"
        )
    told = f"{name}: {case.engine.name} knows it and cannot import it here: {why}"
    yield case.finding(
        "error", "architecture_not_importable", "model_path", case.name, told, change
    )


def _architecture(case: Case) -> Iterator[Finding]:
    engine, name = case.engine, case.architecture
    if engine is None or engine.architectures is None or case.files is None:
        return
    if case.files.gguf is not None or case.files.config is None:
        return
    if name is None:
        why = "config.json names no architecture: vLLM cannot choose a model class"
        yield case.finding("error", "architecture_unnamed", "model_path", case.name, why)
    elif name not in engine.architectures:
        last = engine.last_version.get(name)
        kind = "a mixture-of-experts model, " if case.shape and case.shape.experts else ""
        if last is not None:
            why = f"{name}: {kind}supported up to vLLM {last}, not by {engine.name}"
            change = (
                f"{{.model_path}}: another model; or run vLLM {last} elsewhere and make it "
                + ('{.kind} "remote" with {.base_urls}')
            )
        else:
            why = f"{name}: {kind}{engine.name} has no such model class"
            change = (
                '{.model_path}: a supported model; or serve it elsewhere and use {.kind} "remote"'
            )
        yield case.finding(
            "error", "architecture_unsupported", "model_path", case.name, why, change
        )
