"""The whole engine on fake experts: what it refuses, counts and leaves out."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from livemind.backends.base import GenerationParams, Message
from livemind.backends.errors import ExpertUnavailable, PromptRejected
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import assembly
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.errors import InvalidRequest, NotFound, Overloaded, Unavailable
from livemind.orchestrator.events import Event, ResponseDone, ResponseTextDelta
from livemind.orchestrator.live_mind import LiveMind
from livemind.rag.base import Embedder, RetrievalResult
from livemind.rag.encoder.embedder import EmbedderUnavailable
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.kinds import EncoderKind

TWO = ("poet", "coder")

ONE_TURN = {"max_concurrent_turns": 1, "max_waiting_turns": 0}


def settings(*names: str, **sections: Any) -> Settings:
    """Return settings of experts whose domain is their name."""
    experts = [{"expert_id": n, "model_path": f"./{n}", "domain": n} for n in names]
    lazy = {"memory_threshold": 1.0, "max_loaded_experts": len(names), "warmup_pool_size": 1}
    domains = {"poet": {"examples": ["write a rhyme"]}, "coder": {"examples": ["fix my python"]}}
    base = {"lazy_loading": lazy, "domains": {n: domains[n] for n in names if len(names) > 1}}
    return Settings.model_validate({"experts": experts, **base, **sections})


def no_embedder() -> Embedder:
    raise EmbedderUnavailable("not installed")


class Nothing:
    """A retriever that finds nothing."""

    async def retrieve(self, query: str, *, revision: int, **given: Any) -> RetrievalResult:
        return RetrievalResult(revision, ())

    async def aclose(self) -> None:
        pass


class Minds:
    """Opens LiveMinds on fake experts and keeps those that were created."""

    def __init__(self) -> None:
        self.experts: dict[str, FakeExpert] = {}
        self.start_error: ExpertUnavailable | None = None

    def make(self, given: Settings, **more: Any) -> LiveMind:
        def create(spec: Any) -> FakeExpert:
            expert = self.experts.setdefault(spec.expert_id, FakeExpert(spec.expert_id))
            expert.start_error = self.start_error
            return expert

        return LiveMind(given, create=create, **{"embedder": FakeEmbedder, **more})

    @asynccontextmanager
    async def open(self, given: Settings, **more: Any) -> AsyncIterator[LiveMind]:
        async with self.make(given, **more) as mind:
            yield mind


@pytest.fixture
def minds() -> Minds:
    return Minds()


async def ask(mind: LiveMind, text: str, **given: Any) -> list[Event]:
    async with mind.session(**given) as session:
        return [event async for event in session.commit(text)]


def done_of(events: list[Event]) -> ResponseDone:
    assert isinstance(events[-1], ResponseDone)
    return events[-1]


async def test_unknown_model_is_refused_by_name(minds: Minds) -> None:
    async with minds.open(settings(*TWO)) as mind:
        with pytest.raises(NotFound, match="'gpt'; there are poet, coder, auto") as refused:
            mind.session(model="gpt")
        assert (refused.value.param, refused.value.code) == ("model", "model_not_found")
        with pytest.raises(NotFound):
            await anext(mind.complete("text", GenerationParams(), model="gpt"))


@pytest.mark.parametrize("model", [None, "auto"])
async def test_unnamed_model_is_routed_on_the_text(minds: Minds, model: str | None) -> None:
    async with minds.open(settings(*TWO)) as mind:
        done = done_of(await ask(mind, "please fix my python", model=model))
        assert done.expert == "coder"


async def test_named_model_answers_whatever_the_text(minds: Minds) -> None:
    async with minds.open(settings(*TWO)) as mind:
        done = done_of(await ask(mind, "please fix my python", model="poet"))
        assert done.expert == "poet"


async def test_session_over_the_limit_is_refused_until_one_closes(minds: Minds) -> None:
    async with minds.open(settings("poet", server={"max_sessions": 1})) as mind:
        async with mind.session():
            with pytest.raises(Overloaded, match="1 sessions") as refused:
                mind.session()
            assert refused.value.retry_after_s == 5.0
        async with mind.session():
            pass


async def test_turn_over_the_limit_is_refused_until_one_ends(minds: Minds) -> None:
    async with (
        minds.open(settings("poet", server=ONE_TURN)) as mind,
        mind.session() as first,
        mind.session() as second,
    ):
        answer = first.commit("one")
        await anext(answer)
        with pytest.raises(Overloaded, match="1 answers") as refused:
            second.request_commit("two")
        assert (refused.value.retry_after_s, refused.value.code) == (1.0, "too_many_turns")
        assert [event async for event in answer][-1].type == "response.done"
        assert done_of([event async for event in second.commit("two")]).status == "completed"


async def test_turn_over_the_limit_waits_until_one_ends_or_it_has_waited_too_long(
    minds: Minds,
) -> None:
    server = {"max_concurrent_turns": 1, "turn_wait_s": 0.05}
    async with (
        minds.open(settings("poet", server=server)) as mind,
        mind.session() as first,
        mind.session() as second,
    ):
        minds.experts["poet"].ttft_s = 3600
        answer = first.commit("one")
        while (await anext(answer)).type != "response.created":
            pass
        done = done_of([event async for event in second.commit("two")])
        assert done.error is not None
        assert (done.status, done.error.status, done.error.code) == (
            "failed",
            429,
            "too_many_turns",
        )
        assert "server.turn_wait_s" in done.error.message
        later = asyncio.ensure_future(everything(second.commit("three")))
        await asyncio.sleep(0.01)
        assert mind.stats()["waiting"] == 1
        minds.experts["poet"].ttft_s = 0
        first.cancel()
        assert [event async for event in answer][-1].type == "response.done"
        assert done_of(await later).status == "completed"
        assert mind.stats()["waiting"] == 0


async def everything(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_refused_turn_leaves_the_session_as_it_was(minds: Minds) -> None:
    async with (
        minds.open(settings("poet", server=ONE_TURN)) as mind,
        mind.session() as first,
        mind.session() as second,
    ):
        first.request_commit("one")
        second.replace("two", 5)
        with pytest.raises(Overloaded):
            second.request_commit(revision=6)
        assert (second.text, second.revision, second.answering) == ("two", 5, False)


async def test_raw_completion_counts_as_a_turn_until_closed(minds: Minds) -> None:
    async with minds.open(settings("poet", server=ONE_TURN)) as mind:
        stream = mind.complete("one two", GenerationParams())
        await anext(stream)
        with pytest.raises(Overloaded):
            await anext(mind.complete("three", GenerationParams()))
        await stream.aclose()
        chunks = [chunk async for chunk in mind.complete("three", GenerationParams())]
        assert chunks[-1].finish_reason == "stop"
        assert minds.experts["poet"].running == 0


async def test_completion_of_a_conversation_answers_it_and_gives_its_place_back(
    minds: Minds,
) -> None:
    async with minds.open(settings("poet")) as mind:
        messages = (Message("system", "be brief"), Message("user", "one two"))
        chunks = [chunk async for chunk in mind.complete(messages, GenerationParams())]
        assert "".join(chunk.text for chunk in chunks) == "ONE TWO"
        assert chunks[-1].finish_reason == "stop"
        minds.experts["poet"].refuse = PromptRejected("poet", "too long")
        with pytest.raises(PromptRejected):
            await anext(mind.complete(messages, GenerationParams()))
        assert mind.stats()["answering"] == 0


async def test_completion_of_a_conversation_without_a_model_is_routed_on_the_question(
    minds: Minds,
) -> None:
    async with minds.open(settings(*TWO)) as mind:
        messages = [Message("user", "please fix my python")]
        await anext(answer := mind.complete(messages, GenerationParams()))
        assert minds.experts["coder"].started == 1
        await answer.aclose()


async def test_expert_alone_needs_a_name_and_nothing_to_decide(minds: Minds) -> None:
    async with minds.open(settings(*TWO)) as mind:
        assert mind.expert_alone(model="poet") == "poet"
        assert mind.expert_alone() is None
        assert mind.expert_alone(model="poet", consensus="vote") is None
        with pytest.raises(NotFound):
            mind.expert_alone(model="gpt")
        with pytest.raises(InvalidRequest, match="retrieval"):
            mind.expert_alone(model="poet", retrieval=True)


async def test_raw_completion_without_a_model_is_routed_on_its_text(minds: Minds) -> None:
    given = settings(*TWO, router={"default_expert": "poet"})
    async with minds.open(given) as mind:
        chunks = [c.text async for c in mind.complete("fix my python", GenerationParams())]
        assert ("".join(chunks), minds.experts["coder"].started) == ("FIX MY PYTHON", 1)


async def test_stats_can_be_written_as_json(minds: Minds) -> None:
    async with minds.open(settings(*TWO)) as mind:
        await ask(mind, "please fix my python")
        stats = json.loads(json.dumps(mind.stats()))
        assert (stats["sessions"], stats["answering"]) == (0, 0)
        assert stats["turns"]["completed"] == 1
        assert [e["expert_id"] for e in stats["experts"]] == list(TWO)
        assert stats["embedding"]["misses"] > 0


async def test_stats_count_what_runs_now(minds: Minds) -> None:
    async with minds.open(settings("poet")) as mind, mind.session() as session:
        session.request_commit("one two")
        stats = mind.stats()
        assert (stats["sessions"], stats["answering"]) == (1, 1)


async def test_stats_count_cancelled_turns_apart(minds: Minds) -> None:
    async with minds.open(settings("poet")) as mind:
        async with mind.session() as session:
            session.request_commit("one two")
        assert mind.stats()["answering"] == 0
        turns = mind.stats()["turns"]
        assert isinstance(turns, dict)
        assert (turns["cancelled"], turns.get("completed")) == (1, None)


async def test_single_expert_needs_no_encoder(
    minds: Minds, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with minds.open(settings("poet"), embedder=no_embedder) as mind:
            assert mind.embed_worker is None
            events = await ask(mind, "hello there")
    assert (done_of(events).expert, caplog.records) == ("poet", [])
    assert "route.updated" not in [event.type for event in events]


async def test_two_experts_without_an_encoder_use_the_default_one(
    minds: Minds, caplog: pytest.LogCaptureFixture
) -> None:
    given = settings(*TWO, router={"default_expert": "coder"})
    with caplog.at_level(logging.WARNING):
        async with minds.open(given, embedder=no_embedder) as mind:
            assert done_of(await ask(mind, "write a rhyme")).expert == "coder"
    assert "not installed" in caplog.text


async def test_retrieval_that_is_not_configured_is_refused(minds: Minds) -> None:
    async with minds.open(settings("poet")) as mind:
        with pytest.raises(InvalidRequest, match=r"rag\.enabled") as refused:
            mind.session(retrieval=True)
        assert refused.value.param == "retrieval"


@pytest.mark.parametrize(("wanted", "used"), [(None, True), (True, True), (False, False)])
async def test_retrieval_is_used_unless_refused(
    minds: Minds, wanted: bool | None, used: bool
) -> None:
    async with minds.open(settings("poet"), retriever=Nothing()) as mind:
        events = await ask(mind, "hello there", retrieval=wanted)
        assert ("retrieval.updated" in [event.type for event in events]) is used


@pytest.mark.parametrize(("wanted", "mode"), [(None, "prefill"), ("off", "off")])
async def test_speculation_is_the_configured_one_unless_given(
    minds: Minds, wanted: Any, mode: str
) -> None:
    async with minds.open(settings("poet", speculation={"mode": "prefill"})) as mind:
        assert mind.session(speculation=wanted).options.speculation == mode


async def test_experts_are_listed_with_domain_state_and_limit(minds: Minds) -> None:
    async with minds.open(settings(*TWO)) as mind:
        listed = [(e.expert_id, e.domain, e.state) for e in mind.experts()]
        assert listed == [("poet", "poet", "ready"), ("coder", "coder", "unloaded")]


async def test_open_session_hears_of_an_expert_being_loaded(minds: Minds) -> None:
    async with minds.open(settings(*TWO)) as mind:
        events = await ask(mind, "fix my python")
        states = [e.state for e in events if e.type == "expert.updated"]  # type: ignore[union-attr]
        assert states == ["loading", "ready"]


async def test_no_warm_expert_fails_the_start_and_stops_what_began(minds: Minds) -> None:
    minds.start_error = ExpertUnavailable("poet", "no such model")
    mind = minds.make(settings(*TWO))
    with pytest.raises(ExpertUnavailable, match="no such model"):
        await mind.__aenter__()
    assert minds.experts["poet"].stops == 1
    assert mind.embed_worker is not None
    assert mind.embed_worker.closed


async def test_after_the_end_new_work_is_refused_and_experts_are_stopped(minds: Minds) -> None:
    async with minds.open(settings("poet")) as mind:
        pass
    with pytest.raises(Unavailable):
        mind.session()
    assert minds.experts["poet"].stops == 1


async def test_before_the_start_new_work_is_refused() -> None:
    with pytest.raises(Unavailable, match="not running"):
        LiveMind(settings("poet")).session()


async def test_settings_can_be_given_instead_of_a_file() -> None:
    given = settings("poet")
    assert LiveMind.from_config(given).settings is given


async def test_answer_of_a_session_is_the_expert_s(minds: Minds) -> None:
    async with minds.open(settings("poet")) as mind:
        events = await ask(mind, "hello there")
        text = "".join(e.delta for e in events if isinstance(e, ResponseTextDelta))
        assert text == "HELLO THERE"


async def test_embed_worker_without_the_configured_encoder_has_the_english_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kind = EncoderKind("fake", 64, FakeEmbedder, FakeEmbedder)
    monkeypatch.setattr(assembly, "MINILM", kind)
    monkeypatch.setattr(assembly, "encoder", lambda name: replace(kind, questions=no_embedder))
    worker = assembly.make_embed_worker(settings(*TWO), None)
    assert worker is not None
    assert worker.name == FakeEmbedder.name
    assert "not installed" in caplog.text
    await worker.aclose()
