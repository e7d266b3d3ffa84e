"""Work on what a client sends grows with its length and no faster, whatever the text looks like."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable

import pytest

from livemind.backends.base import GenerationParams, Message
from livemind.backends.fake import FakeExpert
from livemind.backends.remote.expert import RemoteExpert
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.consensus.canonical import canonical
from livemind.orchestrator.heard import SpokenWord, heard_characters
from livemind.orchestrator.routing.prose import prose
from livemind.orchestrator.routing.reading import Reader
from livemind.orchestrator.turn.partials import InputHabits, settled_words, whole_words
from livemind.orchestrator.turn.sentences import Sentences
from livemind.orchestrator.words import fold, same_words
from livemind.rag.documents.blocks import UnreadableFile
from livemind.rag.documents.chunking import chunk
from livemind.rag.documents.parsing import parse

SHORT, LONG = 10_000, 100_000
# Ten times the text: 10 where it is linear, 100 where it is quadratic, and 31 halfway, as ratios
# go: what a busy machine, its caches or a page fault adds to one side stays below it.
MOST = 31.0
# What takes less than this with the long text cannot be measured, and need not be.
NOTHING_S = 0.02
TRIES = 3

Work = Callable[[str], object]
TEXTS: dict[str, Callable[[int], str]] = {
    "a word": lambda n: "a" * n,
    "a word and another": lambda n: "a" * n + " b",
    "a word and a blank": lambda n: "a" * n + " ",
    "blanks": lambda n: " " * n,
    "blanks and a word": lambda n: " " * n + "word",
    "blanks, two words": lambda n: " " * n + "two words",
    "blanks inside": lambda n: "a" + " " * n + "b c",
    "newlines": lambda n: "\n" * n + "x" + "\n" * n,
    "tabs and newlines": lambda n: "\n\t" * (n // 2),
    "short words": lambda n: "a " * (n // 2),
    "dots": lambda n: "." * n,
    "closing marks": lambda n: "." + '")' * (n // 2),
    "abbreviations": lambda n: "e.g. " * (n // 5),
    "list items": lambda n: "\n1. x" * (n // 5),
    "wide marks": lambda n: "。" * n,
    "an open fence": lambda n: "```json" + " " * n + "{",
    "fences": lambda n: "```" * (n // 3),
    "an option that never comes": lambda n: "answer is" + " " * n + ":" + " " * n,
    "digits": lambda n: "1,111" * (n // 5),
    "combining": lambda n: "e" + "\u0301" * n,
    "tags": lambda n: "<div>" * (n // 5),
    "brackets": lambda n: "[a](" * (n // 4),
    "a wish": lambda n: "send" + " this" * (n // 5),
}


def remote() -> RemoteExpert:
    return RemoteExpert(ExpertSpec(expert_id="r", kind="remote", base_urls=("http://there",)))


def user(text: str) -> list[Message]:
    return [Message("user", text)]


def passages(text: str) -> list[Message]:
    return [Message("documents", text), Message("user", text), Message("documents", text)]


def scripted(text: str) -> object:
    fake = FakeExpert("fake", answer=lambda messages: text)
    prompt = fake.render([*user("x"), Message("assistant", text)], open_turn=False)
    return fake._script(text, prompt, GenerationParams())


def sentences(text: str) -> object:
    cut = Sentences()
    return [*cut.feed(text), cut.flush()]


def habits(text: str) -> object:
    return InputHabits().after(text[:-1], text, 0.1).after(text, f"x{text}", 0.1)


def heard(text: str) -> object:
    return heard_characters(text, 1e6, words=[SpokenWord("none", 0, 1)] * (len(text) // 100))


WORK: dict[str, Work] = {
    "remote, open": lambda text: remote().render(user(text), open_turn=True),
    "remote, whole": lambda text: remote().render(passages(text), open_turn=False),
    "fake, open": lambda text: FakeExpert("fake").render(user(text), open_turn=True),
    "fake, answer": scripted,
    "sentences": sentences,
    "heard": heard,
    "habits": habits,
    "whole words": lambda text: whole_words(text, "typed"),
    "settled words": lambda text: settled_words(
        text, "transcript", InputHabits(rewritten=(16,) * 16)
    ),
    "folded": fold,
    "prose": prose,
    "same words": lambda text: same_words(text, text[:-1] + "y"),
    "read by the router": Reader(["coder", "general"]),
    "option": lambda text: canonical(text, "option"),
    "json": lambda text: canonical(text, "json"),
    "chunks": lambda text: chunk("d", parse("x.txt", text.encode(), "txt")),
}


def cpu_s(work: Work, text: str) -> float:
    began = time.thread_time()
    with contextlib.suppress(UnreadableFile):
        work(text)
    return time.thread_time() - began


@pytest.mark.parametrize("name", WORK)
def test_work_on_a_text_ten_times_as_long_grows_with_its_length_not_its_square(name: str) -> None:
    work = WORK[name]
    gc.disable()
    try:
        for text, made in TEXTS.items():
            short = long = math.inf
            for _ in range(TRIES):
                short = min(short, cpu_s(work, made(SHORT)))
                assert short < 5, (name, text)
                long = min(long, cpu_s(work, made(LONG)))
                if long < max(NOTHING_S, MOST * short):
                    break
            assert long < max(NOTHING_S, MOST * short), (name, text, short, long)
    finally:
        gc.enable()
