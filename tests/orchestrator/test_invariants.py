"""The invariants of DESIGN §4.3 under random conversations, on fakes and a virtual clock."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from livemind.backends.base import GenerationParams
from livemind.backends.fake import FakeExpert
from livemind.orchestrator import events
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.errors import LiveMindError
from livemind.orchestrator.session import SessionOptions
from livemind.orchestrator.turn.drafting import MOST_LOST

WORDS = ("port", "kestrel ", "wren", " of", "the ", "x", "?", ". ", "\n")
FIXTURE_OK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Do:
    """One step of a script: what the user, the network or the machine does."""

    what: str
    text: str = ""
    wait_s: float = 0.0


texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map("".join)
waits = st.sampled_from([0.0, 0.001, 0.03, 0.1, 0.3, 0.6, 2.0])
steps = st.builds(
    Do,
    st.sampled_from(
        ["append"] * 5 + ["replace", "clear", "commit", "commit", "cancel", "crash", "other"]
    ),
    texts,
    waits,
)
scripts = st.lists(steps, min_size=1, max_size=25)
modes = st.sampled_from(["off", "prefill", "draft"])
params = st.sampled_from([GenerationParams(), GenerationParams(max_tokens=3, seed=7)])
policies = st.builds(
    Consensus,
    st.sampled_from(["auto", "first", "draft", "verify", "vote"]),
    st.sampled_from([(), ("wren",)]),
    st.sampled_from([0.05, 2.0]),
)


async def play(live: SimpleNamespace, script: list[Do], options: SessionOptions) -> Any:
    """Run a script; return (events, commits accepted, stage)."""
    fakes = (
        FakeExpert("fast", prefill_token_s=0.002, token_s=0.01),
        FakeExpert("strong", prefill_token_s=0.01, token_s=0.03, drafts=True),
        FakeExpert("wren", prefill_token_s=0.01, token_s=0.03, start_s=1.0),
    )
    retriever = live.retriever({"kestrel": "kestrel port 361 " * 4, "wren": "wren port 7 " * 4})
    seen: list[events.Event] = []
    committed: list[str] = []
    async with live.open_stage(
        *fakes, words={"wren": "wren", "port": "strong"}, retriever=retriever, between_slices=2
    ) as stage:
        session, other = stage.session(options), stage.session(SessionOptions(pinned="strong"))

        async def read() -> None:
            async for event in session.events():
                seen.append(event)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read())
            async with session, other:
                for step in script:
                    with suppress(LiveMindError):
                        perform(stage, session, other, step, committed)
                    await asyncio.sleep(step.wait_s)
                await asyncio.sleep(10)
            await reader
        for fake in fakes:
            assert fake.running == 0
        assert retriever.running == 0
    return seen, committed, stage


def perform(stage: Any, session: Any, other: Any, step: Do, committed: list[str]) -> None:
    match step.what:
        case "append":
            session.append(step.text)
        case "replace":
            session.replace(step.text)
        case "clear":
            session.clear()
        case "commit":
            text = session.text or session._turns.late_text
            session.request_commit()
            committed.append(text.rstrip())
        case "cancel":
            session.cancel()
        case "crash":
            stage.experts["strong"].crash()
        case "other":
            other.request_commit("one two three four five six")


@FIXTURE_OK
@given(
    script=scripts,
    mode=modes,
    sampling=params,
    pinned=st.sampled_from([None, "strong"]),
    consensus=policies,
)
def test_any_script_ends_every_turn_once_and_balances_the_ledger(
    virtual_run: Any,
    live: SimpleNamespace,
    script: list[Do],
    mode: Any,
    sampling: GenerationParams,
    pinned: str | None,
    consensus: Consensus,
) -> None:
    options = SessionOptions(
        pinned=pinned, speculation=mode, retrieval=True, params=sampling, consensus=consensus
    )
    seen, committed, _ = virtual_run(play(live, script, options))
    done = [event for event in seen if isinstance(event, events.ResponseDone)]
    assert len(done) == len(committed)  # I1
    for turn in done:
        ledger = turn.ledger
        assert ledger.prefill_speculated == ledger.prefill_adopted + ledger.prefill_wasted  # I8
        assert ledger.draft_speculated == ledger.draft_adopted + ledger.draft_wasted
        assert ledger.drafts <= (1 + MOST_LOST) * (
            1 + len(script)
        )  # I5: a text's own, and lost ones
        assert mode != "off" or ledger.prefill_speculated + ledger.drafts == 0
    for response_id in {turn.response_id for turn in done}:
        mine = [event for event in seen if getattr(event, "response_id", None) == response_id]
        shown = "".join(e.delta for e in mine if isinstance(e, events.ResponseTextDelta))
        whole = [e.text for e in mine if isinstance(e, events.ResponseTextDone)]
        assert whole in ([], [shown])  # I2
        assert isinstance(mine[-1], events.ResponseDone)


@FIXTURE_OK
@given(script=scripts, mode=modes, consensus=policies)
def test_any_script_shows_only_answers_to_committed_text(
    virtual_run: Any, live: SimpleNamespace, script: list[Do], mode: Any, consensus: Consensus
) -> None:
    options = SessionOptions(pinned="strong", speculation=mode, retrieval=True, consensus=consensus)
    seen, committed, _ = virtual_run(play(live, script, options))
    order = [e for e in seen if isinstance(e, (events.ResponseTextDelta, events.ResponseDone))]
    shown = ""
    answers = iter(committed)
    for event in order:
        if isinstance(event, events.ResponseTextDelta):
            shown += event.delta
            continue
        expected = next(answers).upper()  # I3, I4: the fake echoes what was committed
        if event.status == "completed":
            assert shown == expected
        else:
            assert expected.startswith(shown)
        shown = ""


@FIXTURE_OK
@given(text=texts, tail=texts, wait=waits)
def test_replace_keeps_exactly_the_common_prefix_prepared(
    virtual_run: Any, live: SimpleNamespace, text: str, tail: str, wait: float
) -> None:
    async def main() -> None:
        expert = FakeExpert("strong", prefill_token_s=0.001, block_tokens=1)
        base = "a b c d e f g h "
        async with live.open_stage(expert) as stage:
            options = SessionOptions(pinned="strong", speculation="prefill")
            async with stage.session(options) as session:
                session.replace(base + text + " ")
                await asyncio.sleep(1)
                before = expert.prefilled_tokens
                session.replace(base + tail + " ")
                await asyncio.sleep(1 + wait)
                old = expert.render(session_messages(base + text + " "), open_turn=True).token_ids
                new = expert.render(session_messages(base + tail + " "), open_turn=True).token_ids
                common = next(
                    (n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
                    min(len(old), len(new)),
                )
                extra = len(new) - common
                assert expert.prefilled_tokens - before <= extra + 1  # I9, +1: the last token

    virtual_run(main())


def session_messages(text: str) -> Any:
    from livemind.orchestrator.turn.prompt import Context, build

    return build(Context(), text, open_turn=True)
