"""``livemind check``: is the configuration valid, and would the experts run on this machine?

Owns the command and its exit codes; the examination is ``backends.doctor``'s, how it looks is in
``check_view.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...backends.doctor import (
    Examination,
    Finding,
    Host,
    Question,
    Subject,
    examine,
    import_failures,
    this_host,
)
from ...backends.doctor.quantities import parse_size
from ...backends.machine.memory import machine_memory
from ..assembly import most_loaded, warm
from ..config.consensus import no_gain
from ..config.file import value_text
from ..config.keys import load_keys
from ..config.settings import Settings, load_settings
from ..errors import ConfigError
from ..routing.domains import BUILTIN, unreachable
from ..server.tracing.otlp import check_installed
from .errors import CommandError


def check(options: argparse.Namespace) -> int:
    """Print the report; 0 = fine, 1 = errors, or warnings with ``--strict``."""
    memory = _memory(options.memory)
    models: Path | None = options.models
    if models is not None and not models.is_dir():
        raise CommandError(f"--models: {models}: no such folder", 2)
    try:
        settings = load_settings(options.file)
        load_keys(settings.server)
        check_installed(settings.telemetry)
    except ConfigError as exc:
        report = Examination(findings=tuple(config_findings(exc, options.file)))
    else:
        asked = question(settings, memory, models, this_host())
        found = examine(replace(asked, imports=_imports))
        ran = _ran(settings, quiet=options.json) if options.run else []
        own = (*routing_findings(settings), *consensus_findings(settings))
        report = replace(found, findings=(*ran, *own, *found.findings))
    if options.json:
        print(json.dumps(report.as_json(str(options.file)), indent=2, ensure_ascii=False))
    else:
        from .check_view import show

        show(report, options.file, strict=options.strict)
    bad = report.count("error") + (report.count("warning") if options.strict else 0)
    return 1 if bad else 0


def _ran(settings: Settings, *, quiet: bool) -> list[Finding]:
    from rich.console import Console

    from .check_run import remote_findings, run_findings

    console = None if quiet else Console(stderr=True)
    return [*run_findings(settings, console), *remote_findings(settings, console)]


def _imports(architectures: Sequence[str]) -> Mapping[str, str]:
    if sys.stderr.isatty():
        print("asking the engine for its model classes: seconds, the first time", file=sys.stderr)
    return import_failures(architectures)


def question(
    settings: Settings, memory: int, models: Path | None, host: Host | None = None
) -> Question:
    """Return what the doctor is to look at: this configuration on a machine with this memory."""
    lazy = settings.lazy_loading
    return Question(
        subjects=[
            Subject(
                f"experts[{index}]", expert.to_spec(), expert.images, name=expert.model_path or ""
            )
            for index, expert in enumerate(settings.experts)
        ],
        memory=memory,
        threshold=lazy.memory_threshold,
        loaded_at_most=most_loaded(settings),
        warm=warm(settings),
        fast=settings.router.fast_expert,
        lazy=lazy.enabled,
        models=models,
        host=host,
    )


def routing_findings(settings: Settings) -> list[Finding]:
    """Return a finding for each expert that no text reaches, and one for what nobody serves."""
    routed, described = settings.routed_experts, settings.described_domains
    domains = [expert.domain for expert in routed]
    lost = set(unreachable(domains, described))
    why = "no text is routed here: it is no domain that routing knows, and no questions describe it"
    found = [
        Finding(
            "warning",
            "domain_unreachable",
            f"experts[{index}].domain",
            expert.domain,
            why,
            f"one of {', '.join(BUILTIN)}, or domains.{expert.domain}.examples",
        )
        for index, expert in enumerate(settings.experts)
        if expert in routed and expert.domain in lost
    ]
    unserved = [name for name in BUILTIN if name not in domains]
    if len(set(domains)) > 1 and unserved:
        why = "such questions go to the expert whose domain is the next likeliest"
        found.append(
            Finding("info", "domains_unserved", "experts", ", ".join(unserved), f"by nobody: {why}")
        )
    return found


def consensus_findings(settings: Settings) -> list[Finding]:
    """Return a finding where answers are settled by a policy that nobody gained from so far."""
    why = no_gain(settings)
    if why is None:
        return []
    change = 'consensus.policy: "auto", unless your own models gain: livemind bench consensus'
    where, policy = "consensus.policy", settings.consensus.policy
    return [Finding("info", "consensus_without_gain", where, policy, why, change)]


def config_findings(error: ConfigError, file: Path) -> list[Finding]:
    """Return a finding for each line of a refused configuration."""
    found = []
    for line in error.message.splitlines():
        text = line.removeprefix(f"{file}: ")
        where, colon, rest = text.partition(": ")
        if not colon or " " in where:
            where, rest = str(file), text
        value, _, need = rest.partition(", need ")
        change = f"{where}: {need}" if need else _suggestion(where, rest)
        shown = value.removeprefix("got ") if value.startswith("got ") else ""
        found.append(Finding("error", "config_invalid", where, shown, rest, change))
    return found


def _suggestion(where: str, text: str) -> str:
    _, found, name = text.partition("did you mean ")
    if found:
        parent = where.rpartition(".")[0]
        return ".".join(part for part in (parent, name.strip('"?')) if part)
    if text.startswith(("unknown key", "not used by")):
        return f"remove {where}"
    _, needs, method = text.partition("which needs ")
    return f"{where}: {value_text(method)}" if needs else where


def _memory(text: str | None) -> int:
    if text is not None:
        try:
            return parse_size(text)
        except ValueError as exc:
            raise CommandError(f"--memory: {exc}", 2) from None
    found = machine_memory()
    if found is None:
        raise CommandError(f"{sys.platform}: cannot tell the memory; give --memory SIZE", 2)
    return found
