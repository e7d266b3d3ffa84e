"""Names of domains, and those that no text reaches."""

from __future__ import annotations

import pytest

from livemind.orchestrator.routing.domains import domain_name, unreachable


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("coding", "coding"),
        ("multilingual_expert", "multilingual"),
        ("multimodal-expert", "multimodal"),
        ("Technical", "technical"),
        ("law_expert", "law_expert"),
        ("all", "all"),
        ("Law", "Law"),
    ],
)
def test_domain_name_of_the_original_system_is_that_of_a_known_domain(
    given: str, name: str
) -> None:
    assert domain_name(given) == name


@pytest.mark.parametrize(
    ("domains", "described", "lost"),
    [
        (["general", "coding"], [], []),
        (["general", "law", "law"], [], ["law"]),
        (["general", "law"], ["law"], []),
        (["law"], [], []),
    ],
)
def test_domain_that_nothing_describes_is_reached_by_no_text(
    domains: list[str], described: list[str], lost: list[str]
) -> None:
    assert unreachable(domains, described) == lost
