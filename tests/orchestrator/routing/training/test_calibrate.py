"""From which probability a route is stable."""

from __future__ import annotations

import numpy as np

from livemind.orchestrator.routing.training.calibrate import RISK, stable_from


def typed(wrong_of: list[bool]) -> tuple[np.ndarray, ...]:
    """Prompts of three words: sure from the second on, which is wrong for some."""
    chances = np.tile([0.5, 0.9, 0.99], len(wrong_of))
    lasted = np.array([ok for wrong in wrong_of for ok in (True, not wrong, True)])
    prompt = np.repeat(np.arange(len(wrong_of)), 3)
    return chances, lasted, prompt


def test_stable_from_is_low_where_early_routes_last() -> None:
    chances, lasted, prompt = typed([False] * 100)
    assert stable_from(chances, lasted, prompt, prompt) < 0.9


def test_stable_from_waits_for_the_word_after_those_that_are_often_wrong() -> None:
    chances, lasted, prompt = typed([number % 10 == 0 for number in range(100)])
    assert 0.9 < stable_from(chances, lasted, prompt, prompt) <= 0.99


def test_stable_from_few_families_promises_nothing() -> None:
    chances, lasted, prompt = typed([False] * 100)
    families = prompt % int(0.5 / RISK)
    assert stable_from(chances, lasted, prompt, families) == 1.0
