"""What is typed becomes lines of a recording; without texts nothing of them is left."""

from __future__ import annotations

from hypothesis import given, strategies as st

from livemind.orchestrator.cli.record.turns import Mask, Turns


@given(st.lists(st.text(max_size=40), max_size=12))
def test_stand_ins_keep_lengths_and_blanks_and_what_two_states_share(texts: list[str]) -> None:
    mask, before, hidden_before = Mask(), "", ""
    for text in texts:
        hidden = mask(text)
        assert len(hidden) == len(text)
        assert [c.isspace() for c in hidden] == [c.isspace() for c in text]
        shared = 0
        while shared < min(len(before), len(text)) and before[shared] == text[shared]:
            shared += 1
        assert hidden[:shared] == hidden_before[:shared]
        before, hidden_before = text, hidden


def test_stand_ins_hold_no_word_of_the_text() -> None:
    turns = Turns("s", texts=False)
    secret = "Überweise 4711 Euro"
    for length in range(1, len(secret) + 1):
        turns.typed(secret[:length], length / 10)
    lines = turns.lines(turns.committed(None, 9.0), {})
    assert [len(line["text"]) for line in lines] == [*range(1, len(secret) + 1), len(secret)]
    told = " ".join(line["text"] for line in lines)
    assert not {"Ü", "4", "7", "1", "E"} & set(told)


def test_figures_that_the_server_did_not_tell_are_unknown() -> None:
    turns = Turns("s", texts=True)
    turns.typed("what", 1.0)
    turn = turns.committed("what is it", 2.0)
    turn.answered(2.25)
    figures = turns.lines(turn, {"expert": "one"})[-1]["turn"]
    assert (figures["expert"], figures["ttft_ms"]) == ("one", 250.0)
    assert figures["tokens_wasted"] is figures["server_ttft_ms"] is None
