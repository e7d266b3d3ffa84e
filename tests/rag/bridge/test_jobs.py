"""Ingests that go on behind their answer: seen, refused when too many, cancelled, ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from livemind.rag.bridge import documents as module
from livemind.rag.bridge.jobs import MAX_WAITING
from livemind.rag.bridge.server import serve_bridge
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.library import Library

DOCUMENTS = "/v1/collections/notes/documents"
LATER = {"Prefer": "respond-async"}


def body(*texts: str) -> dict[str, Any]:
    return {"documents": [{"id": f"{n}.txt", "text": text} for n, text in enumerate(texts)]}


@pytest.fixture
async def http(library: Library, worker: EmbedWorker) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve_bridge(library, worker, port=0) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http,
    ):
        yield http


async def ended(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = (await http.get(f"/v1/jobs/{name}")).json()
        if job["status"] not in ("waiting", "running"):
            return job
        await asyncio.sleep(0.01)


async def test_job_stores_what_can_be_read_and_tells_what_not(http: httpx.AsyncClient) -> None:
    asked = body("kestrel port", "heron pond")
    asked["documents"].append({"id": "c.json", "text": "{"})
    answer = await http.post(DOCUMENTS, json=asked, headers=LATER)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    job = await ended(http, answer.json()["id"])
    assert (job["status"], job["documents"], job["done"], job["passages"]) == ("completed", 3, 3, 2)
    assert [why.partition(":")[0] for why in job["refused"]] == ["c.json"]
    listed = (await http.get(DOCUMENTS)).json()["documents"]
    assert [one["id"] for one in listed] == ["0.txt", "1.txt"]


async def test_job_is_made_of_a_large_body_unless_it_is_waited_for(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWERED_LATER_BYTES", 64)
    asked = body("kestrel " * 20)
    assert (await http.post(DOCUMENTS, json=asked, headers={"Prefer": "wait"})).status_code == 200
    later = await http.post(DOCUMENTS, json=asked)
    assert later.status_code == 202
    assert (await ended(http, later.json()["id"]))["passages"] == 0  # it is stored already


async def test_job_cancelled_stops_and_keeps_what_it_stored(
    http: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    first = (await http.post(DOCUMENTS, json=body("one"), headers=LATER)).json()["id"]
    await ended(http, first)
    embedder.gate.clear()
    running = (await http.post(DOCUMENTS, json=body("one", "two"), headers=LATER)).json()["id"]
    waiting = (await http.post(DOCUMENTS, json=body("three"), headers=LATER)).json()["id"]
    jobs = (await http.get("/v1/jobs")).json()["data"]
    assert [job["id"] for job in jobs] == [waiting, running, first]
    for name in (waiting, running):
        cancelled = (await http.delete(f"/v1/jobs/{name}")).json()
        assert cancelled["status"] == "cancelled"
    embedder.gate.set()
    listed = (await http.get(DOCUMENTS)).json()["documents"]
    assert [one["id"] for one in listed] == ["0.txt"]
    assert (await http.delete(f"/v1/jobs/{first}")).json()["status"] == "completed"


async def test_job_whose_encoder_fails_is_told_as_failed(
    http: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    embedder.error = RuntimeError("out of order")
    name = (await http.post(DOCUMENTS, json=body("one"), headers=LATER)).json()["id"]
    job = await ended(http, name)
    assert (job["status"], job["done"]) == ("failed", 0)
    assert job["error"] == "the encoder failed"


async def test_job_too_many_waiting_are_refused_with_a_time_to_come_back(
    http: httpx.AsyncClient, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    answers = [
        await http.post(DOCUMENTS, json=body(f"text {n}"), headers=LATER)
        for n in range(MAX_WAITING + 3)
    ]
    embedder.gate.set()
    assert 429 in {answer.status_code for answer in answers}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Retry-After"] == "5"
    for answer in answers:
        if answer.status_code == 202:
            assert (await ended(http, answer.json()["id"]))["status"] == "completed"


async def test_job_that_nobody_knows_is_a_404(http: httpx.AsyncClient) -> None:
    for method in ("GET", "DELETE"):
        answer = await http.request(method, "/v1/jobs/ingest_none")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_job"
