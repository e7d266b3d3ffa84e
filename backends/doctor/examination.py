"""The examination: reads the files of every expert, then judges each and all together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..spec import ExpertSpec
from .case import Case, Subject
from .engine_tables import EngineTables, installed_engine
from .file_checks import check_engine, check_files, check_import, check_kernels
from .findings import Examination, ExpertFacts, Finding, worst_first
from .memory_plan import make_plan
from .model_files import locate, read_model
from .model_shape import model_shape
from .number_checks import check_numbers
from .number_formats import Formats, Host, Room, fit_formats
from .pool_checks import check_drafts, check_plan, check_remote, check_shares
from .sizes import measure
from .template_checks import check_template
from .use_checks import (
    check_answers,
    check_context,
    check_cores,
    check_memory,
    check_packing,
    check_speed,
    weights_text,
)

__all__ = ["Question", "Subject", "examine"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be examined.

    Attributes:
        subjects: the experts.
        memory: of the machine, bytes.
        threshold: share of the memory that may be used.
        loaded_at_most: local experts in memory at a time.
        warm: ids loaded at the start.
        fast: id of the expert that drafts.
        lazy: whether experts are loaded on demand.
        models: folder below which models are looked for by their hub names.
        host: what will compute, for ``dtype: auto`` and the KV cache; None = judged as configured.
        imports: says of model classes why the engine cannot import them; None = nobody tries.
    """

    subjects: Sequence[Subject]
    memory: int
    threshold: float = 0.9
    loaded_at_most: int = 1
    warm: Sequence[str] = ()
    fast: str | None = None
    lazy: bool = True
    models: Path | None = None
    host: Host | None = None
    imports: Callable[[Sequence[str]], Mapping[str, str]] | None = None


def examine(question: Question, engine: EngineTables | None = None) -> Examination:
    """Return everything that the files say. Reads headers and JSON only; blocks while it does.

    Args:
        question: what to look at.
        engine: the vLLM to judge by; None = the installed one.

    Raises:
        OSError: a file that is there cannot be read.
    """
    engine = engine or installed_engine()
    formats = _formats(question)
    cases = [
        _open(replace(s, spec=formats[s.where].spec), question, engine)
        for s in question.subjects
        if s.spec.kind != "remote"
    ]
    by_where = {case.where: case for case in cases}
    fast = next((case for case in cases if case.spec.expert_id == question.fast), None)
    facts = [
        _facts(by_where[s.where], fast) if s.where in by_where else _remote(s.spec)
        for s in question.subjects
    ]
    plan = make_plan(
        facts,
        memory=question.memory,
        threshold=question.threshold,
        loaded_at_most=question.loaded_at_most,
        warm=question.warm,
    )
    findings = [
        finding
        for case in cases
        for finding in _judge(case, formats[case.where], question.host, plan.budget_bytes)
    ]
    findings += _not_importable(question, cases, engine)
    remote = (s for s in question.subjects if s.spec.kind == "remote")
    findings += [finding for s in remote for finding in check_remote(s, os.environ)]
    findings += check_plan(plan, lazy=question.lazy)
    findings += check_shares(cases, plan.loaded_at_most)
    places = [(s.where, fact) for s, fact in zip(question.subjects, facts, strict=True)]
    findings += check_drafts(places, question.fast)
    if engine is None and cases:
        why = "vLLM is not installed here: whether it supports the models cannot be said"
        findings.append(Finding("info", "vllm_missing", "experts", "", why))
    return Examination(
        tuple(facts), tuple(worst_first(findings)), plan, None if engine is None else engine.name
    )


def _open(subject: Subject, question: Question, engine: EngineTables | None) -> Case:
    path = subject.spec.model_path or ""
    name = subject.name or path
    place = locate(path, question.models)
    planned = bool(place and question.models and question.models in place.parents)
    files = None if place is None else read_model(place)
    shape = None if files is None or files.config is None else model_shape(files.config)
    sizes = measure(subject.spec, files, shape, question.memory, engine)
    where, spec, images = subject.where, subject.spec, subject.images
    return Case(where, spec, images, name, place, planned, files, shape, sizes, engine)


def _formats(question: Question) -> dict[str, Formats]:
    """Return the formats of every subject by its place; two of one id cannot be told apart."""
    subjects, host = question.subjects, question.host
    if host is None:
        return {s.where: Formats(s.spec) for s in subjects}
    room = Room(question.memory, question.threshold, question.loaded_at_most, question.warm)
    found = fit_formats([s.spec for s in subjects], host, room, question.models)
    return {s.where: found[s.spec.expert_id] for s in subjects}


def _judge(case: Case, formats: Formats, host: Host | None, budget: int) -> Iterator[Finding]:
    yield from check_files(case)
    yield from check_engine(case)
    yield from check_kernels(case, host)
    yield from check_template(case)
    yield from check_numbers(case, formats)
    yield from check_context(case)
    yield from check_answers(case)
    yield from check_memory(case, budget)
    yield from check_speed(case, host)
    yield from check_cores(case, host)
    yield from check_packing(case, host)


def _not_importable(
    question: Question, cases: Sequence[Case], engine: EngineTables | None
) -> Iterator[Finding]:
    known = set(engine.architectures or ()) if engine is not None else set()
    here = [name for case in cases if (name := case.architecture) in known and name is not None]
    if question.imports is not None and here:
        broken = question.imports(here)
        for case in cases:
            yield from check_import(case, broken)


def _facts(case: Case, fast: Case | None) -> ExpertFacts:
    files, shape, sizes, engine = case.files, case.shape, case.sizes, case.engine
    architecture = case.architecture
    known = engine is not None and engine.architectures is not None and architecture is not None
    facts = ExpertFacts(case.spec.expert_id, case.spec.kind, case.name, architecture=architecture)
    if files is None:
        return facts
    tokenizer = files.tokenizer
    drafter = None if fast is None or fast.files is None else fast.files.tokenizer
    comparable = tokenizer is not None and drafter is not None and case is not fast
    return replace(
        facts,
        supported=architecture in (engine.architectures or ()) if known and engine else None,
        dtype=sizes.dtype,
        quantization=case.spec.quantization or case.stored_quantization,
        parameters=sizes.parameters,
        weights_bytes=sizes.weights,
        weights_estimated=sizes.weights_estimated,
        weights_text=weights_text(case),
        kv_bytes_per_token=None
        if shape is None
        else shape.kv_bytes_per_token(sizes.kv_element_bytes),
        kv_pool_bytes=sizes.kv_pool,
        context_limit=None if shape is None else shape.context_limit,
        max_model_len=case.max_model_len,
        largest_model_len=_smaller(case.longest, None if shape is None else shape.context_limit),
        sequences_at_limit=case.sequences,
        memory_bytes=sizes.total,
        chat_template=files.has_chat_template,
        sees_images=case.sees_images,
        tokenizer=tokenizer,
        drafts=tokenizer == drafter if comparable else None,
    )


def _smaller(first: int | None, second: int | None) -> int | None:
    known = [value for value in (first, second) if value is not None]
    return min(known) if first is not None else None


def _remote(spec: ExpertSpec) -> ExpertFacts:
    return ExpertFacts(spec.expert_id, "remote", ", ".join(spec.base_urls))
