"""What each door makes of a conversation."""

from __future__ import annotations

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert
from livemind.benchmarks.harness.doors import BareDoor, History
from livemind.benchmarks.harness.wire import Ask, Said

ASK = Ask("small", "salt", 4, instructions="Be brief.", documents=("a", "b"))
SYSTEM = {"role": "system", "content": "Be brief."}


def test_history_documents_of_their_own_move_into_the_text_after_the_first_turn() -> None:
    history = History(ASK, "field")
    assert history.documents() == ("a", "b")
    assert history.messages("One?") == [SYSTEM, {"role": "user", "content": "One?"}]
    history.answered("One?", "Yes.")
    assert history.documents() == ()
    assert history.messages("Two?") == [
        SYSTEM,
        {"role": "user", "content": "[1] a\n[2] b\n\nOne?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Two?"},
    ]


def test_history_for_a_standard_server_stays_byte_identical_as_it_grows() -> None:
    history = History(ASK, "text")
    first = history.messages("One?", "(1)\n")
    assert first[1] == {"role": "user", "content": "(1)\n[1] a\n[2] b\n\nOne?"}
    history.answered("One?", "Yes.")
    assert history.messages("Two?", "(1)\n")[:2] == first
    assert history.documents() == ()


def test_history_for_a_vllm_server_of_ours_has_the_documents_role_in_front() -> None:
    history = History(ASK, "role")
    history.answered("One?", "Yes.")
    roles = [message["role"] for message in history.messages("Two?")]
    assert roles == ["system", "documents", "user", "assistant", "user"]
    assert history.messages("Two?")[2]["content"] == "One?"


async def test_bare_engine_is_asked_in_livemind_own_layout_with_its_history() -> None:
    expert = FakeExpert("small")
    await expert.start()
    asked: list[tuple[Message, ...]] = []
    render = expert.render

    def watched(messages: tuple[Message, ...], *, open_turn: bool) -> object:
        asked.append(tuple(messages))
        return render(messages, open_turn=open_turn)

    expert.render = watched  # type: ignore[method-assign,assignment]
    async with BareDoor({"small": expert}).conversation(ASK) as talk:
        first = await talk.turn(Said("One? "))
        second = await talk.turn(Said("Two?", late_documents=("c",)))
    assert first.outcome == second.outcome == "completed"
    documents = Message("documents", "[1] a\n[2] b")
    before = (Message("system", "Be brief."), documents, Message("user", "One?"))
    assert asked[0] == before
    assert asked[1] == (
        *before,
        Message("assistant", first.text),
        Message("user", "Two?"),
        Message("documents", "[3] c"),
    )


async def test_bare_engine_that_fails_is_told_in_the_answer() -> None:
    expert = FakeExpert("small", max_model_len=3)
    await expert.start()
    async with BareDoor({"small": expert}).conversation(ASK) as talk:
        answer = await talk.turn(Said("One?"))
    assert answer.outcome == "failed"
    assert answer.error
