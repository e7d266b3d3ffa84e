"""The programs of ``examples/`` as a user runs them: real processes, an expert of known answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import livemind
from livemind.benchmarks.harness.server_process import free_port, running

EXAMPLES = Path(livemind.__file__).parent / "examples"
DATA = Path(livemind.__file__).parent / "benchmarks" / "data"
ANSWER = "word word word word"
MOST_LINES = 60


def config(backend: str) -> dict[str, Any]:
    expert = {"kind": "remote", "base_urls": [backend], "model": "fake"}
    experts = [{"expert_id": name, **expert} for name in ("first", "second")]
    return {"experts": experts, "rag": {"enabled": False}}


@asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Yield the URLs of a backend of known answers and of a LiveMind before it."""
    port = free_port()
    words = ("--port", str(port), "--latency-ms", "20", "--itl-ms", "2", "--tokens", "4")
    module = "livemind.benchmarks.harness.fake_server"
    backend = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *words)
    try:
        url = f"http://127.0.0.1:{port}"
        async with running(config(url), folder) as served:
            yield url, served
    finally:
        backend.kill()
        await backend.wait()


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Keep both servers up, on a thread with a loop of its own, while the module's tests run."""
    folder = tmp_path_factory.mktemp("served")
    ready, found, ends = threading.Event(), [], []

    async def serve() -> None:
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        try:
            async with both(folder) as addresses:
                found.append(addresses)
                ready.set()
                await stop.wait()
        finally:
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    assert found, "the servers did not start"
    yield found[0]
    loop, stop = ends[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()


def run(name: str, *arguments: str) -> str:
    words = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_short_and_tested() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert not {name: lines for name, lines in lengths.items() if lines > MOST_LINES}
    source = Path(__file__).read_text()
    assert not [name for name in lengths if f'run("{name}"' not in source]


def test_sdk_types_a_question_and_prints_the_answer(urls: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(urls[0])))
    said = run("sdk.py", str(file))
    assert ANSWER in said
    assert "completed by" in said


def test_own_retriever_gives_its_note_to_the_expert(urls: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config(urls[0])))
    assert run("own_retriever.py", str(file)).splitlines()[-1] == "from kestrel"


def test_live_websocket_prints_the_answer_after_the_commit(urls: tuple[str, str]) -> None:
    said = run("live_websocket.py", urls[1])
    assert said.startswith("SessionCreated")
    assert ANSWER in said
    assert "completed:" in said


def test_openai_session_adopts_what_was_prepared(urls: tuple[str, str]) -> None:
    pytest.importorskip("openai")
    assert run("openai_session.py", urls[1]).strip() == ANSWER


def test_openai_realtime_asks_twice_on_one_connection(urls: tuple[str, str]) -> None:
    pytest.importorskip("openai")
    said = run("openai_realtime.py", urls[1]).splitlines()
    assert [line.strip() for line in said] == [ANSWER, "completed: 4 tokens"] * 2


def test_bench_foreign_measures_a_server_that_is_not_ours(urls: tuple[str, str]) -> None:
    said = run("bench_foreign.py", urls[0], "fake").splitlines()[-1]
    assert said.startswith("fake, arm V: p50 ")


@pytest.fixture
def utterance(tmp_path: Path) -> str:
    """The first utterance of a recording, its final transcript included."""
    rows = (DATA / "speech_partials_whisper_tiny_en.jsonl").read_text().splitlines()
    first = [row for row in rows if json.loads(row)["id"] == json.loads(rows[0])["id"]]
    file = tmp_path / "partials.jsonl"
    file.write_text("\n".join(first))
    return str(file)


def test_livekit_agent_hears_a_recording_and_answers(urls: tuple[str, str], utterance: str) -> None:
    pytest.importorskip("livekit.agents")
    said = run("livekit_agent.py", utterance, urls[1]).splitlines()
    assert said[-2:] == ["user: What is the port on Ruby?", f"assistant: {ANSWER}"]


def test_pipecat_pipeline_hears_a_recording_and_answers(
    urls: tuple[str, str], utterance: str
) -> None:
    pytest.importorskip("pipecat")
    assert run("pipecat_pipeline.py", utterance, urls[1]).strip() == ANSWER
