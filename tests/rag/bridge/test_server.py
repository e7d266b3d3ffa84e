"""The bridge over a real socket: what it finds, refuses, drops and admits to."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from livemind.rag.bridge import server
from livemind.rag.bridge.api import MAX_BODY_BYTES
from livemind.rag.bridge.retrieve import NO_TIME_TO_READ, BridgeSettings
from livemind.rag.bridge.server import BridgeError, bridge_app, run_bridge, serve_bridge
from livemind.rag.encoder import kinds
from livemind.rag.encoder.embedder import EmbedderUnavailable
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.library import READERS, Library

ASK: dict[str, Any] = {
    "query": "the port of Kestrel",
    "session_id": "s",
    "revision": 1,
    "mode": "dense",
}


async def ask(http: httpx.AsyncClient, **fields: object) -> httpx.Response:
    return await http.post("/v1/retrieve", json=ASK | fields, timeout=10)


async def asking(
    http: httpx.AsyncClient, worker: EmbedWorker, **fields: object
) -> asyncio.Task[httpx.Response]:
    """Start a request and wait until its text has reached the encoder or its queue."""
    misses = worker.stats().misses
    task = asyncio.ensure_future(ask(http, **fields))
    async with asyncio.timeout(10):
        while worker.stats().misses == misses:  # noqa: ASYNC110 - nothing to subscribe to
            await asyncio.sleep(0.001)
    return task


async def test_retrieve_question_about_an_entity_returns_its_passage_first(
    http: httpx.AsyncClient,
) -> None:
    response = await ask(http, top_k=2, request_id="r-7")
    answer = response.json()
    assert response.status_code == 200
    assert answer["revision"] == 1
    assert answer["request_id"] == "r-7"
    assert answer["index_version"] == "fake-1"
    assert answer["degraded"] == []
    assert answer["timings_ms"]["embed"] > 0
    assert answer["timings_ms"]["dense"] > 0
    best, second = answer["results"]
    assert best["text"] == "Kestrel\nThe port of Kestrel is 361."
    assert (best["source"], best["rank"], second["rank"]) == ("handbook.md", 1, 2)
    assert best["score"] > second["score"]


async def test_retrieve_min_score_of_null_is_the_encoders_own(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [r["score"] for r in (await ask(http, top_k=3, min_score=-1.0)).json()["results"]]
    monkeypatch.setattr(kinds, "MIN_SCORES", {"fake": scores[1]})
    calibrated = (await ask(http, top_k=3, min_score=None)).json()["results"]
    assert [r["score"] for r in calibrated] == scores[:2]


async def test_retrieve_name_in_the_words_needs_no_cosine_unless_one_is_asked_for(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "MIN_SCORES", {"fake": 0.99})
    asked = {"query": "kestrel", "mode": "hybrid", "top_k": 3}
    named = (await ask(http, **asked, min_score=None)).json()["results"]
    assert named
    assert all("Kestrel" in one["text"] for one in named)
    assert (await ask(http, **asked, min_score=0.99)).json()["results"] == []


async def test_retrieve_min_score_leaves_out_what_is_below(http: httpx.AsyncClient) -> None:
    scores = [r["score"] for r in (await ask(http, top_k=3, min_score=-1.0)).json()["results"]]
    assert len(scores) == 3
    limited = (await ask(http, top_k=3, min_score=scores[1])).json()["results"]
    assert [r["score"] for r in limited] == scores[:2]


BAD_FIELDS = [
    pytest.param({"query": ""}, "query", "invalid_value", id="empty query"),
    pytest.param({"query": " \n\t"}, "query", "invalid_value", id="blank query"),
    pytest.param({"query": "x" * 8001}, "query", "invalid_value", id="long query"),
    pytest.param({"query": 7}, "query", "invalid_value", id="query not text"),
    pytest.param({"query": None}, "query", "invalid_value", id="query null"),
    pytest.param({"top_k": 0}, "top_k", "invalid_value", id="top_k 0"),
    pytest.param({"top_k": 51}, "top_k", "invalid_value", id="top_k 51"),
    pytest.param({"top_k": 10**30}, "top_k", "invalid_value", id="top_k huge"),
    pytest.param({"top_k": 2.5}, "top_k", "invalid_value", id="top_k float"),
    pytest.param({"top_k": True}, "top_k", "invalid_value", id="top_k bool"),
    pytest.param({"min_score": 1.5}, "min_score", "invalid_value", id="min_score"),
    pytest.param({"revision": -1}, "revision", "invalid_value", id="revision -1"),
    pytest.param({"revision": "1"}, "revision", "invalid_value", id="revision text"),
    pytest.param({"partial": "yes"}, "partial", "invalid_value", id="partial text"),
    pytest.param({"deadline_ms": 0}, "deadline_ms", "invalid_value", id="deadline 0"),
    pytest.param({"deadline_ms": 1e9}, "deadline_ms", "invalid_value", id="deadline huge"),
    pytest.param({"session_id": ""}, "session_id", "invalid_value", id="session empty"),
    pytest.param({"session_id": "x" * 129}, "session_id", "invalid_value", id="session long"),
    pytest.param({"request_id": ""}, "request_id", "invalid_value", id="request id empty"),
    pytest.param({"topk": 3}, "topk", "unknown_field", id="unknown field"),
    pytest.param({"filter": {}}, "filter", "missing_field", id="empty filter"),
    pytest.param({"known": ["x"] * 257}, "known", "invalid_value", id="too many known"),
    pytest.param({"mode": "fuzzy"}, "mode", "invalid_value", id="unknown mode"),
]


@pytest.mark.parametrize(("fields", "param", "code"), BAD_FIELDS)
async def test_retrieve_bad_field_is_refused_by_name(
    http: httpx.AsyncClient,
    embedder: FakeEmbedder,
    fields: dict[str, object],
    param: str,
    code: str,
) -> None:
    response = await ask(http, **fields)
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["param"], error["code"]) == (param, code)
    assert param in error["message"]
    assert error["type"] == "invalid_request_error"
    assert embedder.batches == []


@pytest.mark.parametrize("field", ["query", "session_id", "revision"])
async def test_retrieve_missing_field_is_refused_by_name(
    http: httpx.AsyncClient, field: str
) -> None:
    body = {name: value for name, value in ASK.items() if name != field}
    response = await http.post("/v1/retrieve", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
    assert response.json()["error"]["code"] == "missing_field"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "invalid_json", id="empty"),
        pytest.param(b'{"query":', "invalid_json", id="torn"),
        pytest.param(b"\xff\x00\x80", "invalid_json", id="binary"),
        pytest.param(b'{"query": "\\ud800"}', "invalid_json", id="lone surrogate"),
        pytest.param(b"[1]", "invalid_value", id="a list"),
        pytest.param(b'"text"', "invalid_value", id="a string"),
        pytest.param(
            json.dumps(ASK).replace("1,", "NaN,").encode(), "invalid_value", id="nan revision"
        ),
    ],
)
async def test_retrieve_bad_body_is_refused(
    http: httpx.AsyncClient, body: bytes, code: str
) -> None:
    response = await http.post("/v1/retrieve", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code


async def test_retrieve_oversize_body_is_refused_with_the_limit(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/retrieve", content=b"x" * (MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "payload_too_large"
    assert str(MAX_BODY_BYTES) in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/retrieve", 405, "method_not_allowed"),
        ("POST", "/v1/nothing", 404, "not_found"),
        ("GET", "/../etc/passwd", 404, "not_found"),
    ],
)
async def test_bridge_unknown_path_or_method_gets_the_envelope(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code


async def test_retrieve_newer_revision_supersedes_the_one_in_work(
    http: httpx.AsyncClient, worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    blocker = await asking(http, worker, session_id="other")
    older = await asking(http, worker, query="the port", revision=1)
    newer = await asking(http, worker, query="the port of", revision=2)
    refused = await older
    embedder.gate.set()
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "superseded"
    assert (await newer).json()["revision"] == 2
    assert (await blocker).status_code == 200
    assert "the port" not in [text for batch in embedder.batches for text in batch]


async def test_retrieve_older_revision_after_a_newer_one_is_refused(
    http: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    await ask(http, revision=5)
    late = await ask(http, revision=4, query="something else")
    assert late.status_code == 409
    assert late.json()["error"]["param"] == "revision"
    assert len(embedder.batches) == 1
    assert (await ask(http, revision=5)).status_code == 200


async def test_retrieve_other_session_is_not_superseded(http: httpx.AsyncClient) -> None:
    await ask(http, revision=5)
    assert (await ask(http, revision=4, session_id="other")).status_code == 200


async def test_retrieve_deadline_passed_while_embedding_is_degraded(
    http: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    response = await ask(http, deadline_ms=20)
    answer = response.json()
    assert response.status_code == 200
    assert (answer["results"], answer["degraded"]) == ([], ["deadline: embed"])
    assert answer["timings_ms"]["embed"] is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 0}, "top_k: got 0, input should be greater than or equal to 1"),
        ({"top_k": 10**6}, "top_k: got 1000000, input should be less than or equal to 50"),
        ({"query": "  "}, "query: the text is empty"),
        ({"mode": "secret words"}, "mode: input should be 'dense', 'sparse' or 'hybrid'"),
    ],
)
async def test_retrieve_bad_value_is_named_with_its_limit_and_texts_are_not_repeated(
    http: httpx.AsyncClient, fields: dict[str, object], message: str
) -> None:
    response = await ask(http, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == message


async def test_retrieve_failing_encoder_leaves_the_words_and_says_so(
    http: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    embedder.error = RuntimeError("broken")
    response = await ask(http, mode="hybrid", min_score=0.2)
    answer = response.json()
    assert (response.status_code, answer["degraded"]) == (200, ["embed"])
    assert "Kestrel" in answer["results"][0]["text"]
    assert answer["results"][0]["scores"]["dense"] is None
    assert (await ask(http, mode="dense", revision=2)).status_code == 503


async def test_retrieve_deadline_passed_while_searching_is_degraded(
    http: httpx.AsyncClient, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(library, "search", never)
    answer = (await ask(http, deadline_ms=200)).json()
    assert answer["degraded"] == ["deadline: dense"]
    assert answer["timings_ms"]["embed"] is not None


async def test_retrieve_client_gone_drops_its_waiting_text(
    bridge_url: str, http: httpx.AsyncClient, worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    blocker = await asking(http, worker)
    gone = await asking(http, worker, query="gone", session_id="gone", deadline_ms=60_000)
    gone.cancel()
    async with asyncio.timeout(10):
        while worker.stats().dropped == 0:  # noqa: ASYNC110 - nothing to subscribe to
            await asyncio.sleep(0.001)
    embedder.gate.set()
    await blocker
    assert embedder.batches == [(ASK["query"],)]


async def test_retrieve_encoder_queue_full_is_refused_with_retry_after(
    http: httpx.AsyncClient, worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    tasks = [await asking(http, worker, query=f"q{i}", session_id=f"s{i}") for i in range(4)]
    refused = await ask(http, query="one too many", session_id="last")
    embedder.gate.set()
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert [response.status_code for response in await asyncio.gather(*tasks)] == [200] * 4


async def test_retrieve_more_than_max_concurrent_is_refused(
    library: Library, worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    settings = BridgeSettings(max_concurrent=1)
    async with (
        serve_bridge(library, worker, port=0, settings=settings) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        embedder.gate.clear()
        running = await asking(http, worker)
        refused = await ask(http, session_id="other")
        embedder.gate.set()
        assert (await running).status_code == 200
        assert (await ask(http)).status_code == 200
    assert refused.status_code == 429
    assert "1 retrievals are running" in refused.json()["error"]["message"]


async def test_retrieve_failing_encoder_is_a_503_without_its_words(
    http: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    embedder.error = RuntimeError("secret")
    response = await ask(http)
    assert response.status_code == 503
    assert "secret" not in response.text


async def test_retrieve_unforeseen_failure_is_a_bare_500_and_logs_no_query(
    http: httpx.AsyncClient,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(*_: object) -> None:
        raise LookupError(ASK["query"])

    monkeypatch.setattr(library, "search", broken)
    with caplog.at_level(logging.DEBUG, logger="livemind"):
        response = await ask(http)
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "internal error"
    assert "LookupError" in caplog.text
    assert "Kestrel" not in caplog.text


async def test_bridge_health_and_readiness_follow_the_encoder(
    http: httpx.AsyncClient, worker: EmbedWorker
) -> None:
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json()["status"] == "ready"
    await worker.aclose()
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/readyz")).status_code == 503
    assert (await ask(http)).status_code == 503


async def test_bridge_collections_tells_what_is_served(http: httpx.AsyncClient) -> None:
    await ask(http)
    answer = (await http.get("/v1/collections")).json()
    (served,) = answer["collections"]
    assert served["passages"] == 3
    assert served["documents"] == 1
    assert (served["dim"], served["method"], served["model"]) == (64, "exact", "fake")
    assert answer["embedding"]["misses"] == 1


async def test_bridge_app_encoder_of_another_size_is_refused(library: Library) -> None:
    with pytest.raises(ValueError, match="fake has 32 dimensions, default has 64"):
        bridge_app(library, EmbedWorker(FakeEmbedder(32)))


async def test_serve_bridge_port_in_use_is_refused_by_address(
    bridge_url: str, library: Library, worker: EmbedWorker
) -> None:
    port = int(bridge_url.rsplit(":", 1)[1])
    with pytest.raises(BridgeError, match=f"cannot listen on 127.0.0.1:{port}"):
        async with serve_bridge(library, worker, port=port):
            pass


async def test_serve_bridge_end_closes_the_port(library: Library, worker: EmbedWorker) -> None:
    async with serve_bridge(library, worker, port=0) as url:
        pass
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url}/healthz")


def test_run_bridge_missing_corpus_says_so_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MiniLMEmbedder", FakeEmbedder)
    said: list[str] = []
    args = Namespace(corpus=tmp_path / "nowhere", host="127.0.0.1", port=0)
    assert run_bridge(args, said.append) == 1
    assert said == [f"livemind bridge: {tmp_path / 'nowhere'}: no such folder"]


def test_run_bridge_missing_encoder_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise EmbedderUnavailable("install it")

    monkeypatch.setattr(server, "MiniLMEmbedder", missing)
    said: list[str] = []
    assert run_bridge(Namespace(corpus=tmp_path, host="127.0.0.1", port=0), said.append) == 1
    assert said == ["livemind bridge: install it"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_run_bridge_serves_until_a_signal_and_ends_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "a.md").write_text("## Kestrel\nThe port of Kestrel is 361.\n")
    code = (
        "import sys\n"
        "from argparse import Namespace\n"
        "from livemind.rag.bridge import server\n"
        "from livemind.rag.encoder.fake import FakeEmbedder\n"
        "server.MiniLMEmbedder = FakeEmbedder\n"
        "args = Namespace(corpus=sys.argv[1], host='127.0.0.1', port=0)\n"
        "sys.exit(server.run_bridge(args, lambda line: print(line, flush=True)))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"bridge: 1 passage \(exact search\) on (http://\S+), .*\n", line)
        assert found is not None
        answer = httpx.post(f"{found[1]}/v1/retrieve", json=ASK, trust_env=False).json()
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
    assert [r["text"] for r in answer["results"]] == ["Kestrel\nThe port of Kestrel is 361."]


Hold = Callable[[Literal["read", "scan"], int], AbstractAsyncContextManager[None]]


@pytest.fixture
def hold(library: Library, monkeypatch: pytest.MonkeyPatch) -> Hold:
    return partial(held, library, monkeypatch)


@asynccontextmanager
async def held(
    library: Library, monkeypatch: pytest.MonkeyPatch, kind: Literal["read", "scan"], reads: int
) -> AsyncIterator[None]:
    """So many reads, an hour old, that end when the block does."""
    run = library.read if kind == "read" else library.scan
    gate, begun = threading.Event(), threading.Semaphore(0)

    def read() -> None:
        begun.release()
        gate.wait()

    tasks = [asyncio.ensure_future(run(read)) for _ in range(reads)]
    try:
        for _ in tasks:
            await asyncio.to_thread(begun.acquire)
        monkeypatch.setattr(library._readers, "_clock", lambda: time.monotonic() + 3600.0)
        yield
    finally:
        gate.set()
        await asyncio.gather(*tasks)


async def test_retrieve_while_every_reader_hangs_is_overloaded_and_afterwards_answered(
    http: httpx.AsyncClient, hold: Hold
) -> None:
    async with hold("read", READERS):
        answer = await http.post("/v1/retrieve", json=ASK)
        assert answer.json()["degraded"] == [NO_TIME_TO_READ]
    again = await http.post("/v1/retrieve", json={**ASK, "revision": 2, "deadline_ms": 50_000.0})
    assert (again.json()["degraded"], len(again.json()["results"])) == ([], 3)


@pytest.mark.parametrize(("kind", "reads"), [("read", READERS - 1), ("scan", READERS)])
async def test_retrieve_beside_reads_that_hang_is_answered_while_a_reader_is_left(
    http: httpx.AsyncClient, hold: Hold, kind: Literal["read", "scan"], reads: int
) -> None:
    async with hold(kind, reads):
        answer = await http.post("/v1/retrieve", json=ASK)
        assert (answer.json()["degraded"], len(answer.json()["results"])) == ([], 3)


@pytest.mark.parametrize("mode", ["sparse", "dense"])
async def test_retrieve_filters_are_scans(http: httpx.AsyncClient, hold: Hold, mode: str) -> None:
    where = {"type": "eq", "key": "source", "value": "handbook.md"}
    async with hold("scan", READERS):
        answer = await http.post(
            "/v1/retrieve", json={**ASK, "mode": mode, "filter": where, "deadline_ms": 100.0}
        )
        assert answer.json()["degraded"] == [f"deadline: {mode}"]


@pytest.mark.parametrize(
    "path", ["/v1/collections", "/metrics", "/v1/collections/default/documents"]
)
async def test_counts_and_lists_do_not_wait_for_the_readers(
    http: httpx.AsyncClient, hold: Hold, path: str
) -> None:
    async with hold("read", READERS):
        assert (await http.get(path)).status_code == 200


SLOW_ENCODER = """
import sys
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from livemind.rag.bridge import server
from livemind.rag.encoder.fake import FakeEmbedder


