"""Retrieval of a session: passages while the text grows, at the commit, and where it fails."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Message
from livemind.orchestrator import events
from livemind.orchestrator.session import SessionOptions
from livemind.orchestrator.turn.values import Policy
from livemind.orchestrator.words import fold
from livemind.rag.base import Passage, RetrievalResult

from .conftest import PINNED, QUESTION, strong


def test_documents_freeze_when_the_text_says_enough_and_stand_before_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361", "wren": "wren port 7"})
        prompts: list[tuple[Message, ...]] = []

        def record(messages: tuple[Message, ...]) -> str:
            prompts.append(tuple(messages))
            return "ok"

        options = SessionOptions(pinned="strong", retrieval=True)
        async with (
            live.open_stage(strong(answer=record), retriever=retriever) as stage,
            stage.session(options) as session,
        ):
            await live.type_text(session, "of kestrel please give me the port number ")
            seen = await live.answer(session)
            stable = [e.stable for e in seen if isinstance(e, events.RetrievalUpdated)]
            assert stable[-1]
            assert [m.role for m in prompts[-1]] == ["documents", "user"]
            assert "kestrel port 361" in prompts[-1][0].content
            assert live.done_of(seen).timings.retrieval_lead_ms > 0

    virtual_run(main())


@pytest.mark.parametrize(
    ("consistency", "roles"),
    [("final", ["documents", "user"]), ("early", ["documents", "user", "documents"])],
)
def test_passage_found_after_the_freeze_stands_behind_the_text_where_early_ones_count(
    virtual_run: Any, live: SimpleNamespace, consistency: str, roles: list[str]
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361", "wren": "wren port 7"})
        prompts: list[tuple[Message, ...]] = []

        def record(messages: tuple[Message, ...]) -> str:
            prompts.append(tuple(messages))
            return "ok"

        options = SessionOptions(pinned="strong", retrieval=True, speculation="prefill")
        async with (
            live.open_stage(strong(answer=record), retriever=retriever) as stage,
            stage.session(options, consistency=consistency) as session,
        ):
            await live.type_text(session, "of kestrel please give me the port number ")
            final = "of kestrel please give me the port number and of wren"
            done = live.done_of(await live.answer(session, final))
            assert [m.role for m in prompts[-1]] == roles
            found = [m.content for m in prompts[-1] if m.role == "documents"]
            assert "\n".join(found) == "[1] kestrel port 361\n[2] wren port 7"
            assert done.documents.final

    virtual_run(main())


@pytest.mark.parametrize("fault", ["broken", "slow"])
def test_dead_retrieval_answers_without_documents_and_says_so(
    virtual_run: Any, live: SimpleNamespace, fault: str
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "x"}, delay_s=30.0 if fault == "slow" else 0.01)
        retriever.broken = fault == "broken"
        options = SessionOptions(pinned="strong", retrieval=True)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(options) as session,
        ):
            seen = await live.answer(session, QUESTION)
            done = live.done_of(seen)
            assert done.status == "completed"
            assert done.degraded == ("unreachable" if fault == "broken" else "timeout",)
            assert done.timings.ttft_ms < 1500

    virtual_run(main())


def test_commit_after_a_cancel_while_the_text_was_retrieved_answers(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361"}, delay_s=0.3)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(replace(PINNED, retrieval=True)) as session,
        ):
            session.replace(QUESTION)
            await asyncio.sleep(0.2)
            assert retriever.running == 1
            session.cancel()
            done = live.done_of(await live.answer(session))
            assert (done.status, done.degraded) == ("completed", ())
            assert session.conversation[0].role == "documents"

    virtual_run(main())


def test_degraded_result_of_the_same_text_is_retrieved_again_at_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361"})
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(replace(PINNED, retrieval=True, speculation="prefill")) as session,
        ):
            retriever.broken = True
            session.replace(QUESTION)
            await asyncio.sleep(1)
            retriever.broken = False
            done = live.done_of(await live.answer(session))
            assert done.degraded == ()
            assert session.conversation[0].role == "documents"

    virtual_run(main())


def test_retrieval_under_way_is_not_begun_anew_by_the_commit(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "kestrel port 361"}, delay_s=0.3)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(replace(PINNED, retrieval=True)) as session,
        ):
            session.replace(QUESTION)
            await asyncio.sleep(0.28)
            done = live.done_of(await live.answer(session))
            assert (retriever.asked, done.degraded) == ([fold(QUESTION)], ())

    virtual_run(main())


def test_raising_retriever_degrades_the_answer_and_spares_the_session(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    class Raising:
        async def retrieve(self, query: str, **given: Any) -> RetrievalResult:
            raise RuntimeError("secret query")

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        async with (
            live.open_stage(strong(), retriever=Raising()) as stage,
            stage.session(replace(PINNED, retrieval=True)) as session,
        ):
            for text in ("first one", "second one"):
                seen = await live.answer(session, text)
                assert live.done_of(seen).degraded == ("failed",)
                assert live.text_of(seen) == text.upper()

    virtual_run(main())


class ByText:
    """Answers each text after its own time, whatever deadline it is given."""

    def __init__(self, **delays_s: float) -> None:
        self.delays_s = {text.replace("_", " "): delay_s for text, delay_s in delays_s.items()}

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        await asyncio.sleep(self.delays_s.get(query, 0.01))
        return RetrievalResult(revision, (Passage(query, "f.md", f"about {query}", 1.0),))

    async def aclose(self) -> None:
        pass


RETRIEVING = SessionOptions(retrieval=True, speculation="prefill")


def test_commit_of_a_shorter_text_takes_the_retrieval_that_runs_for_it(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    """A final transcript shorter than the last partial: a newer revision has been answered."""

    async def main() -> None:
        retriever = ByText(what_is_the_harbour=0.4, what_is_the_harbour_of=0.05)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(RETRIEVING, pinned="strong", retrieval=True) as session,
        ):
            session.replace("what is the harbour ")
            await asyncio.sleep(0.1)
            session.replace("what is the harbour of ")
            await asyncio.sleep(0.15)
            began_s = asyncio.get_running_loop().time()
            seen = await live.answer(session, "what is the harbour")
            assert asyncio.get_running_loop().time() - began_s < 1.5
            done = live.done_of(seen)
            assert done.status == "completed"
            assert done.documents.before == ("what is the harbour",)

    virtual_run(main())


def test_update_retrieval_off_takes_the_passages_away(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        text = "what is the harbour of the big town on the coast "
        async with (
            live.open_stage(strong(), retriever=ByText()) as stage,
            stage.session(RETRIEVING, pinned="strong", retrieval=True) as session,
        ):
            session.replace(text)
            await asyncio.sleep(0.3)
            session.update(replace(RETRIEVING, retrieval=False))
            done = live.done_of(await live.answer(session))
            assert (done.documents.before, done.documents.behind) == ((), ())
            assert "about" not in "".join(message.content for message in session.conversation[:-1])

    virtual_run(main())


def test_retriever_that_ignores_its_deadline_does_not_hold_the_answer(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong(), retriever=ByText(hello_big_world=3.0)) as stage,
            stage.session(RETRIEVING, pinned="strong", retrieval=True) as session,
        ):
            began_s = asyncio.get_running_loop().time()
            stream = session.commit("hello big world")
            async for event in stream:
                if isinstance(event, events.ResponseTextDelta):
                    break
            waited_s = asyncio.get_running_loop().time() - began_s
            assert waited_s < Policy().retrieve_deadline_s + 0.05 + 0.5  # and the first token
            rest = [event async for event in stream]
            assert rest[-1].degraded == ("timeout",)

    virtual_run(main())


def test_turns_whose_last_words_find_others_keep_later_turns_from_following_them(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    text = "of kestrel and of every other bird that lives here please give me the port number "

    async def main() -> None:
        retriever = live.retriever({"kestrel": "port 361", "wren": "port 7", "robin": "port 9"})
        async with live.open_stage(strong(), retriever=retriever) as stage:
            outlooks = [stage.shared.outlook]
            options = SessionOptions(pinned="strong", retrieval=True)
            async with stage.session(options) as first:
                for _ in range(3):
                    await live.type_text(first, text)
                    await live.answer(first, f"{text}wren")
                    outlooks.append(stage.shared.outlook)
            async with stage.session(options) as other:
                assert other._loop.state.docs.outlook == outlooks[-1]
                await live.type_text(other, f"{text}robin ")
                await live.answer(other)
                assert other._loop.state.docs.outlook == stage.shared.outlook
            expected = [outlook.expected((2, 2)) for outlook in (*outlooks, stage.shared.outlook)]
            assert expected == sorted(expected, reverse=True)
            assert len(set(expected)) == 5

    virtual_run(main())


def test_turn_that_is_cancelled_before_its_documents_came_teaches_nothing(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        retriever = live.retriever({"kestrel": "port 361", "wren": "port 7"})
        options = SessionOptions(pinned="strong", retrieval=True)
        async with (
            live.open_stage(strong(), retriever=retriever) as stage,
            stage.session(options) as session,
        ):
            before = stage.shared.outlook
            await live.type_text(
                session, "of kestrel and every other bird please give me the port "
            )
            assert session._loop.state.docs.seen
            retriever.delay_s = 0.5
            session.request_commit("of kestrel and every other bird give me the port of wren")
            await asyncio.sleep(0.01)
            session.cancel()
            await asyncio.sleep(1.0)
            assert [done.status for done in stage.done] == ["cancelled"]
            assert stage.shared.outlook == before

    virtual_run(main())
