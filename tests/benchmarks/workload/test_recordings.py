from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livemind.benchmarks.bench import UsageError
from livemind.benchmarks.workload.recordings import BUNDLED, read_recording
from livemind.benchmarks.workload.typing_model import Key

FIRST = {"id": "a", "t_ms": 300, "text": "what is", "final": False}
LAST = {"id": "a", "t_ms": 900, "text": "What is it?", "final": True, "audio_ms": 950}
OTHER = {"id": "b", "t_ms": 400.5, "text": "Yes.", "final": True, "said": "Yes", "voice": "en"}


def _file(folder: Path, *lines: object) -> str:
    file = folder / "My partials.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return str(file)


def test_read_recording_partials_are_sent_as_they_are_at_their_times(tmp_path: Path) -> None:
    found = read_recording(_file(tmp_path, FIRST, "", LAST, OTHER))
    assert found.name == "my_partials"
    one, other = found.utterances
    assert one.partials == (Key(0.3, "what is", replaces=True),)
    assert (one.text, other.partials) == ("What is it?", ())
    assert (one.silence_s, other.silence_s) == pytest.approx((0.6, 0.4005))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], r"jsonl:1: not JSON"),
        ([FIRST, {**LAST, "t_ms": "900"}], r"jsonl:2: t_ms: Input should be a valid number"),
        ([{**FIRST, "t_ms": -1}, LAST], r"jsonl:1: t_ms: Input should be greater"),
        ([{**FIRST, "words": 2}, LAST], r"jsonl:1: words: Extra inputs"),
        ([{"id": "a", "t_ms": 1, "final": True}], r"jsonl:1: text: Field required"),
        ([FIRST, {**LAST, "t_ms": 200}], r"jsonl:2: t_ms: got 200 after 300"),
        ([FIRST], r"jsonl:1: final: the last line of 'a' must be true"),
        ([LAST, {**LAST, "t_ms": 950}], r"jsonl:1: final: true before the last line of 'a'"),
        ([LAST, OTHER, {**LAST, "t_ms": 950}], r"jsonl:3: id: 'a' stands in two places"),
        ([FIRST, {**LAST, "text": " "}], r"jsonl:2: text: the final transcript of 'a' is blank"),
        ([""], "no utterance in it"),
    ],
)
def test_read_recording_wrong_line_is_refused_by_line_and_field(
    tmp_path: Path, lines: list[Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_recording(_file(tmp_path, *lines))


def test_read_recording_missing_file_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.jsonl: .*No such file"):
        read_recording("nowhere.jsonl")


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_recording_is_read_whole(name: str) -> None:
    found = read_recording(name)
    assert found.name == name
    lines = BUNDLED[name].read_text(encoding="utf-8").splitlines()
    partials = sum(len(one.partials) for one in found.utterances)
    assert partials + len(found.utterances) == len(lines)


def test_taken_fewer_are_drawn_by_the_seed_and_stay_in_order() -> None:
    whole = read_recording("whisper")
    ids = [one.id for one in whole.utterances]
    drawn = [[one.id for one in whole.taken(4, seed).utterances] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [ids.index(name) for name in drawn[0]] == sorted(map(ids.index, drawn[0]))
    assert [one.id for one in whole.taken(2 * len(ids), 1).utterances] == ids * 2


def test_conversation_has_the_next_utterances_as_questions() -> None:
    talk = read_recording("es").conversation(1, 2)
    assert talk.questions == (
        "Mi pedido todavía no ha llegado, ¿puede decirme dónde está?",
        "¿Cuál es el color de Ulm?",
    )
