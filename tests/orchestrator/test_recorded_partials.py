"""What a session prepares from recognisers' partial transcripts, which end without a blank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.fake import FakeExpert
from livemind.benchmarks.workload.recordings import BUNDLED, Utterance, read_recording
from livemind.orchestrator.events import ResponseDone
from livemind.orchestrator.session import SessionOptions
from livemind.orchestrator.turn.partials import InputKind

from .recorded_partials import most_differing, prepared

WORDS = {"port": "strong", "capacity": "strong", "difference": "strong"}
PASSAGES = {word: f"{word} 361 " * 10 for word in ("port", "router", "list", "color", "network")}
Turns = list[tuple[Counter[str], ResponseDone]]
Play = Callable[..., Turns]
recordings = pytest.mark.parametrize("name", BUNDLED)


@pytest.fixture(scope="module")
def kept() -> dict[tuple[object, ...], Turns]:
    return {}


@pytest.fixture
def play(kept: dict[tuple[object, ...], Turns], virtual_run: Any, live: SimpleNamespace) -> Play:
    """Play the utterances of a recording, each in a session of its own."""

    async def turn(
        utterance: Utterance, kind: InputKind | None, told: dict[str, Any]
    ) -> tuple[Counter[str], ResponseDone]:
        options = SessionOptions(retrieval=True, input_kind=kind)
        experts = (
            FakeExpert("fast", prefill_token_s=0.0005, token_s=0.005),
            FakeExpert("strong", prefill_token_s=0.001, token_s=0.01),
        )
        retriever = live.retriever(PASSAGES)
        async with (
            live.open_stage(*experts, words=WORDS, retriever=retriever) as stage,
            stage.session(options) as session,
        ):
            return await prepared(session, utterance, **told)

    def played(name: str, kind: InputKind | None = "transcript", **told: Any) -> Turns:
        key = name, kind, *told.items()
        if key not in kept:
            utterances = read_recording(name).utterances
            kept[key] = [virtual_run(turn(one, kind, told)) for one in utterances]
        return kept[key]

    return played


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "transcript") for name in BUNDLED),
        ("whisper", None),
        ("pocketsphinx", None),
        ("es", None),
    ],
)
def test_recorded_partials_prepare_the_same_with_a_trailing_blank_and_without(
    play: Play, name: str, kind: InputKind | None
) -> None:
    pairs = zip(play(name, kind), play(name, kind, after_partial=" "), strict=True)
    assert max(most_differing(plain, blank) for (plain, _), (blank, _) in pairs) <= 1


@recordings
def test_recorded_partials_every_turn_is_routed_before_its_commit(play: Play, name: str) -> None:
    assert all(events["route.updated"] for events, _ in play(name))


@recordings
def test_recorded_partials_every_turn_is_answered(play: Play, name: str) -> None:
    ends = [done for _, done in play(name)]
    assert [done.error for done in ends] == [None] * len(ends)


@recordings
def test_recorded_partials_commit_right_behind_the_last_one_is_answered(
    play: Play, name: str
) -> None:
    ends = [done for _, done in play(name, commit_after_s=0.0)]
    assert [done.error for done in ends] == [None] * len(ends)
