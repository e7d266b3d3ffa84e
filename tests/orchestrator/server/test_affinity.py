"""Conversations stay on the replica that knows them, and routers behind it are told what belongs
together: prefill, draft and answer of a turn, and the turns of a conversation.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from livemind.backends.remote.affinity import digest
from livemind.backends.remote.routers import ROUTERS
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.affinity import session_key, told_key
from livemind.orchestrator.server.app import create_app, run_server
from livemind.orchestrator.server.state import STATE
from livemind.rag.encoder.fake import FakeEmbedder

from .conftest import Doors
from .replica import Replica

SOURCES = ("header:X-Session-Id", "live_session", "session", "prompt_cache_key", "user")
LONG = "Answer every question about gardens. " * 40


@asynccontextmanager
async def fleet(
    replicas: Sequence[Replica], *, gateways: int = 1, server: Any = None, **expert: Any
) -> AsyncIterator[list[Doors]]:
    """Serve gateways in front of the same replicas."""
    async with AsyncExitStack() as stack:
        for replica in replicas:
            await stack.enter_async_context(replica.serving())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        doors = []
        for _ in range(gateways):
            settings = Settings.model_validate(
                {
                    "server": server or {},
                    "experts": [
                        {
                            "expert_id": "far",
                            "kind": "remote",
                            "model": "m",
                            "base_urls": [replica.url for replica in replicas],
                            **expert,
                        }
                    ],
                    "rag": {"enabled": False},
                }
            )
            mind = await stack.enter_async_context(LiveMind(settings, embedder=FakeEmbedder))
            listener = socket.create_server(("127.0.0.1", 0))
            app = create_app(mind)
            await stack.enter_async_context(run_server(app, listener))
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            doors.append(Doors(url, mind, app[STATE], {}, http))
        yield doors


def conversation(number: int, turn: int, instructions: str | None) -> list[dict[str, str]]:
    """Return what a client sends in a turn: everything so far."""
    opening = [{"role": "system", "content": instructions}] if instructions else []
    said = [{"role": "user", "content": f"question {number}"}]
    for n in range(turn):
        said += [
            {"role": "assistant", "content": "four words to read"},
            {"role": "user", "content": f"and then {n}"},
        ]
    return opening + said


def homes(replicas: Sequence[Replica]) -> dict[str, set[str]]:
    """Return where the requests of each conversation were asked, by its first user text."""
    found: dict[str, set[str]] = {}
    for replica in replicas:
        for body, _ in replica.asked:
            first = next(m["content"] for m in body["messages"] if m["role"] == "user")
            found.setdefault(first, set()).add(replica.name)
    return found


@pytest.mark.parametrize("model", ["far", "auto"])
@pytest.mark.parametrize("instructions", [None, LONG])
@pytest.mark.parametrize("gateways", [1, 2])
async def test_second_turn_without_any_key_is_on_the_replica_that_knows_it(
    model: str, instructions: str | None, gateways: int
) -> None:
    replicas = [Replica(f"r{n}") for n in range(3)]
    async with fleet(replicas, gateways=gateways) as doors:
        for turn in range(2):
            for number in range(15):
                body = {"model": model, "messages": conversation(number, turn, instructions)}
                gateway = doors[(number + turn) % gateways]
                status, answer = await gateway.post("/v1/chat/completions", body)
                assert status == 200, answer
    found = homes(replicas)
    assert len(found) == 15
    assert all(len(names) == 1 for names in found.values())
    assert len(set.union(*found.values())) > 1 or instructions is not None


async def test_second_turns_of_many_at_once_are_on_the_replica_that_knows_them() -> None:
    replicas = [Replica(f"r{n}") for n in range(3)]
    async with fleet(replicas) as (doors,):
        order = list(range(200))
        for turn in range(2):
            random.Random(turn).shuffle(order)
            limit = asyncio.Semaphore(8)  # no replica can be overloaded: half of what one takes

            async def ask(number: int, turn: int, limit: asyncio.Semaphore) -> None:
                async with limit:
                    body = {"model": "far", "messages": conversation(number, turn, None)}
                    assert (await doors.post("/v1/chat/completions", body))[0] == 200

            await asyncio.gather(*(ask(number, turn, limit) for number in order))
    found = homes(replicas)
    assert len(found) == 200
    assert all(len(names) == 1 for names in found.values())


async def test_turn_of_a_live_session_prefill_draft_and_answer_carry_one_key() -> None:
    replicas = [Replica(f"r{n}") for n in range(3)]
    async with fleet(replicas) as (doors,), doors.live(configure=False) as live:
        await live.send(type="session.update", model="far", speculation="draft")
        session = (await live.until("session.updated"))["session"]["id"]
        await live.send(type="input_text.append", text="what grows in the shade of an old wall?")
        await live.until("draft.created")
        await live.send(
            type="input_text.replace", text="what grows in the shade of an old wall in May?"
        )
        await live.send(type="input_text.commit")
        await live.until("response.done")
    asked = [replica for replica in replicas if replica.asked]
    assert len(asked) == 1
    assert set(asked[0].told()) == {digest(session)}  # the id itself would open the session
    kinds = {bool(body.get("stream")) for body, _ in asked[0].asked}
    assert kinds == {False, True}  # prefills, and the draft and the answer


@pytest.mark.parametrize(
    ("headers", "fields", "key"),
    [
        ({"X-Session-Id": "abc"}, {"user": "ann", "session": "s"}, "abc"),
        ({}, {"user": "ann", "prompt_cache_key": "p", "session": "s"}, "s"),
        ({}, {"user": "ann", "prompt_cache_key": "p"}, "p"),
        ({}, {"user": "ann@example.org"}, digest("ann@example.org")),
        ({"X-Session-Id": "  "}, {"user": "ann"}, "ann"),
        ({}, {"user": "ü"}, digest("ü")),
    ],
)
async def test_key_of_the_caller_reaches_the_server_as_an_id(
    headers: dict[str, str], fields: dict[str, str], key: str
) -> None:
    replica = Replica()
    async with fleet([replica]) as (doors,):
        for path, body in (
            ("/v1/chat/completions", {"messages": conversation(1, 0, None)}),
            ("/v1/responses", {"input": "question 1"}),
        ):
            status, answer = await doors.post(
                path, {"model": "far", **body, **fields}, headers=headers
            )
            assert status == 200, answer
    assert replica.told() == [key, key]


async def test_keys_of_the_configuration_are_looked_for_in_its_order() -> None:
    replica = Replica()
    server = {"affinity_from": ["user", "header:X-Tenant"]}
    async with fleet([replica], server=server) as (doors,):
        body = {"model": "far", "messages": conversation(1, 0, None)}
        ask = doors.post
        await ask("/v1/chat/completions", {**body, "user": "u"}, headers={"X-Tenant": "t"})
        await ask("/v1/chat/completions", body, headers={"X-Tenant": "t", "X-Session-Id": "s"})
        await ask("/v1/chat/completions", {**body, "session": "s"})
    first, second, third = replica.told()
    assert (first, second) == ("u", "t")
    assert third not in ("s", None)


@pytest.mark.parametrize("name", list(ROUTERS))
async def test_router_is_shown_its_own_headers_and_gets_its_tokens_back(name: Any) -> None:
    replica, known = Replica(), ROUTERS[name]
    replica.tokens = {header: f"token-{n}" for n, header in enumerate(known.tokens)}
    async with fleet([replica], router=name) as (doors,):
        for turn in range(2):
            body = {"model": "far", "session": "s-1", "messages": conversation(1, turn, None)}
            await doors.post("/v1/chat/completions", body)
        await doors.post("/v1/chat/completions", {**body, "session": "s-2"})
    for header in known.key:
        assert replica.told(header) == ["s-1", "s-1", "s-2"]
    for header in known.tokens:
        assert replica.told(header) == [None, replica.tokens[header], None]
    for header, value in known.fixed.items():
        assert replica.told(header) == [value] * 3


async def test_headers_of_the_configuration_stand_in_for_the_routers_own() -> None:
    replica = Replica()
    replica.tokens = {"X-Pod": "pod-7", "X-Session-Token": "t"}
    given: Any = {"router": "llm-d", "session_headers": ["X-Who"], "token_headers": ["X-Pod"]}
    async with fleet([replica], **given) as (doors,):
        for _ in range(2):
            body = {"model": "far", "session": "s", "messages": conversation(1, 0, None)}
            await doors.post("/v1/chat/completions", body)
    assert replica.told("X-Who") == ["s", "s"]
    assert replica.told("X-Pod") == [None, "pod-7"]
    assert replica.told("X-Session-Token") == [None, None]


async def test_token_that_is_too_long_or_no_text_is_not_sent_back() -> None:
    replica = Replica()
    async with fleet([replica], router="llm-d") as (doors,):
        for token in ("x" * 2000, "caf\u00e9", "good", ""):
            replica.tokens = {"X-Session-Token": token}
            body = {"model": "far", "session": "s", "messages": conversation(1, 0, None)}
            await doors.post("/v1/chat/completions", body)
        await doors.post("/v1/chat/completions", body)
    assert replica.told("X-Session-Token") == [None, None, None, "good", "good"]


async def test_session_that_is_lost_is_answered_where_its_id_was_prefilled() -> None:
    replicas = [Replica(f"r{n}") for n in range(5)]
    async with fleet(replicas) as (doors,):
        for n in range(6):
            headers = {"X-LiveMind-Session": f"sess_lost_{n}"}
            for _ in range(2):
                body = {"model": "far", "messages": conversation(n, 0, None), "user": "ann"}
                status, _ = await doors.post("/v1/chat/completions", body, headers=headers)
                assert status == 200
    told = [key for replica in replicas for key in replica.told()]
    assert set(told) == {digest(f"sess_lost_{n}") for n in range(6)}


def test_session_key_what_stands_behind_live_session_does_not_count() -> None:
    headers = {"X-Session-Id": "s", "X-Late": "l"}
    assert session_key(SOURCES, headers) == "s"
    assert session_key(("live_session", "header:X-Late"), headers) is None
    assert told_key((), headers, {"user": "ann"}) is None
