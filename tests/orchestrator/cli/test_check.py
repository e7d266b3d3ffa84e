"""What ``livemind check`` says of the configuration itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.orchestrator.assembly import make_team
from livemind.orchestrator.cli.check import consensus_findings, routing_findings
from livemind.orchestrator.config.consensus import NO_GAIN
from livemind.orchestrator.config.sections import ConsensusConfig
from livemind.orchestrator.config.settings import Settings, load_settings


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


@pytest.mark.parametrize("policy", ["verify", "vote"])
def test_check_says_of_a_policy_that_nobody_has_gained_from_so_far(policy: str) -> None:
    told = settings("law", "general", consensus={"policy": policy}, router={"fast_expert": "e0"})
    [found] = consensus_findings(told)
    assert (found.code, found.value) == ("consensus_without_gain", policy)
    assert "bench consensus" in found.change


@pytest.mark.parametrize("policy", ["auto", "first", "draft"])
def test_check_does_not_speak_of_a_policy_that_changes_no_answer(policy: str) -> None:
    assert consensus_findings(settings("law", "general", consensus={"policy": policy})) == []


@pytest.mark.parametrize("policy", ["auto", "verify"])
def test_load_says_in_the_log_that_nobody_has_gained_from_the_policy(
    policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_team(
        settings("law", "general", consensus={"policy": policy}, router={"fast_expert": "e0"})
    )
    told = [one.getMessage() for one in caplog.records if "docs/consensus.md" in one.getMessage()]
    assert len(told) == (policy == "verify")


def test_policy_that_nobody_has_gained_from_is_no_default() -> None:
    shipped = Path(livemind.__file__).parent / "configs"
    policies = {load_settings(file).consensus.policy for file in shipped.glob("*.json")}
    assert {*policies, ConsensusConfig().policy}.isdisjoint(NO_GAIN)
