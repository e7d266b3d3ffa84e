"""What ``livemind check`` says of the configuration itself."""

from __future__ import annotations

from typing import Any

from livemind.orchestrator.cli.check import routing_findings
from livemind.orchestrator.config.settings import Settings


def settings(*domains: str, **more: Any) -> Settings:
    experts = [
        {"expert_id": f"e{n}", "model_path": "zoo:fast", "domain": domain}
        for n, domain in enumerate(domains)
    ]
    return Settings.model_validate({"experts": experts, **more})


def test_check_names_the_expert_that_no_text_reaches() -> None:
    found = [f for f in routing_findings(settings("general", "law")) if f.severity == "warning"]
    assert [(f.code, f.where, f.value) for f in found] == [
        ("domain_unreachable", "experts[1].domain", "law")
    ]
    assert "domains.law.examples" in found[0].change


def test_check_is_content_with_a_domain_that_questions_describe() -> None:
    described = {"law": {"examples": ["May I sublet my flat?"]}}
    found = routing_findings(settings("general", "law", domains=described))
    assert [f.severity for f in found] == ["info"]


def test_check_names_the_known_domains_that_no_expert_serves() -> None:
    [found] = routing_findings(settings("general", "multilingual_expert"))
    assert (found.code, found.value) == ("domains_unserved", "technical, coding, multimodal")


def test_check_does_not_speak_of_domains_with_one_expert() -> None:
    assert routing_findings(settings("law")) == []