class Slow(FakeEmbedder):
    def embed(self, texts):
        print("encoding", flush=True)
        time.sleep({seconds})
        return super().embed(texts)


if __name__ == "__main__":
    server.MiniLMEmbedder = Slow
    folder = {{sys.argv[1]: Path(sys.argv[2])}}
    args = Namespace(corpus=None, host="127.0.0.1", port=0)
    vars(args).update(folder)
    sys.exit(server.run_bridge(args, lambda line: print(line, flush=True)))
"""


TOKEN = "a token of this test alone"


@contextmanager
def slow_bridge(
    place: Path, kind: Literal["data", "corpus"], seconds: float
) -> Iterator[subprocess.Popen[str]]:
    """A bridge over ``place / kind`` whose encoder takes ``seconds`` for every batch."""
    program = place / "program.py"
    program.write_text(SLOW_ENCODER.format(seconds=seconds))
    command = [sys.executable, str(program), kind, str(place / kind)]
    own = {**os.environ, "LIVEMIND_BRIDGE_TOKEN": TOKEN}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own) as process:
        try:
            yield process
        finally:
            process.kill()


def test_run_bridge_signal_while_documents_are_encoded_ends_it(tmp_path: Path) -> None:
    body = {"documents": [{"id": "a.md", "text": "The port of Kestrel is 361."}]}
    with slow_bridge(tmp_path, "data", 3600.0) as process, ThreadPoolExecutor(1) as sending:
        assert process.stdout is not None
        url = re.search(r"http://[0-9.:]+", process.stdout.readline())
        assert url is not None
        documents = f"{url[0]}/v1/collections/default/documents"
        assert httpx.post(documents, json=body, trust_env=False).status_code == 401
        with_token = partial(
            httpx.post, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=50
        )
        sent = sending.submit(with_token, documents, json=body)
        assert process.stdout.readline() == "encoding\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        with pytest.raises(httpx.TransportError):
            sent.result()


def test_run_bridge_signal_while_its_folder_is_encoded_ends_it(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    passages = "".join(f"## Bird {number}\nIts port is {number}.\n" for number in range(4000))
    (tmp_path / "corpus" / "a.md").write_text(passages)
    with slow_bridge(tmp_path, "corpus", 0.2) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "encoding\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
