"""Sessions over HTTP with the live client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from livemind import (
    InvalidRequest,
    LiveClient,
    NotFound,
    Unavailable,
)
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert

from .relay import relayed


async def test_http_session_is_adopted_by_a_streamed_answer(serve: Any, eventually: Any) -> None:
    async with serve() as doors, LiveClient(doors.url) as client:
        assert {model.id for model in await client.models()} == {"auto", "fake"}
        opened = await client.create_session(model="fake", speculation="prefill")
        assert (await client.put_input(opened.id, "what is the port of ke", 1)).revision == 1
        live = doors.state.registry.find(opened.id, None)
        await eventually(lambda: live.status().prefill)
        prefill = (await client.session_status(opened.id)).prefill
        assert prefill is not None
        assert prefill.expert == "fake"
        pieces = [p async for p in client.complete("what is the port?", session_id=opened.id)]
        assert "".join(piece.text for piece in pieces) == "WHAT IS THE PORT?"
        assert pieces[-1].usage is not None
        assert pieces[-1].usage.completion_tokens == 4
        assert {piece.finish_reason for piece in pieces} == {None, "stop"}
        assert (await client.stats())["turns"]["completed"] == 1
        await client.delete_session(opened.id)
        with pytest.raises(NotFound):
            await client.session_status(opened.id)
        await doors.quiet()


async def test_http_answer_that_breaks_off_is_an_error_and_asks_once(
    serve: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with (
        serve(expert) as doors,
        relayed(doors) as relay,
        LiveClient(relay.url) as client,
    ):
        answer = client.complete("one two three")
        assert (await anext(answer)).text in ("", "ONE ")
        relay.cut()
        with pytest.raises(Unavailable) as failed:
            async for _ in answer:
                pass
        assert failed.value.code == "connection_lost"
        assert expert.started == 1
        await doors.quiet()


async def test_http_answer_that_never_began_is_not_asked_for_again(
    serve: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", ttft_s=3600)
    async with serve(expert) as doors, relayed(doors) as relay, LiveClient(relay.url) as client:
        asking = asyncio.create_task(anext(client.complete("one two")))
        await eventually(lambda: expert.running)
        relay.cut()
        with pytest.raises(Unavailable) as failed:
            await asking
        assert failed.value.code == "connection_lost"
        expert.refuse = ExpertUnavailable("fake", "the engine is not running")
        with pytest.raises(Unavailable, match="the engine is not running"):
            await anext(client.complete("one two"))
        assert relay.connections == 2
        await doors.quiet()


async def test_http_answer_without_its_last_event_is_an_error() -> None:
    async def cut_short(request: web.Request) -> web.Response:
        return web.Response(text='data: {"choices": [{"delta": {"content": "one"}}]}\n\n')

    app = web.Application()
    app.router.add_post("/v1/chat/completions", cut_short)
    async with TestServer(app) as server, LiveClient(str(server.make_url("/"))) as client:
        answer = client.complete("hello")
        assert (await anext(answer)).text == "one"
        with pytest.raises(Unavailable, match="broke off"):
            await anext(answer)


async def test_http_answer_that_is_closed_frees_the_expert(serve: Any, eventually: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors, LiveClient(doors.url) as client:
        answer = client.complete("one two three")
        await anext(answer)
        await answer.aclose()
        await doors.quiet()
        with pytest.raises(InvalidRequest, match="nothing_known"):
            await anext(client.complete("one", nothing_known=True))
