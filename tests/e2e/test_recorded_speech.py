"""Recorded partial transcripts on the embedded experts: how much is ready at the commit.

Shares of turns, no times: what is prepared depends on the text and its pauses, not on the machine,
as long as the machine keeps up with speech.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livemind.benchmarks import cli

pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1500)]
ARMS = ("request-at-end", "speech-0", "speech-800")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file: Path = tmp_path_factory.mktemp("speech") / "ttft.json"
    cadence = ["--cadence", "whisper,pocketsphinx,es", "--commit-after-ms", "0,800"]
    assert cli.main(["ttft", *cadence, "--json", str(file)]) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture(scope="module")
def long_prompts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same of a model with random weights and documents of 1,500 tokens."""
    file: Path = tmp_path_factory.mktemp("speech") / "ttft.json"
    cadence = ["--cadence", "whisper,pocketsphinx", "--commit-after-ms", "0,800"]
    asked = ["--expert", "random", "--documents", "1500", "--turns", "8"]
    assert cli.main(["ttft", *cadence, *asked, "--json", str(file)]) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_recorded_speech_every_turn_of_every_arm_is_answered(
    report: dict[str, Any], long_prompts: dict[str, Any]
) -> None:
    for case in (*report["cases"], *long_prompts["cases"]):
        assert tuple(case["arms"]) == ARMS
        for one in case["arms"].values():
            assert (one["completed"], one["errors"]) == (one["asked"], [])


@pytest.mark.parametrize("name", ["whisper", "pocketsphinx", "es"])
@pytest.mark.parametrize("arm", ["speech-0", "speech-800"])
def test_recorded_speech_every_turn_is_prepared(
    report: dict[str, Any], name: str, arm: str
) -> None:
    assert _speech(report, name, arm)["unprepared_share"] == 0.0


def test_recorded_speech_whisper_turns_use_a_draft_when_the_speaker_has_paused(
    report: dict[str, Any],
) -> None:
    assert _speech(report, "whisper", "speech-800")["drafted_share"] >= 0.8


def test_recorded_speech_whisper_head_start_costs_at_most_two_and_a_half_times(
    report: dict[str, Any],
) -> None:
    assert _speech(report, "whisper", "speech-800")["cost_multiplier.p50"] <= 2.5


def test_recorded_speech_pocketsphinx_route_is_settled_before_the_commit(
    report: dict[str, Any],
) -> None:
    assert _speech(report, "pocketsphinx", "speech-800")["route_settled_share"] >= 0.85


def test_recorded_speech_pocketsphinx_prompt_is_ready_at_the_commit(
    long_prompts: dict[str, Any],
) -> None:
    """Of short prompts nothing is: most are shorter than a cache block of 32 tokens."""
    assert _speech(long_prompts, "pocketsphinx", "speech-800")["prompt_ready.p50"] >= 0.9


@pytest.mark.parametrize("arm", ["speech-0", "speech-800"])
def test_recorded_speech_of_long_prompts_is_ready_whenever_it_is_committed(
    long_prompts: dict[str, Any], arm: str
) -> None:
    found = _speech(long_prompts, "whisper", arm)
    assert found["prompt_ready.p50"] >= 0.9
    assert found["cost_multiplier.p50"] <= 2.5


@pytest.mark.parametrize("name", ["whisper", "pocketsphinx", "es"])
@pytest.mark.parametrize("arm", ["speech-0", "speech-800"])
def test_recorded_speech_documents_are_those_of_the_final_transcript(
    report: dict[str, Any], name: str, arm: str
) -> None:
    assert _speech(report, name, arm)["same_documents_share"] == 1.0


def _speech(report: dict[str, Any], name: str, arm: str) -> dict[str, Any]:
    [case] = [case for case in report["cases"] if case["cadence"] == name]
    found: dict[str, Any] = case["speech"][arm]
    return found
