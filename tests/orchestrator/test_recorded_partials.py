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

from .recorded_partials import most_differing, prepared

WORDS = {"port": "strong", "capacity": "strong", "difference": "strong"}
PASSAGES = {word: f"{word} 361 " * 10 for word in ("port", "router", "list", "color", "network")}
ROW_1 = "row 1: every partial restarts the wait for a pause, unless it ends in a blank"
ROW_6 = "row 6: a commit that joins the retrieval of an older revision never ends"
Turns = list[tuple[Counter[str], ResponseDone]]
Play = Callable[[str, str], Turns]


def _recordings(**wrong: str) -> pytest.MarkDecorator:
    """Return the bundled recordings by name; a wrong outcome of today is expected to fail."""
    marks = {name: pytest.mark.xfail(strict=True, reason=why) for name, why in wrong.items()}
    params = [pytest.param(name, marks=marks.get(name, ())) for name in BUNDLED]
    return pytest.mark.parametrize("name", params)


@pytest.fixture(scope="module")
def kept() -> dict[tuple[str, str], Turns]:
    return {}


@pytest.fixture
def play(kept: dict[tuple[str, str], Turns], virtual_run: Any, live: SimpleNamespace) -> Play:
    """Play the utterances of a recording, each in a session of its own, with text behind each."""

    async def turns(utterances: tuple[Utterance, ...], after_partial: str) -> Turns:
        experts = (
            FakeExpert("fast", prefill_token_s=0.0005, token_s=0.005),
            FakeExpert("strong", prefill_token_s=0.001, token_s=0.01),
        )
        retriever, found = live.retriever(PASSAGES), []
        async with live.open_stage(*experts, words=WORDS, retriever=retriever) as stage:
            for utterance in utterances:
                async with stage.session() as session:
                    found.append(await prepared(session, utterance, after_partial=after_partial))
        return found

    def played(name: str, after_partial: str) -> Turns:
        if (name, after_partial) not in kept:
            utterances = read_recording(name).utterances
            kept[name, after_partial] = virtual_run(turns(utterances, after_partial))
        return kept[name, after_partial]

    return played


@_recordings(pocketsphinx=ROW_1)
def test_recorded_partials_prepare_the_same_with_a_trailing_blank_and_without(
    play: Play, name: str
) -> None:
    pairs = zip(play(name, ""), play(name, " "), strict=True)
    assert max(most_differing(plain, blank) for (plain, _), (blank, _) in pairs) <= 1


@_recordings()
def test_recorded_partials_every_turn_is_routed_before_its_commit(play: Play, name: str) -> None:
    assert all(events["route.updated"] for events, _ in play(name, ""))


@_recordings(whisper=ROW_6)
def test_recorded_partials_every_turn_is_answered(play: Play, name: str) -> None:
    ends = [done for _, done in play(name, "")]
    assert [done.error for done in ends] == [None] * len(ends)
