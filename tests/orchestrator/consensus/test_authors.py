"""Who is held for an answer, and what happens where the routed expert cannot be loaded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.errors import ExpertOverloaded
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.session import SessionOptions


def options(policy: Any, **given: Any) -> SessionOptions:
    return SessionOptions(pinned="strong", speculation="off", consensus=Consensus(policy, **given))


@pytest.mark.parametrize(
    ("policy", "here"),
    [("auto", "fast"), ("first", "fast"), ("draft", "fast"), ("verify", "third")],
)
@pytest.mark.parametrize("start_s", [0.0, 20.0], ids=["at once", "late"])
def test_leader_that_cannot_load_and_nobody_answers_instead_is_the_error_with_its_retry(
    virtual_run: Any, live: SimpleNamespace, policy: Any, here: str, start_s: float
) -> None:
    async def main() -> None:
        strong = FakeExpert("strong", start_s=start_s)
        strong.start_error = ExpertOverloaded("strong", "no memory", 5.0)
        experts = FakeExpert("fast"), FakeExpert("third"), strong
        async with (
            live.open_stage(*experts, warm=[here]) as stage,
            stage.session(options(policy)) as session,
        ):
            done = live.done_of(await live.answer(session, "tell me"))
        assert (done.status, done.error.status, done.error.retry_after_s) == ("failed", 429, 5.0)

    virtual_run(main())


@pytest.mark.parametrize("policy", ["verify", "vote"])
def test_leader_that_cannot_load_is_replaced_by_who_can_answer(
    virtual_run: Any, live: SimpleNamespace, policy: Any
) -> None:
    async def main() -> None:
        strong = FakeExpert("strong")
        strong.start_error = ExpertOverloaded("strong", "no memory", 5.0)
        async with (
            live.open_stage(FakeExpert("fast"), strong, warm=["fast"]) as stage,
            stage.session(options(policy)) as session,
        ):
            done = live.done_of(await live.answer(session, "tell me"))
        assert (done.status, done.consensus.spans[0].author) == ("completed", "fast")
        assert done.consensus.abstained[0].reason == "no memory"

    virtual_run(main())


@pytest.mark.parametrize("policy", ["auto", "first", "draft"])
def test_fast_expert_that_does_not_draft_is_not_held(
    virtual_run: Any, live: SimpleNamespace, policy: Any
) -> None:
    async def main() -> None:
        experts = FakeExpert("fast"), FakeExpert("strong", token_s=1.0)
        async with (
            live.open_stage(*experts) as stage,
            stage.session(options(policy)) as session,
        ):
            session.request_commit("tell me all")
            await asyncio.sleep(1.5)
            users = {state.expert_id: state.users for state in stage.shared.pool.states()}
            assert users == {"fast": 0, "strong": 1}

    virtual_run(main())


@pytest.mark.parametrize("policy", ["auto", "draft"])
@pytest.mark.parametrize(("answering", "typing"), [("local", "remote"), ("remote", "local")])
def test_answer_of_one_machine_does_not_stop_drafts_on_another(
    virtual_run: Any, live: SimpleNamespace, policy: Any, answering: str, typing: str
) -> None:
    async def main() -> None:
        experts = (
            FakeExpert("fast"),
            FakeExpert("local", token_s=1.0),
            FakeExpert("remote", token_s=1.0, compute_group="remote:x"),
        )
        chosen = Consensus(policy)
        busy = SessionOptions(pinned=answering, speculation="off", consensus=chosen)
        async with (
            live.open_stage(*experts) as stage,
            stage.session(busy) as first,
            stage.session(SessionOptions(pinned=typing, consensus=chosen)) as second,
        ):
            first.request_commit("tell me all of it now")
            await asyncio.sleep(0.1)
            second.replace("a b. ")
            await asyncio.sleep(3)
            done = live.done_of(await live.answer(second))
        assert (done.ledger.draft_adopted, done.ledger.draft_wasted) == (2, 0)

    virtual_run(main())


@pytest.mark.parametrize(("named", "starts"), [(("third",), 1), ((), 0)])
def test_expert_that_was_asked_for_by_name_is_loaded_for_the_next_time(
    virtual_run: Any, live: SimpleNamespace, named: tuple[str, ...], starts: int
) -> None:
    async def main() -> None:
        experts = FakeExpert("fast"), FakeExpert("third"), FakeExpert("strong")
        async with (
            live.open_stage(*experts, warm=["fast", "strong"]) as stage,
            stage.session(options("vote", experts=named)) as session,
        ):
            done = live.done_of(await live.answer(session, "tell me"))
            await asyncio.sleep(1)
            assert experts[1].starts == starts
            assert done.consensus.abstained[0].reason == "not loaded"

    virtual_run(main())
