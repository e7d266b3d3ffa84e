"""What ``livemind serve`` says once it is ready."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from livemind import kernels
from livemind.orchestrator.cli.progress import ready_lines
from livemind.orchestrator.config.server import ServerConfig
from livemind.orchestrator.stats import ExpertInfo


def mind_of(*experts: ExpertInfo, **given: Any) -> Any:
    server = ServerConfig(**given)
    return SimpleNamespace(experts=lambda: experts, settings=SimpleNamespace(server=server))


def expert(name: str, state: str, dtype: str | None, packed: str | None = None) -> ExpertInfo:
    return ExpertInfo(name, "general", state, 4096, "", dtype, packed)


@pytest.mark.parametrize(
    ("experts", "told"),
    [
        ([("a", "ready", "float32"), ("b", "unloaded", "auto")], "in float32 ("),
        ([("a", "ready", "float32"), ("b", "ready", "bfloat16")], "in bfloat16, float32 ("),
        ([("a", "ready", "float32", "q8")], "in float32, weights in q8 ("),
        ([("far", "ready", None)], None),
    ],
)
def test_ready_lines_name_the_formats_of_loaded_experts(
    experts: list[tuple[Any, ...]], told: str | None
) -> None:
    lines = list(ready_lines(mind_of(*(expert(*one) for one in experts)), "127.0.0.1", 8000, None))
    said = [line for line in lines if line.startswith("  computing")]
    assert len(said) == (told is not None)
    if told is not None:
        assert said[0].strip() == f"computing   {told}{kernels.isa()}), see /stats"


def test_ready_lines_lead_to_the_page_where_it_is_served() -> None:
    def told(**given: Any) -> list[str]:
        lines = ready_lines(mind_of(**given), given["host"], 8000, None)
        return [line.split()[1] for line in lines if line.startswith("  page")]

    assert told(host="127.0.0.1") == ["http://127.0.0.1:8000/"]
    assert told(host="0.0.0.0", playground=True) == ["http://127.0.0.1:8000/"]
    assert told(host="0.0.0.0") == []
