"""The encoder of documents in its process: its vectors, its failures, its place behind others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

from livemind.rag.base import FloatArray
from livemind.rag.encoder.embedder import EmbedderError, EmbedderUnavailable
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.process import ProcessEmbedder

TEXTS = ["open the door", "close the window"]


class Telling(FakeEmbedder):
    """Does what it is told; anything else tells who encodes it, and how it is scheduled."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        match texts[0]:
            case "fail":
                raise ValueError("a text was not encoded")
            case "die":
                os._exit(3)
        return np.array([[os.getpid(), os.sched_getscheduler(0)]], np.float32)


@pytest.fixture
def telling() -> Iterator[ProcessEmbedder]:
    with ProcessEmbedder(Telling, "fake", 2) as embedder:
        yield embedder


def test_process_embedder_vectors_are_those_of_its_encoder() -> None:
    with ProcessEmbedder(FakeEmbedder, "fake", 64) as embedder:
        np.testing.assert_array_equal(embedder.embed(TEXTS), FakeEmbedder().embed(TEXTS))


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="the policy is Linux's")
def test_process_embedder_works_elsewhere_and_gives_way(telling: ProcessEmbedder) -> None:
    ((process, policy),) = telling.embed(["who"])
    assert process != os.getpid()
    assert policy == os.SCHED_IDLE


def test_process_embedder_failure_of_the_encoder_comes_back(telling: ProcessEmbedder) -> None:
    with pytest.raises(ValueError, match="not encoded"):
        telling.embed(["fail"])
    assert len(telling.embed(["who"])) == 1


def test_process_embedder_process_that_dies_is_an_error_and_started_anew(
    telling: ProcessEmbedder,
) -> None:
    ((first, _),) = telling.embed(["who"])
    with pytest.raises(EmbedderError, match="ended"):
        telling.embed(["die"])
    ((second, _),) = telling.embed(["who"])
    assert first != second


def test_process_embedder_process_killed_while_idle_is_not_noticed(
    telling: ProcessEmbedder,
) -> None:
    ((first, _),) = telling.embed(["who"])
    assert telling._pool is not None
    os.kill(int(first), signal.SIGKILL)
    while not telling._pool._broken:
        time.sleep(0.001)
    ((second, _),) = telling.embed(["who"])
    assert first != second


def test_process_embedder_closed_just_before_the_texts_are_handed_over_is_an_embedder_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread's ``close`` begins when ``embed`` has found it open."""
    embedder = ProcessEmbedder(Endless, "fake", 64)
    pool = embedder._start()
    submit = pool.submit
    with ThreadPoolExecutor(1) as other:

        def submit_late(*args: Any) -> Future[Any]:
            wait([other.submit(embedder.close)], timeout=0.2)
            return submit(*args)

        monkeypatch.setattr(pool, "submit", submit_late)
        monkeypatch.setattr(embedder, "_start", lambda: pool)
        with pytest.raises(EmbedderError, match="ended"):
            embedder.embed(TEXTS)


class Missing(FakeEmbedder):
    """Cannot be loaded; says in which process."""

    def __init__(self) -> None:
        raise EmbedderUnavailable(f"weights are missing in {os.getpid()}")


def test_process_embedder_encoder_that_cannot_be_loaded_tells_why_from_one_process() -> None:
    reasons = []
    with ProcessEmbedder(Missing, "fake", 64) as embedder:
        for _ in range(2):
            with pytest.raises(EmbedderUnavailable, match="weights are missing") as caught:
                embedder.embed(TEXTS)
            reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]


class Endless(FakeEmbedder):
    """Never returns."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()


def test_process_embedder_closed_at_work_fails_the_texts() -> None:
    embedder = ProcessEmbedder(Endless, "fake", 64)
    with ThreadPoolExecutor(1) as waiting:
        found = waiting.submit(embedder.embed, TEXTS)
        while embedder._pool is None or not embedder._pool._processes:
            pass
        embedder.close()
        with pytest.raises(EmbedderError, match="ended"):
            found.result(timeout=30)


def test_process_embedder_ends_with_its_parent_even_when_that_is_killed() -> None:
    program = (
        "import os\n"
        "from livemind.rag.encoder.process import ProcessEmbedder\n"
        "from livemind.rag.encoder.fake import FakeEmbedder\n"
        "if __name__ == '__main__':\n"
        "    ProcessEmbedder(FakeEmbedder, 'fake', 64).embed(['hi'])\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    # The child holds the pipe as long as it lives: run() returns when it is gone.
    killed = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=20)
    assert killed.returncode == -9
