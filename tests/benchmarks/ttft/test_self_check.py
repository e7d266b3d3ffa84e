from __future__ import annotations

import io

import pytest
from rich.console import Console

from livemind.benchmarks.figures.answer import Answer
from livemind.benchmarks.harness.fake_server import WORD
from livemind.benchmarks.ttft import self_check


async def test_self_check_knows_the_truth_and_measures_close_to_it() -> None:
    checked = await self_check.self_check(4, Console(file=io.StringIO()))
    names = [case["name"] for case in checked["cases"]]
    assert names == ["chat", "live", "chat, 16 users", "live, 16 users"]
    for case in checked["cases"]:
        assert case["error_ms"]["n"] == case["known_ttft_ms"]["n"] == 4
        assert case["known_ttft_ms"]["p50"] >= self_check.TTFT_MS
        assert 0 < case["error_ms"]["p50"] < case["known_ttft_ms"]["p50"]
    errors = [case["error_ms"]["p99"] for case in checked["cases"][:2]]
    assert checked["summary"]["harness.error_ms.p99"] == max(errors)


def test_error_is_the_distance_from_the_servers_own_time_either_way() -> None:
    early = Answer("completed", committed_s=0.0, pieces_s=[0.019])
    late = Answer("completed", committed_s=0.0, pieces_s=[0.023])
    found = self_check._errors({"a": early, "b": late}, {"a": (5.0, 5.02), "b": (7.0, 7.02)})
    assert found["error_ms"]["p50"] == pytest.approx(2.0)
    assert found["error_ms"]["max"] == pytest.approx(3.0)
    assert found["known_ttft_ms"]["mean"] == pytest.approx(20.0)


async def test_self_check_answers_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Answer] = []
    errors = self_check._errors

    def keep(found: dict[str, Answer], record: dict[str, tuple[float, float]]) -> object:
        seen.extend(found.values())
        return errors(found, record)

    monkeypatch.setattr(self_check, "_errors", keep)
    await self_check.self_check(1, Console(file=io.StringIO()))
    assert {answer.text for answer in seen} == {WORD * self_check.TOKENS}
