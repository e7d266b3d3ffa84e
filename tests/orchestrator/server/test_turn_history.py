"""The last day in numbers: hours, slowest turns, what is forgotten, and who may read it."""

from __future__ import annotations

from typing import Any

from livemind.orchestrator.events import Ledger, ResponseDone, Timings
from livemind.orchestrator.server.turn_history import HOUR_S, HOURS, SLOWEST, TurnHistory


class Clock:
    def __init__(self) -> None:
        self.now_s = 10 * HOUR_S + 60.0

    def __call__(self) -> float:
        return self.now_s


def turn(
    ttft_ms: float | None, without_ms: float | None = None, wasted: int = 0, **given: Any
) -> ResponseDone:
    timings = Timings(ttft_ms=ttft_ms, estimated_ttft_ms_without=without_ms)
    ledger = Ledger(prefill_speculated=10 + wasted, prefill_adopted=10, prefill_wasted=wasted)
    return ResponseDone("resp_1", 1, given.pop("status", "completed"), timings=timings,
                        ledger=ledger, **given)  # fmt: skip


def test_turns_of_an_hour_are_summed_and_compared_only_where_both_times_are_known() -> None:
    clock = Clock()
    history = TurnHistory(clock)
    for done in (turn(10, 100, wasted=2), turn(30), turn(None, status="failed")):
        history.saw(done)
    clock.now_s += HOUR_S
    history.saw(turn(5, 50))
    first, second = history.told()["hours"]
    assert first["began_s"] == 10 * HOUR_S
    assert (first["turns"], first["failed"], first["ttft_turns"]) == (3, 1, 2)
    assert (first["ttft_ms"], first["compared_turns"]) == (40, 1)
    assert (first["with_ms"], first["without_ms"]) == (10, 100)
    assert (first["prefill_speculated"], first["prefill_wasted"]) == (32, 2)
    assert (second["turns"], second["with_ms"]) == (1, 5)


def test_slowest_turns_are_kept_slowest_first_and_no_more_than_the_limit() -> None:
    history = TurnHistory(Clock())
    for number in range(3 * SLOWEST):
        history.saw(turn(float((number * 7) % (3 * SLOWEST))))
    kept = [one["timings"] for one in history.told()["slowest"]]
    expected = [float(n) for n in range(3 * SLOWEST - 1, 2 * SLOWEST - 1, -1)]
    assert [timing["ttft_ms"] for timing in kept] == expected  # type: ignore[index]


def test_turns_older_than_a_day_are_forgotten() -> None:
    clock = Clock()
    history = TurnHistory(clock)
    history.saw(turn(1000))
    clock.now_s += HOURS * HOUR_S + 2 * HOUR_S
    assert history.told() == {"hours": [], "slowest": []}
    for _ in range(3 * HOURS):
        clock.now_s += HOUR_S
        history.saw(turn(1))
    assert len(history.told()["hours"]) <= HOURS + 1


async def test_turns_are_told_in_numbers_to_operators_alone(serve: Any) -> None:
    async with serve(api_keys=["right"]) as doors:
        bearer = {"Authorization": "Bearer right"}
        await doors.ask("POST", "/v1/chat/completions", headers=bearer,
                        json={"messages": [{"role": "user", "content": "a secret"}]})  # fmt: skip
        assert (await doors.ask("GET", "/stats/turns"))[0] == 401
        status, told = await doors.ask("GET", "/stats/turns", headers=bearer)
        assert status == 200
        assert told["hours"][-1]["turns"] == 1
        assert told["slowest"][0]["expert"] == "fake"
        assert "secret" not in str(told).lower()
