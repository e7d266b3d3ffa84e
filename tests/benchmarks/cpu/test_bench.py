"""The benchmark of one processor: prompts of a round, figures, shares of the machine, ratios."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from livemind.benchmarks.cpu import bench
from livemind.benchmarks.cpu.engines import Timed
from livemind.benchmarks.cpu.meaning import meaning
from livemind.benchmarks.cpu.tables import tables
from livemind.benchmarks.cpu.work import FIGURES, PROMPT_TOKENS, Measured, Prompts, turn
from livemind.benchmarks.kernels.measure import Limits
from livemind.benchmarks.reporting.charts.cpu import charts


class Steady:
    """An engine of one speed: a second a thousand prompt tokens, 10 ms a token."""

    weight_bytes = 10**8

    def __init__(self) -> None:
        self.told = {"dtype": "bfloat16", "quantization": "q8"}
        self.asked: list[int] = []

    async def answer(self, prompt: Sequence[int], tokens: int) -> Timed:
        self.asked.append(len(prompt))
        first_s = len(prompt) / 1000
        await asyncio.sleep(0.001)
        return Timed(first_s, first_s + 0.01 * (tokens - 1), tokens)

    async def scores(self, tokens: Sequence[int]) -> list[float]:
        return [-1.0] * (len(tokens) - 1)


def found(**rates: list[float]) -> dict[str, Measured]:
    arms = {"llama.cpp": 1.0, "livemind": 2.0}
    return {
        arm: Measured(
            {"dtype": "bfloat16", "quantization": None},
            10**8,
            {figure: [factor * rate for rate in rates[figure]] for figure in FIGURES},
        )
        for arm, factor in arms.items()
    }


def content(limits: Limits | None = None) -> dict[str, Any]:
    arms = found(prefill=[1000.0, 1200.0], decode=[50.0, 60.0], streams=[80.0, 90.0])
    cases = [bench._case(name, arms, 134_515_008, limits) for name in arms]
    return {
        "config": {"streams": 4},
        "limits": None if limits is None else limits.as_json(),
        "absent": {"vllm": "not here"},
        "cases": cases,
        "summary": bench._summary(cases),
    }


async def test_turn_asks_for_the_three_figures_and_computes_rates() -> None:
    engine = Steady()
    rates = await turn(engine, Prompts.draw(1))
    assert engine.asked == [PROMPT_TOKENS, 32, 32, 32, 32, 32]
    assert rates["prefill"] == pytest.approx(1000.0)
    assert rates["decode"] == pytest.approx(100.0)
    assert rates["streams"] > 0


def test_prompts_of_a_seed_are_the_same_and_of_another_share_no_beginning() -> None:
    first, again, other = Prompts.draw(1), Prompts.draw(1), Prompts.draw(2)
    assert first == again
    assert first.long[:4] != other.long[:4]
    assert first.at_once[0] != first.at_once[1]


def test_case_says_its_share_of_the_machine_and_of_llama_cpp() -> None:
    case = content(Limits(read_gb_per_s=20.0, gflop_per_s=1000.0))["cases"][1]
    assert case["share_of_limit"]["prefill"] == pytest.approx(2 * 134_515_008 * 2200 / 1e12)
    assert case["share_of_limit"]["decode"] == pytest.approx(1e8 * 110 / 20e9)
    assert case["over_llama_cpp"]["decode"]["p50"] == pytest.approx(2.0)
    assert content()["cases"][1]["share_of_limit"] == {"prefill": None, "decode": None}


def test_report_is_shown_with_what_is_absent_and_drawn() -> None:
    shown = content(Limits(20.0, 1000.0))
    first, second = tables(shown)
    assert [row[0] for row in first.rows] == ["llama.cpp", "livemind"]
    assert "vllm: not here" in first.note
    assert len(second.rows) == len(FIGURES)
    assert len(list(charts(shown))) == len(FIGURES)
    assert all(meaning(name) for name in shown["summary"])
    assert meaning("cpu.unknown") == ""


def test_report_has_the_perplexities_and_each_over_llama_cpps() -> None:
    shown = content()
    shown["config"]["text_tokens"] = 512
    shown["perplexity"] = {"llama.cpp": 20.0, "livemind": 20.5}
    summary = bench._predicted(shown["perplexity"])
    assert summary == {
        "cpu.llama.cpp.perplexity": 20.0,
        "cpu.livemind.perplexity": 20.5,
        "cpu.livemind.perplexity_over_llama_cpp": pytest.approx(1.025),
    }
    assert all(meaning(name) for name in summary)
    shown["summary"] |= summary
    [table] = [one for one in tables(shown) if "Perplexity" in one.title]
    assert [row[0] for row in table.rows] == ["llama.cpp", "livemind"]
