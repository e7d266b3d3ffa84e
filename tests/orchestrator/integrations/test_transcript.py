"""Segments of a recogniser, put together to the transcript of a turn."""

from __future__ import annotations

from livemind.integrations.transcript import Transcript


def test_transcript_partial_stands_behind_final_segments() -> None:
    heard = Transcript()
    assert heard.heard("what", final=False) == "what"
    assert heard.heard("what is", final=False) == "what is"
    assert heard.heard("What is the port", final=True) == "What is the port"
    assert heard.heard("of", final=False) == "What is the port of"
    assert heard.heard("of Kestrel?", final=True) == "What is the port of Kestrel?"


def test_transcript_question_takes_its_words_away_and_leaves_what_came_after() -> None:
    heard = Transcript()
    heard.heard("What is the port?", final=True)
    heard.heard("And of Heron", final=True)
    heard.heard("plea", final=False)
    heard.asked("What is the port?")
    assert heard.heard("please", final=False) == "And of Heron please"


def test_transcript_segments_that_no_question_holds_are_forgotten() -> None:
    heard = Transcript()
    heard.heard("never mind", final=True)
    heard.asked("Something else.")
    assert heard.heard("What", final=False) == "What"
