"""The one settings tree of LiveMind: what is in it and what goes together across its sections.

Owns validation and ``load_settings``. The file format is in ``file.py``, the sections in
``sections.py`` and ``server.py``, one expert in ``experts.py``. A settings tree is frozen; a change
is a new tree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator
from rich.console import Console
from rich.markup import escape

from ..errors import ConfigError
from ..routing.domains import EVERY, domain_name
from .consensus import problems as consensus_problems
from .experts import ExpertConfig, Section
from .file import read_json
from .problems import Problem, got, problem_lines, raise_problems
from .sections import (
    ConsensusConfig,
    ConversationConfig,
    DomainConfig,
    ImagesConfig,
    LazyLoadingConfig,
    RagConfig,
    RouterConfig,
    SpeculationConfig,
)
from .server import ServerConfig
from .telemetry import TelemetryConfig


class Settings(Section):
    """The whole configuration."""

    server: ServerConfig = Field(default_factory=ServerConfig, description="Server and limits.")
    telemetry: TelemetryConfig = Field(
        default_factory=TelemetryConfig, description="Traces of turns."
    )
    experts: tuple[ExpertConfig, ...] = Field(
        min_length=1, max_length=1024, description="The models that answer."
    )
    lazy_loading: LazyLoadingConfig = Field(
        default_factory=LazyLoadingConfig, description="Which experts are in memory."
    )
    images: ImagesConfig = Field(
        default_factory=ImagesConfig, description="Images in chat requests."
    )
    rag: RagConfig = Field(default_factory=RagConfig, description="Retrieval.")
    router: RouterConfig = Field(default_factory=RouterConfig, description="Routing.")
    domains: dict[str, DomainConfig] = Field(
        default_factory=dict, description="Example questions by domain."
    )
    speculation: SpeculationConfig = Field(
        default_factory=SpeculationConfig, description="Work ahead of the commit."
    )
    conversation: ConversationConfig = Field(
        default_factory=ConversationConfig, description="The memory of a session."
    )
    consensus: ConsensusConfig = Field(
        default_factory=ConsensusConfig, description="Answers of several experts."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems([*self._expert_problems(), *self._pool_problems()])
        return self

    def _expert_problems(self) -> Iterator[Problem]:
        yield from self._domain_problems()
        first: dict[str, int] = {}
        for index, expert in enumerate(self.experts):
            earlier = first.setdefault(expert.expert_id, index)
            if earlier != index:
                problem = got("expert_id", expert.expert_id, f"another than experts[{earlier}] has")
                yield Problem(("experts", index, *problem.location), problem.text)
        names = ", ".join(f'"{name}"' for name in first)
        for key in ("default_expert", "fast_expert"):
            value = getattr(self.router, key)
            if value is not None and value not in first:
                problem = got(key, value, f"the id of an expert: {names}")
                yield Problem(("router", key), problem.text)
        for field, text in consensus_problems(self.consensus.options(), self):
            yield Problem(("consensus", field), text)
        for name in self.consensus.accuracy:
            if name not in first:
                problem = got("accuracy", name, f"the id of an expert: {names}")
                yield Problem(("consensus", "accuracy"), problem.text)

    def _domain_problems(self) -> Iterator[Problem]:
        used = {expert.domain for expert in self.experts}
        measured = self.consensus.accuracy.items()
        places: list[tuple[str, ...]] = [
            *(("domains", domain) for domain in self.domains),
            *(("consensus", "accuracy", name, domain) for name, of in measured for domain in of),
        ]
        for place in places:
            if domain_name(place[-1]) not in used:
                listed = ", ".join(f'"{name}"' for name in sorted(used))
                yield Problem(place, f"no expert has this domain, only {listed}")

    def _pool_problems(self) -> Iterator[Problem]:
        pool, total = self.lazy_loading, len(self.experts)
        given = pool.model_fields_set
        if "max_loaded_experts" in given and pool.max_loaded_experts > total:
            need = f"<= the number of experts, which is {total}"
            problem = got("max_loaded_experts", pool.max_loaded_experts, need)
            yield Problem(("lazy_loading", *problem.location), problem.text)
        if pool.warmup_pool_size > pool.max_loaded_experts:
            need = f"<= max_loaded_experts, which is {pool.max_loaded_experts}"
            problem = got("warmup_pool_size", pool.warmup_pool_size, need)
            yield Problem(("lazy_loading", *problem.location), problem.text)

    @property
    def routed_experts(self) -> tuple[ExpertConfig, ...]:
        """The experts that texts are routed to: all but a fast one without a domain of its own."""
        others = {e.domain for e in self.experts if e.expert_id != self.router.fast_expert}
        return tuple(
            expert
            for expert in self.experts
            if expert.expert_id != self.router.fast_expert
            or not others
            or expert.domain not in {*others, EVERY}
        )

    @property
    def described_domains(self) -> Mapping[str, DomainConfig]:
        """``domains`` by the names that domains have here."""
        return {domain_name(name): domain for name, domain in self.domains.items()}

    @property
    def default_expert(self) -> str:
        """Id of the expert for what belongs nowhere."""
        if self.router.default_expert is not None:
            return self.router.default_expert
        return max(self.experts, key=lambda expert: expert.priority).expert_id

    def expert(self, expert_id: str) -> ExpertConfig | None:
        """Return the expert of this id, None if there is none."""
        return next((expert for expert in self.experts if expert.expert_id == expert_id), None)


def load_settings(path: str | Path) -> Settings:
    """Return the settings of a JSON file; relative paths in it start at the file's folder.

    Raises:
        ConfigError: one line per problem, ``file: path.to[0].key: got VALUE, need …``.
    """
    path = Path(path)
    text = json.dumps(read_json(path))
    try:
        return Settings.model_validate_json(
            text, strict=True, context={"folder": path.absolute().parent}
        )
    except ValidationError as exc:
        lines = [f"{path}: {line}" for line in problem_lines(exc, Settings)]
        raise ConfigError("\n".join(lines)) from None


def describe(settings: Settings) -> str:
    """Return the effective settings as JSON text, defaults included, secrets masked.

    Without secrets it is a valid configuration file that means the same.
    """
    shown = settings.model_dump(mode="json")
    for expert, config in zip(shown["experts"], settings.experts, strict=True):
        for key in config.unused_keys:
            del expert[key]
    pool = shown["lazy_loading"]
    for key in ("max_loaded_experts", "warmup_pool_size"):
        pool[key] = min(pool[key], len(settings.experts))
    return json.dumps(shown, indent=2, ensure_ascii=False)


def check_config(path: str | Path, console: Console | None = None) -> int:
    """Print whether a file is a valid configuration; return the exit status, 0 if it is."""
    console = console or Console()
    try:
        settings = load_settings(path)
    except ConfigError as exc:
        for line in exc.message.splitlines():
            console.print(f"[red]✗[/] {escape(line)}", soft_wrap=True, highlight=False)
        return 1
    experts = ", ".join(expert.expert_id for expert in settings.experts)
    console.print(f"[green]✓[/] {escape(str(path))}: {escape(experts)}", soft_wrap=True)
    return 0
