"""Documents over HTTP: stored, found, listed, removed, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from livemind.rag.bridge.api import MAX_UPSERT_BYTES
from livemind.rag.bridge.documents import MAX_WRITES
from livemind.rag.bridge.retrieve import BridgeSettings
from livemind.rag.bridge.server import serve_bridge
from livemind.rag.client.client import BridgeClient
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.ingest import BridgeSink, Folder, ingest
from livemind.rag.search.library import Library

DOCUMENTS = "/v1/collections/notes/documents"
ASK: dict[str, Any] = {"session_id": "s", "revision": 1, "collection": "notes"}


@pytest.fixture
async def url(library: Library, worker: EmbedWorker) -> AsyncIterator[str]:
    async with serve_bridge(library, worker, port=0) as url:
        yield url


@pytest.fixture
async def notes(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        documents = [
            {"id": "a.md", "text": "# A\n\nkestrel port\n", "metadata": {"lang": "en"}},
            {"id": "b.txt", "text": "osprey owner", "metadata": {"lang": "de"}},
        ]
        stored = await http.post(DOCUMENTS, json={"documents": documents})
        assert stored.status_code == 200, stored.text
        yield http


async def found(http: httpx.AsyncClient, query: str, **fields: object) -> list[str]:
    answer = await http.post("/v1/retrieve", json=ASK | {"query": query} | fields)
    assert answer.status_code == 200, answer.text
    return [result["document_id"] for result in answer.json()["results"]]


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
async def test_documents_stored_are_found_until_deleted(
    notes: httpx.AsyncClient, mode: str
) -> None:
    assert (await found(notes, "kestrel", mode=mode))[0] == "a.md"
    deleted = await notes.request("DELETE", DOCUMENTS, json={"ids": ["a.md", "nobody"]})
    assert deleted.json() == {"deleted": 1}
    assert "a.md" not in await found(notes, "kestrel", mode=mode)
    listed = (await notes.get(DOCUMENTS)).json()
    assert [d["id"] for d in listed["documents"]] == ["b.txt"]


async def test_retrieve_filter_known_and_metrics(notes: httpx.AsyncClient) -> None:
    where = {"type": "eq", "key": "lang", "value": "de"}
    assert await found(notes, "kestrel", filter=where, min_score=-1.0) == ["b.txt"]
    first = (await notes.post("/v1/retrieve", json=ASK | {"query": "kestrel"})).json()
    known = [first["results"][0]["hash"]]
    again = (
        await notes.post("/v1/retrieve", json=ASK | {"query": "kestrel", "known": known})
    ).json()
    assert first["results"][0]["text"] == "A\nkestrel port"
    assert again["results"][0]["text"] is None
    metrics = (await notes.get("/metrics")).text
    assert 'livemind_bridge_passages{collection="notes"} 2.0' in metrics
    assert 'livemind_bridge_retrievals_total{result="complete"} 3.0' in metrics


async def test_vector_store_search_answers_in_openai_form(notes: httpx.AsyncClient) -> None:
    body = {"query": "kestrel", "max_num_results": 1}
    answer = (await notes.post("/v1/vector_stores/notes/search", json=body)).json()
    assert answer["object"] == "vector_store.search_results.page"
    assert answer["data"][0]["file_id"] == "a.md"
    assert answer["data"][0]["content"] == [{"type": "text", "text": "A\nkestrel port"}]


def pdf(content: bytes) -> dict[str, object]:
    return {"id": "x.pdf", "data": base64.b64encode(content).decode()}


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        pytest.param(pdf(bytes(range(256)) * 8), 422, "unreadable_document", id="rubbish"),
        pytest.param(pdf(gzip.compress(bytes(9_999))), 422, "unreadable_document", id="zip as pdf"),
        pytest.param({"id": "x.zip", "data": "UEsD"}, 400, "unknown_format", id="zip"),
        pytest.param({"id": "../x.md", "text": "t"}, 400, "invalid_value", id="traversal"),
        pytest.param({"id": "/etc/x.md", "text": "t"}, 400, "invalid_value", id="absolute"),
        pytest.param(
            {"id": "x.md", "source": "a/../../b.md", "text": "t"}, 400, "invalid_value", id="source"
        ),
        pytest.param({"id": "x.md"}, 400, "invalid_value", id="no content"),
        pytest.param({"id": "x.md", "data": "%%%"}, 400, "invalid_value", id="not base64"),
        pytest.param({"id": "x.md", "text": " "}, 422, "unreadable_document", id="no text"),
        pytest.param(
            {"id": "x.md", "text": "t", "metadata": {"a; DROP": 1}}, 400, "invalid_value", id="key"
        ),
    ],
)
async def test_upsert_bad_document_is_refused_and_nothing_is_written(
    notes: httpx.AsyncClient, given: dict[str, object], status: int, code: str
) -> None:
    good = {"id": "good.md", "text": "good"}
    answer = await notes.post(DOCUMENTS, json={"documents": [good, given]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert "Traceback" not in answer.text
    listed = (await notes.get(DOCUMENTS)).json()["documents"]
    assert [d["id"] for d in listed] == ["a.md", "b.txt"]


async def test_upsert_too_large_or_a_bomb_is_refused_before_it_is_read(
    notes: httpx.AsyncClient,
) -> None:
    bomb = gzip.compress(bytes(MAX_UPSERT_BYTES + 1))
    packed = await notes.post(DOCUMENTS, content=bomb, headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 413
    assert packed.json()["error"]["code"] == "payload_too_large"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"filter": {"type": "eq", "key": "colour", "value": 1}}, 400, "unknown_filter_key"),
        ({"filter": {"type": "eq", "key": "1=1; --", "value": 1}}, 400, "invalid_value"),
        ({"collection": "nowhere"}, 404, "unknown_collection"),
    ],
)
async def test_retrieve_unknown_names_are_refused(
    notes: httpx.AsyncClient, fields: dict[str, object], status: int, code: str
) -> None:
    answer = await notes.post("/v1/retrieve", json=ASK | {"query": "x"} | fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_collection_with_a_path_as_name_is_refused(notes: httpx.AsyncClient) -> None:
    answer = await notes.put("/v1/collections/..%2Fevil")
    assert answer.status_code in (400, 404)


async def test_read_only_bridge_takes_no_documents(library: Library, worker: EmbedWorker) -> None:
    settings = BridgeSettings(writable=False)
    async with (
        serve_bridge(library, worker, port=0, settings=settings) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        answer = await http.post(DOCUMENTS, json={"documents": [{"id": "a.md", "text": "t"}]})
    assert answer.json()["error"]["code"] == "read_only"


async def test_ingest_folder_twice_stores_once_and_reports_what_it_cannot_read(
    notes: httpx.AsyncClient, url: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.md").write_text("# X\n\nfalcon\n")
    (tmp_path / "in" / "bad.pdf").write_bytes(b"rubbish")
    sink = BridgeSink(url)
    try:
        folder = Folder.at(tmp_path / "in")
        first = await ingest(sink, "notes", folder)
        again = await ingest(sink, "notes", folder)
    finally:
        await sink.aclose()
    assert (first.stored, len(first.refused), again.unchanged) == (1, 1, 1)
    assert "bad.pdf" in first.refused[0]
    assert await found(notes, "falcon", mode="sparse") == ["x.md"]


async def test_client_sends_known_texts_and_gets_whole_passages(
    notes: httpx.AsyncClient, url: str
) -> None:
    async with BridgeClient(url, collection="notes") as client:
        results = [
            await client.retrieve(
                "kestrel", revision=revision, partial=True, deadline_ms=5_000, session_id="s9"
            )
            for revision in (1, 2)
        ]
    assert [r.degraded for r in results] == [None, None]
    assert results[0].passages == results[1].passages
    assert results[1].passages[0].text == "A\nkestrel port"


@pytest.fixture
async def silent_url() -> AsyncIterator[str]:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client closes
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_client_final_query_is_answered_by_the_second_bridge_when_the_first_hangs(
    notes: httpx.AsyncClient, url: str, silent_url: str
) -> None:
    async with BridgeClient(silent_url, second_url=url, collection="notes") as client:
        result = await client.retrieve(
            "kestrel", revision=1, partial=False, deadline_ms=30_000, session_id="s"
        )
    assert result.degraded is None
    assert result.passages[0].text == "A\nkestrel port"


async def test_client_newer_revision_ends_the_older_request(silent_url: str) -> None:
    async with BridgeClient(silent_url) as client:

        async def ask(revision: int, deadline_ms: float) -> str | None:
            result = await client.retrieve(
                "x", revision=revision, partial=True, deadline_ms=deadline_ms, session_id="s"
            )
            return result.degraded

        older = asyncio.create_task(ask(1, 60_000))
        await asyncio.sleep(0)
        assert await ask(2, 30) == "timeout"
        assert await older == "superseded"


@pytest.mark.parametrize("limit", ["0", "1001", "0000000019999999999", "9" * 30])
async def test_list_limit_out_of_range_is_refused(notes: httpx.AsyncClient, limit: str) -> None:
    answer = await notes.get(DOCUMENTS, params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "limit"


async def test_retrieve_filter_by_a_number_beyond_64_bits_finds_nothing(
    notes: httpx.AsyncClient,
) -> None:
    assert await found(notes, "kestrel", filter={"type": "eq", "key": "lang", "value": 2**63}) == []


async def test_vector_store_search_slow_encoder_is_a_503_in_time(
    library: Library, worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    settings = BridgeSettings(search_deadline_s=0.05)
    async with (
        serve_bridge(library, worker, port=0, settings=settings) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as http,
    ):
        path = "/v1/vector_stores/default/search"
        embedder.gate.clear()
        cut = await http.post(path, json={"query": "kestrel"})
        nothing = await http.post(path, json={"query": "zzz"})
        embedder.gate.set()
    assert cut.json()["data"][0]["filename"] == "handbook.md"
    assert nothing.status_code == 503
    assert nothing.json()["error"]["code"] == "deadline"


async def test_client_final_query_goes_to_the_second_bridge_while_the_first_is_left_alone(
    dead_url: str, notes: httpx.AsyncClient
) -> None:
    async with BridgeClient(
        dead_url, second_url=str(notes.base_url).rstrip("/"), collection="notes", failures=1
    ) as client:
        ask: dict[str, Any] = {"deadline_ms": 5000.0, "session_id": "s"}
        partial = await client.retrieve("kestrel", revision=1, partial=True, **ask)
        final = await client.retrieve("kestrel", revision=2, partial=False, **ask)
        assert partial.degraded == "unreachable"
        assert final.degraded is None
        assert final.passages[0].source == "a.md"
        again = await client.retrieve("kestrel", revision=3, partial=True, **ask)
        assert again.degraded == "unreachable"


async def test_client_texts_left_out_are_those_known_when_it_asked(
    notes: httpx.AsyncClient,
) -> None:
    async with BridgeClient(str(notes.base_url), collection="notes", top_k=1) as client:
        ask: dict[str, Any] = {"revision": 1, "partial": True, "deadline_ms": 5000.0}
        await client.retrieve("kestrel", session_id="s", **ask)
        original = client._http.post

        async def overtaken(*args: Any, **kwargs: Any) -> httpx.Response:
            response = await original(*args, **kwargs)
            client._texts.keep("s", {})
            return response

        client._http.post = overtaken  # type: ignore[method-assign]
        again = await client.retrieve("kestrel", session_id="s", **ask)
        assert again.degraded is None
        assert "kestrel" in again.passages[0].text


async def test_ingest_file_with_an_unprintable_name_is_reported_and_the_rest_stored(
    library: Library, tmp_path: Path
) -> None:
    for name in (b"fine.md", b"line\nbreak.md", b"latin\xff.md"):
        (tmp_path / os.fsdecode(name)).write_text("# A\n\nkestrel\n")
    report = await ingest(library, "notes", Folder.at(tmp_path))
    assert report.stored == 1
    assert len(report.refused) == 2
    assert all(line.isprintable() for line in report.refused)


async def test_upsert_slow_uploads_are_cut_off_and_hold_no_write_back(
    notes: httpx.AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livemind.rag.bridge.api.BODY_GRACE_S", 0.5)
    address = httpx.URL(url)
    slow = []
    for _ in range(MAX_WRITES):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        head = f"POST {DOCUMENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
        writer.write(head.encode() + b'{"documents": [')
        slow.append((reader, writer))
    body = {"documents": [{"id": "c.md", "text": "falcon nest"}]}
    assert (await notes.post(DOCUMENTS, json=body)).status_code == 200
    for reader, writer in slow:
        assert b" 408 " in await reader.readline()
        writer.close()
    assert (await notes.post(DOCUMENTS, json=body)).status_code == 200


async def test_upsert_more_bodies_than_places_is_refused(
    notes: httpx.AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livemind.rag.bridge.documents.MAX_BODIES", 0)
    refused = await notes.post(DOCUMENTS, json={"documents": [{"id": "c.md", "text": "x"}]})
    assert refused.status_code == 429
    assert "bodies are being read" in refused.json()["error"]["message"]


async def test_post_of_another_sites_page_is_refused_and_stores_nothing(
    notes: httpx.AsyncClient,
) -> None:
    """A browser sends it without asking first: a body of type text/plain needs no leave."""
    answer = await notes.post(
        DOCUMENTS,
        content=b'{"documents": [{"id": "c.md", "text": "heron colour"}]}',
        headers={
            "content-type": "text/plain",
            "origin": "http://page.example",
            "sec-fetch-site": "cross-site",
        },
    )
    assert answer.status_code in (403, 415)
    assert "c.md" not in await found(notes, "heron colour")
