"""The gateway's door to the documents of its bridge."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from livemind.rag.bridge.entrance import Access
from livemind.rag.bridge.server import serve_bridge
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedWorker
from livemind.rag.search.library import Library

PATH = "/v1/documents"
TOKEN = "token-of-these-tests"
NOTE = {"documents": [{"id": "note.md", "text": "# Osprey\n\nThe port of Osprey is 4711.\n"}]}


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEMIND_BRIDGE_TOKEN", TOKEN)


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[str]:
    embedder = FakeEmbedder()
    library = Library.in_folder(tmp_path / "library", embedder)
    await library.create("default")
    worker = EmbedWorker(embedder)
    async with serve_bridge(library, worker, port=0, access=Access(token=TOKEN)) as url:
        yield url
    await worker.aclose()
    await library.aclose()


@pytest.fixture
def dead_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


@asynccontextmanager
async def listener(answer: Any) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """Listen as a bridge would, and keep what was asked."""
    asked: list[web.Request] = []

    async def keep(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        return web.json_response(answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", keep)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), asked


def rag(url: str) -> dict[str, Any]:
    return {"enabled": True, "bridge_url": url, "min_score": -1}


async def test_document_stored_is_listed_found_while_typing_and_gone_when_removed(
    serve: Any, bridge: str
) -> None:
    async with serve(rag=rag(bridge)) as doors:
        assert await doors.post(PATH, NOTE) == (
            200,
            {"documents": [{"id": "note.md", "passages": 1}]},
        )
        listed = (await doors.ask("GET", PATH))[1]
        assert [one["id"] for one in listed["documents"]] == ["note.md"]
        async with doors.live(configure=False) as live:
            await live.send(type="session.update")
            await live.send(type="input_text.append", text="What is the port of Osprey ")
            found = await live.until("retrieval.updated")
            [passage] = found["passages"]
            assert (passage["source"], passage["title"]) == ("note.md", "Osprey")
            assert "text" not in passage
        removed = await doors.ask("DELETE", PATH, json={"ids": ["note.md"]})
        assert removed == (200, {"deleted": 1})


async def test_list_is_given_in_pages(serve: Any, bridge: str) -> None:
    async with serve(rag=rag(bridge)) as doors:
        two = [{"id": f"{name}.md", "text": f"# {name}\n\ntext\n"} for name in "ab"]
        await doors.post(PATH, {"documents": two})
        status, page = await doors.ask("GET", f"{PATH}?limit=1&after=a.md")
        assert status == 200
        assert [one["id"] for one in page["documents"]] == ["b.md"]
        status, answer = await doors.ask("GET", f"{PATH}?limit=0")
        assert (status, answer["error"]["param"]) == (400, "limit")


async def test_refusal_of_the_bridge_reaches_the_client_as_it_is(serve: Any, bridge: str) -> None:
    async with serve(rag=rag(bridge)) as doors:
        body = {"documents": [{"id": "sheet.xlsx", "text": "x"}]}
        status, answer = await doors.post(PATH, body)
        assert (status, answer["error"]["code"]) == (400, "unknown_format")


async def test_ingest_that_goes_on_is_looked_at_and_ended_through_the_gateway(
    serve: Any, bridge: str
) -> None:
    async with serve(rag=rag(bridge)) as doors:
        later = {"Prefer": "respond-async"}
        async with doors.http.post(doors.url + PATH, json=NOTE, headers=later) as answer:
            assert answer.status == 202
            place, job = answer.headers["Location"], await answer.json()
        assert place == f"{PATH}/jobs/{job['id']}"
        while job["status"] in ("waiting", "running"):
            assert job["current_encoded"] <= job["current_passages"] <= 1
            job = (await doors.ask("GET", place))[1]
        assert (job["status"], job["done"], job["passages"]) == ("completed", 1, 1)
        assert (await doors.ask("DELETE", place))[1]["status"] == "completed"
        status, told = await doors.ask("GET", f"{PATH}/jobs/ingest_none")
        assert (status, told["error"]["code"]) == (404, "unknown_job")


async def test_document_above_the_limit_of_other_bodies_is_taken(serve: Any, bridge: str) -> None:
    async with serve(rag=rag(bridge), max_body_bytes=2048) as doors:
        text = "# Long\n\n" + "word " * 2000
        status, _ = await doors.post(PATH, {"documents": [{"id": "long.md", "text": text}]})
        assert status == 200
        assert (await doors.post("/v1/chat/completions", {"messages": text}))[0] == 413


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_page_of_another_site_neither_reads_nor_writes_documents(
    serve: Any, bridge: str, method: str
) -> None:
    page = {"Origin": "https://page.example"}
    given = {"headers": page, "json": None if method == "GET" else NOTE}
    async with serve(rag=rag(bridge)) as doors:
        assert (await doors.ask(method, PATH, **given))[0] == 403
        assert (await doors.ask("GET", PATH))[1]["documents"] == []
    async with serve(rag=rag(bridge), allowed_origins=["https://page.example"]) as doors:
        stored = await doors.http.post(doors.url + PATH, headers=page, json=NOTE)
        assert stored.status == 200
        assert stored.headers["Access-Control-Allow-Origin"] == "https://page.example"


async def test_key_needs_the_scope_of_documents(serve: Any, bridge: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = [
        {"name": scope, "sha256": sha256(scope.encode()).hexdigest(), "scopes": [scope]}
        for scope in ("ask", "ingest", "operate")
    ]
    file.write_text(json.dumps({"keys": keys}))
    async with serve(rag=rag(bridge), api_keys_file=str(file)) as doors:
        for scope, expected in (("ask", 403), ("operate", 403), ("ingest", 200)):
            bearer = {"Authorization": f"Bearer {scope}"}
            assert (await doors.post(PATH, NOTE, headers=bearer))[0] == expected
            wanted = 404 if scope == "ingest" else 403
            assert (await doors.ask("GET", f"{PATH}/jobs/none", headers=bearer))[0] == wanted
        bearer = {"Authorization": "Bearer ingest"}
        assert (await doors.ask("GET", "/v1/models", headers=bearer))[0] == 403


async def test_server_without_retrieval_says_so(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.post(PATH, NOTE)
        assert (status, answer["error"]["code"]) == (400, "no_retrieval")
        assert "rag.enabled" in answer["error"]["message"]


async def test_listener_that_does_not_know_the_token_is_told_nothing(serve: Any) -> None:
    async with (
        listener({"serves": "bridge", "proof": "0" * 64}) as (url, asked),
        serve(rag=rag(url)) as doors,
    ):
        status, answer = await doors.post(PATH, NOTE)
        assert (status, answer["error"]["code"]) == (503, "unavailable")
        assert {request.path for request in asked} == {"/v1/identity"}
        assert not any("Authorization" in request.headers for request in asked)


async def test_bridge_that_is_gone_is_said(serve: Any, dead_url: str) -> None:
    async with serve(rag=rag(dead_url)) as doors:
        status, answer = await doors.post(PATH, NOTE)
        assert (status, answer["error"]["code"]) == (503, "unavailable")
        assert "rag.bridge_url" in answer["error"]["message"]


async def test_body_that_stops_coming_is_refused_and_frees_the_bridge(
    serve: Any, bridge: str
) -> None:
    async with serve(rag=rag(bridge), body_timeout_s=0.2) as doors:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(doors.url.rpartition(":")[2])
        )
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f'{head}Content-Length: 1000\r\n\r\n{{"documents": ['.encode())
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"server.body_timeout_s" in answer
        assert (await doors.post(PATH, NOTE))[0] == 200
