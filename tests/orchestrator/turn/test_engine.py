"""The engine by itself: what it does with actions that follow each other closely."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.backends.pool.pool import Pool
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.events import ResponseTextDelta
from livemind.orchestrator.gate import SpeculationGate
from livemind.orchestrator.routing.router import Router
from livemind.orchestrator.turn.engine import Engine
from livemind.orchestrator.turn.shared import Shared
from livemind.orchestrator.turn.values import Prefill

WORDS = (Message("user", " ".join(f"word{number}" for number in range(40)) + " "),)


class Heard:
    """Remembers what was prefilled; the rest is of no interest here."""

    def __init__(self) -> None:
        self.ready: dict[tuple[str, int], int] = {}

    def prefilled(self, expert: str, revision: int, ready: int, *rest: object) -> None:
        self.ready[expert, revision] = ready

    def __getattr__(self, name: str) -> Any:
        return lambda *given: None


@pytest.mark.parametrize("between_s", [None, 0.0, 0.05], ids=["at once", "a tick", "later"])
def test_prefill_aimed_away_and_back_is_taken_up_again(
    virtual_run: Any, between_s: float | None
) -> None:
    async def main() -> None:
        fakes = {
            name: FakeExpert(name, prefill_token_s=0.002, block_tokens=4) for name in ("a", "b")
        }
        specs = [ExpertSpec(name, model_path="fake") for name in fakes]
        heard = Heard()
        async with Pool(
            specs, create=lambda spec: fakes[spec.expert_id], max_loaded=2, warm=list(fakes)
        ) as pool:
            shared = Shared(pool, Router(None, {}, (), "a"), SpeculationGate(8, 4, 25))
            async with Engine(shared, heard, "s", "s") as engine:
                for revision, name in enumerate("aba", 1):
                    engine.prefill(Prefill((name,), WORDS, revision, 10_000))
                    if revision == 1:
                        await asyncio.sleep(0.01)
                    elif between_s is not None:
                        await asyncio.sleep(between_s)
                await asyncio.sleep(1.0)
        assert heard.ready["a", 3] == 40

    virtual_run(main())


def test_router_that_never_hurries_does_not_hold_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    """A router of the embedding program; the default expert answers meanwhile."""

    async def main() -> None:
        fakes = [FakeExpert(name, prefill_token_s=0.01, token_s=0.02) for name in ("fast", "other")]
        async with live.open_stage(*fakes) as stage, stage.session() as session:
            stage.router.delay_s = 30.0
            began_s = asyncio.get_running_loop().time()
            stream = session.commit("hello big world")
            async for event in stream:
                if isinstance(event, ResponseTextDelta):
                    break
            waited_s = asyncio.get_running_loop().time() - began_s
            rest = [event async for event in stream]
            assert live.done_of(rest).status == "completed"
            assert waited_s < 3.0

    virtual_run(main())
