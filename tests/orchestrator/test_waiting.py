"""A newer request of the same session wins: nothing is refused, nothing is lost."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import GenerationParams, Message
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.errors import ErrorInfo, Overloaded
from livemind.orchestrator.options import SessionOptions
from livemind.orchestrator.waiting import MAX_WAITING_COMMITS, Update, Waiting

PINNED = SessionOptions(pinned="strong", speculation="off")


def strong(**given_: Any) -> FakeExpert:
    return FakeExpert("strong", **{"prefill_token_s": 0.01, "token_s": 0.1, **given_})


def said(session: Any) -> list[str]:
    return [message.content for message in session.conversation]


def statuses(stage: Any) -> list[str]:
    return [done.status for done in stage.done]


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.03, 0.15, 0.2])
@pytest.mark.parametrize("speculation", ["off", "draft"])
def test_commit_while_a_turn_is_answered_takes_its_place(
    virtual_run: Any, live: SimpleNamespace, after_s: float, speculation: Any
) -> None:
    async def main() -> None:
        options = replace(PINNED, speculation=speculation)
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            first = session.request_commit("one two three")
            await asyncio.sleep(after_s)
            second = session.request_commit("four five")
            assert first != second
            await asyncio.sleep(2)
            assert [done.response_id for done in stage.done] == [first, second]
            assert statuses(stage) == ["cancelled", "completed"]
            assert said(session)[0] == "one two three"
            assert said(session)[-2:] == ["four five", "FOUR FIVE"]
            assert stage.experts["strong"].running == 0

    virtual_run(main())


def test_commit_after_one_that_waits_leaves_both_texts_and_ends_each_turn_once(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            ids = [session.request_commit("one two three")]
            await asyncio.sleep(0.2)
            ids += [session.request_commit("four"), session.request_commit("five six")]
            await asyncio.sleep(2)
            assert [done.response_id for done in stage.done] == ids
            assert statuses(stage) == ["cancelled", "cancelled", "completed"]
            assert said(session) == ["one two three", "ONE TWO", "four", "five six", "FIVE SIX"]
            assert stage.experts["strong"].started == 2

    virtual_run(main())


def test_cancel_and_commit_in_one_go_answers_what_was_typed_meanwhile(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two three")
            await asyncio.sleep(0.2)
            session.append("four ")
            session.cancel()
            session.append("five")
            session.request_commit()
            await asyncio.sleep(2)
            assert statuses(stage) == ["cancelled", "completed"]
            assert said(session)[-1] == "FOUR FIVE"

    virtual_run(main())


def test_text_typed_behind_a_waiting_commit_is_the_next_turns(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two three")
            await asyncio.sleep(0.2)
            session.request_commit("four")
            session.append("five")
            assert session.text == "five"
            await asyncio.sleep(2)
            assert (session.answering, session.text) == (False, "five")
            assert len(stage.done) == 2

    virtual_run(main())


def test_turn_that_takes_anothers_place_needs_no_place_of_its_own(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        places = [1]

        def admit() -> Any:
            if not places:
                raise Overloaded("full")
            places.pop()
            return lambda: places.append(1)

        async with live.open_stage(strong()) as stage:
            session = stage.session(PINNED)
            session._admit = admit
            async with session:
                session.request_commit("one two three")
                await asyncio.sleep(0.2)
                session.request_commit("four")
                await asyncio.sleep(2)
                assert (statuses(stage), places) == (["cancelled", "completed"], [1])

    virtual_run(main())


def test_cancel_of_one_response_leaves_a_newer_one_alone(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            first = session.request_commit("one two three")
            await asyncio.sleep(0.2)
            session.request_commit("four")
            session.cancel(response_id=first)
            await asyncio.sleep(0.02)
            session.cancel(response_id=first)
            await asyncio.sleep(2)
            assert statuses(stage) == ["cancelled", "completed"]

    virtual_run(main())


def test_cancel_of_a_waiting_commit_ends_it_with_its_reason(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two three")
            await asyncio.sleep(0.2)
            second = session.request_commit("four")
            session.cancel(ErrorInfo(504, "late", "timeout", None, "timeout"), response_id=second)
            await asyncio.sleep(2)
            assert statuses(stage) == ["cancelled", "failed"]
            assert said(session)[-1] == "four"

    virtual_run(main())


def test_closed_session_ends_commits_that_wait(virtual_run: Any, live: SimpleNamespace) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage:
            async with stage.session(PINNED) as session:
                session.request_commit("one two three")
                await asyncio.sleep(0.2)
                session.request_commit("four")
                session.request_commit("five")
            assert statuses(stage) == ["cancelled"] * 3
            seen = [event async for event in session.events()]
            done = [event for event in seen if isinstance(event, events.ResponseDone)]
            assert len(done) == 3

    virtual_run(main())


def test_commits_over_the_number_that_may_wait_are_refused_with_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two three")
            await asyncio.sleep(0.2)
            for number in range(MAX_WAITING_COMMITS):
                session.request_commit(f"text {number}")
            with pytest.raises(Overloaded, match=f"{MAX_WAITING_COMMITS} turns"):
                session.request_commit("one too many")

    virtual_run(main())


def test_update_while_a_turn_is_answered_is_for_the_next_one(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        seen: list[list[str]] = []

        def remember(messages: Any) -> str:
            seen.append([message.content for message in messages])
            return "a b c"

        async with (
            live.open_stage(strong(answer=remember)) as stage,
            stage.session(PINNED) as session,
        ):
            session.request_commit("one")
            session.update(
                replace(PINNED, instructions="be brief", params=GenerationParams(max_tokens=2))
            )
            assert session.options.instructions == "be brief"
            await asyncio.sleep(2)
            session.request_commit("two")
            await asyncio.sleep(2)
            assert seen == [["one"], ["be brief", "one", "a b c", "two"]]
            assert [done.finish_reason for done in stage.done] == ["stop", "length"]

    virtual_run(main())


def test_history_given_while_a_turn_is_answered_takes_the_place_of_what_that_leaves(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    """A client that was interrupted sends what was heard; the running turn is not there twice."""

    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.request_commit("one two three")
            await asyncio.sleep(0.2)
            heard = (Message("user", "one two three"), Message("assistant", "ONE"))
            session.update(PINNED, heard)
            session.request_commit("four")
            await asyncio.sleep(2)
            assert said(session) == ["one two three", "ONE", "four", "FOUR"]
            assert len(stage.done) == 2

    virtual_run(main())


def test_updates_in_a_row_are_one_and_keep_the_conversation_that_was_given() -> None:
    waiting, said = Waiting(), (Message("user", "one"),)
    waiting.put(Update(PINNED, said))
    waiting.put(Update(replace(PINNED, retrieval=True), None))
    assert waiting.take() == Update(replace(PINNED, retrieval=True), said)
    assert waiting.take() is None


@pytest.mark.parametrize("seed", range(4))
def test_two_hundred_requests_at_random_moments_each_end_exactly_once(
    virtual_run: Any, live: SimpleNamespace, seed: int
) -> None:
    """Every delay is drawn anew: of the model, of the retrieval, of the user."""

    class Moody(FakeExpert):
        async def _compute(self, prompt: Any) -> int:
            self.ttft_s, self.token_s = chance.uniform(0, 0.1), chance.uniform(0, 0.1)
            return await super()._compute(prompt)

    chance = random.Random(seed)

    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361"})
        options = SessionOptions(retrieval=True, params=GenerationParams(max_tokens=8))
        async with live.open_stage(
            FakeExpert("fast", max_model_len=400),
            Moody("strong", max_model_len=400),
            words={"kestrel": "strong"},
            retriever=retriever,
        ) as stage:
            session = stage.session(options, commit_wait_s=0.06)
            seen: list[events.Event] = []

            async def read() -> None:
                async for event in session.events():
                    seen.append(event)

            async with asyncio.TaskGroup() as group:
                reader = group.create_task(read())
                async with session:
                    ids = []
                    for number in range(200):
                        retriever.delay_s = chance.uniform(0, 0.7)
                        stage.router.delay_s = chance.uniform(0, 0.1)
                        text = f"what is kestrel {number}?"
                        if chance.random() < 0.5:
                            session.replace(text[: chance.randrange(len(text))])
                            await asyncio.sleep(chance.uniform(0, 0.5))
                        if chance.random() < 0.3:
                            session.cancel()
                        ids.append(session.request_commit(text))
                        await asyncio.sleep(chance.choice([0, 0.01, 0.1, 0.4, 1.0]))
                    await asyncio.sleep(5)
                await reader
            ended = [event for event in seen if isinstance(event, events.ResponseDone)]
            assert [event.response_id for event in ended] == ids
            assert ended[-1].status == "completed"
            assert {event.status for event in ended} <= {"completed", "cancelled"}
            asked = [item.text for item in session.items if item.role == "user"]
            assert asked == [f"what is kestrel {number}?" for number in range(200)]
            assert not any(expert.running for expert in stage.experts.values())

    virtual_run(main())
