"""Who is asked, and what a vote weighs."""

from __future__ import annotations

import math

import pytest

from livemind.orchestrator.consensus.team import Team

DOMAINS = {"fast": "all", "poet": "verse", "bard": "verse", "coder": "code"}


def test_others_without_measurements_are_the_domain_and_the_fast_expert() -> None:
    team = Team(DOMAINS, "fast")
    assert team.others("poet") == ("fast", "bard")
    assert team.others("coder") == ("fast",)


def test_others_measured_are_those_right_more_often_than_not() -> None:
    accuracy = {
        "fast": {"verse": 0.8},
        "bard": {"verse": 0.3},
        "coder": {"verse": 0.9, "code": 0.9},
    }
    assert Team(DOMAINS, "fast", accuracy).others("poet") == ("coder", "fast")


@pytest.mark.parametrize(
    ("share", "expected"), [(0.9, math.log(9)), (0.0, math.log(51 / 49)), (1.0, math.log(99))]
)
def test_weight_of_a_measured_share_is_its_log_odds_within_bounds(
    share: float, expected: float
) -> None:
    team = Team(DOMAINS, None, {"poet": {"verse": share}})
    assert team.weight("poet", "verse") == pytest.approx(expected)


def test_weight_of_an_unmeasured_expert_counts_for_something() -> None:
    assert 0 < Team(DOMAINS).weight("poet", "verse") < math.log(9)
