"""Ledger and budget of turns at a server that does not tell what it found in its cache."""

from __future__ import annotations

from typing import Any

import pytest

from .replica import Replica
from .test_affinity import fleet

LONG = "The rules of the garden. " * 60
TEXT = "what grows best in the shade of an old wall that faces north in a cold wet spring"
WORDS = TEXT.split()


async def turn(doors: Any, words: list[str], commit: str | None = None) -> dict[str, Any]:
    """Type a question word by word, each prepared; return how its turn ended."""
    async with doors.live(configure=False) as live:
        settings = {"model": "far", "speculation": "prefill", "instructions": LONG}
        await live.send(type="session.update", **settings)
        await live.until("session.updated")
        for word in words:
            await live.send(type="input_text.append", text=f"{word} ")
            await live.until("prefill.updated")
        await live.send(type="input_text.commit", **({} if commit is None else {"text": commit}))
        done: dict[str, Any] = await live.until("response.done")
        return done


@pytest.mark.parametrize("details", [True, False])
async def test_ledger_of_a_server_without_details_counts_what_was_new(details: bool) -> None:
    replica = Replica(details=details)
    async with fleet([replica]) as (doors,):
        done = await turn(doors, WORDS)
    ledger, prompt = done["ledger"], done["usage"]["prompt_tokens"]
    assert 0 < ledger["prefill_speculated"] <= 1.1 * prompt
    assert ledger["prefill_adopted"] >= 0.9 * ledger["prefill_speculated"]
    assert ledger["prefill_wasted"] == ledger["prefill_speculated"] - ledger["prefill_adopted"]
    if details:
        assert ledger["cost_multiplier"] == pytest.approx(1.0, abs=0.05)
    else:
        assert ledger["cost_multiplier"] is None
        assert "cached_tokens" not in str(done["usage"]) or done["usage"]["cached_tokens"] is None


async def test_budget_of_a_server_without_details_lasts_for_the_whole_turn() -> None:
    replica = Replica(details=False)
    async with fleet([replica]) as (doors,):
        await turn(doors, WORDS * 2)
    prefills = [body for body, _ in replica.asked if not body.get("stream")]
    assert len(prefills) >= len(WORDS)
    typed = max(len(body["messages"][-1]["content"].split()) for body in prefills)
    assert typed == 2 * len(WORDS)


async def test_ledger_of_a_text_that_was_edited_counts_the_rest_anew() -> None:
    replica = Replica(details=False)
    async with fleet([replica]) as (doors,):
        done = await turn(doors, WORDS[:6], commit="who planted the wall")
    ledger = done["ledger"]
    assert ledger["prefill_adopted"] <= done["usage"]["prompt_tokens"]
    assert ledger["prefill_speculated"] == ledger["prefill_adopted"] + ledger["prefill_wasted"]
