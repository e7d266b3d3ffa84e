"""What a changed option leaves prepared, and what a request teaches the session to expect."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import GenerationParams, Message
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.options import SessionOptions, changed

PINNED = SessionOptions(pinned="strong")
QUESTION = "what is the port of kestrel?"


def strong(**given: Any) -> FakeExpert:
    return FakeExpert("strong", **{"prefill_token_s": 0.001, "token_s": 0.02, **given})


def lost(seen: list[events.Event]) -> list[str]:
    return [event.reason for event in seen if isinstance(event, events.DraftDiscarded)]


async def drafted(live: SimpleNamespace, session: Any, text: str = QUESTION) -> None:
    session.replace(text)
    await asyncio.sleep(1.5)


async def committed(live: SimpleNamespace, session: Any, **given: Any) -> list[events.Event]:
    """Commit with sampling of the request's own; return the turn's events."""
    response_id = session.request_commit(**given)
    seen: list[events.Event] = []
    while True:
        event = await session.next_event()
        seen.append(event)
        if isinstance(event, events.ResponseDone) and event.response_id == response_id:
            return seen


def test_changed_options_are_named_as_clients_know_them() -> None:
    other = replace(
        PINNED, pinned=None, instructions="x", params=GenerationParams(top_p=0.5, prediction="p")
    )
    assert changed(PINNED, other) == ("model", "instructions", "top_p")
    assert changed(PINNED, PINNED) == ()


@pytest.mark.parametrize(
    "update",
    [
        {"on_cold": "fallback"},
        {"interrupt": "input"},
        {"segment": "sentence"},
        {"params": GenerationParams(max_tokens=50)},
        {"params": GenerationParams(prediction="hello")},
        {"pinned": "strong"},
    ],
    ids=lambda update: next(iter(update)),
)
def test_update_that_leaves_prompt_and_sampling_keeps_draft_and_prefill(
    virtual_run: Any, live: SimpleNamespace, update: dict[str, Any]
) -> None:
    async def main() -> None:
        routed = SessionOptions()
        async with (
            live.open_stage(FakeExpert("fast"), strong(), words={"kestrel": "strong"}) as stage,
            stage.session(routed) as session,
        ):
            await drafted(live, session)
            before = stage.experts["strong"].started
            session.update(replace(routed, **update))
            seen = await committed(live, session)
            assert lost(seen) == []
            assert live.done_of(seen).ledger.draft_adopted == 6
            assert stage.experts["strong"].generated_tokens == 6
            assert stage.experts["strong"].started in (before, before + 1)

    virtual_run(main())


@pytest.mark.parametrize(
    ("update", "field"),
    [
        ({"instructions": "be brief"}, "instructions"),
        ({"documents": ("a", "b")}, "documents"),
        ({"params": GenerationParams(temperature=0.5, seed=1)}, "temperature, seed"),
        ({"cache_salt": "x"}, "cache_salt"),
        ({"consensus": Consensus("first")}, "consensus"),
        ({"speculation": "prefill"}, "speculation"),
        ({"pinned": "fast"}, "model"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_update_that_loses_the_draft_names_its_field(
    virtual_run: Any, live: SimpleNamespace, update: dict[str, Any], field: str
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(FakeExpert("fast"), strong()) as stage,
            stage.session(PINNED) as session,
        ):
            await drafted(live, session)
            session.update(replace(PINNED, **update))
            seen = await committed(live, session)
            assert lost(seen) == [f"changed: {field}"]
            assert live.text_of(seen) == QUESTION.upper()

    virtual_run(main())


def test_update_prepares_the_typed_text_anew_at_once(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            await drafted(live, session)
            session.update(replace(PINNED, instructions="be brief"))
            await asyncio.sleep(1)
            seen = await committed(live, session)
            assert live.done_of(seen).ledger.draft_adopted == 6

    virtual_run(main())


# ---- what only a request says --------------------------------------------------------------------


def test_sampling_of_a_request_is_expected_of_the_next_one(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        own = GenerationParams(temperature=0.2, max_tokens=50)
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            await drafted(live, session)
            seen = await committed(live, session, params=own)
            assert lost(seen) == ["changed: max_tokens, temperature"]
            await drafted(live, session, "another one please?")
            seen = await committed(live, session, params=own)
            assert lost(seen) == []
            assert live.done_of(seen).ledger.draft_adopted == 3
            session.update(replace(PINNED, params=GenerationParams(top_p=0.5)))
            await drafted(live, session, "a third one please?")
            seen = await committed(live, session)
            assert (lost(seen), live.done_of(seen).ledger.draft_adopted) == ([], 4)

    virtual_run(main())


@pytest.mark.parametrize(
    ("drafted_with", "wanted", "adopted", "reason"),
    [
        (None, 50, 6, "stop"),
        (None, 6, 6, "stop"),
        (None, 4, 4, "length"),
        (4, 50, 4, "stop"),
        (4, None, 4, "stop"),
        (4, 5, 4, "length"),
        (4, 2, 2, "length"),
        (50, 51, 6, "stop"),
    ],
)
def test_other_max_tokens_cut_a_draft_or_let_it_go_on(
    virtual_run: Any,
    live: SimpleNamespace,
    drafted_with: int | None,
    wanted: int | None,
    adopted: int,
    reason: str,
) -> None:
    async def main() -> None:
        options = replace(PINNED, params=GenerationParams(max_tokens=drafted_with))
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            await drafted(live, session)
            seen = await committed(live, session, params=GenerationParams(max_tokens=wanted))
            done = live.done_of(seen)
            assert lost(seen) == []
            assert (done.ledger.draft_adopted, done.finish_reason) == (adopted, reason)
            words = QUESTION.upper().split()[: 6 if wanted is None else wanted]
            assert live.text_of(seen) == " ".join(words)
            assert done.usage.completion_tokens == len(words)

    virtual_run(main())


@pytest.mark.parametrize("wanted", [2, 50])
def test_other_max_tokens_let_a_running_draft_go_on_where_it_is(
    virtual_run: Any, live: SimpleNamespace, wanted: int
) -> None:
    async def main() -> None:
        async with (
            live.open_stage(strong(token_s=0.2)) as stage,
            stage.session(PINNED) as session,
        ):
            session.replace(QUESTION)
            await asyncio.sleep(0.8)
            seen = await committed(live, session, params=GenerationParams(max_tokens=wanted))
            assert lost(seen) == []
            assert 0 < live.done_of(seen).ledger.draft_adopted <= 4
            assert live.text_of(seen) == " ".join(QUESTION.upper().split()[:wanted])
            await asyncio.sleep(1)
            assert stage.experts["strong"].running == 0

    virtual_run(main())


def test_draft_that_cannot_be_continued_is_lost_to_other_max_tokens_by_name(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    async def main() -> None:
        options = replace(PINNED, params=GenerationParams(max_tokens=4, seed=1))
        async with live.open_stage(strong()) as stage, stage.session(options) as session:
            await drafted(live, session)
            wanted = GenerationParams(max_tokens=5, seed=1)
            seen = await committed(live, session, params=wanted)
            assert lost(seen) == ["changed: max_tokens"]
            assert live.text_of(seen) == " ".join(QUESTION.upper().split()[:5])

    virtual_run(main())


def test_conversation_given_beforehand_keeps_the_draft_of_the_first_turn(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    """A greeting spoken by the agent, told before the user speaks and sent with the request."""

    async def main() -> None:
        greeting = (Message("assistant", "Hello, how can I help?"),)
        async with live.open_stage(strong()) as stage, stage.session(PINNED) as session:
            session.update(PINNED, greeting)
            await drafted(live, session)
            session.update(PINNED, greeting)
            seen = await committed(live, session)
            assert lost(seen) == []
            assert live.done_of(seen).ledger.draft_adopted == 6

    virtual_run(main())
