"""What one key may take from the others, on a running server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.keys import digest_of

CHAT = "/v1/chat/completions"


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def slow() -> FakeExpert:
    return FakeExpert("fake", answer=lambda messages: "one two three", token_s=0.02)


async def test_key_that_floods_takes_no_turn_from_another_and_waits_itself(
    serve: Any, body: Any
) -> None:
    limits = {"max_concurrent_turns": 8, "max_waiting_turns": 120}
    async with serve(slow(), api_keys=["flood", "quiet"], **limits) as doors:
        stop = asyncio.Event()
        refused = 0

        async def flood() -> None:
            nonlocal refused
            while not stop.is_set():
                status, _ = await doors.post(CHAT, body(), headers=bearer("flood"))
                refused += status == 429
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            for _ in range(64):
                group.create_task(flood())
            await asyncio.sleep(0.2)
            for _ in range(10):
                status, answer = await doors.post(CHAT, body(), headers=bearer("quiet"))
                assert status == 200, answer
            stop.set()
        assert not refused
        await doors.quiet()
        assert doors.mind.stats()["answering"] == 0


async def test_key_whose_requests_fill_the_queue_is_refused_and_others_are_not(
    serve: Any, body: Any
) -> None:
    limits = {"max_concurrent_turns": 2, "max_waiting_turns": 14}
    async with serve(slow(), api_keys=["flood", "quiet"], **limits) as doors:
        asked = [
            asyncio.create_task(doors.post(CHAT, body(), headers=bearer("flood")))
            for _ in range(40)
        ]
        await asyncio.sleep(0.1)
        assert (await doors.post(CHAT, body(), headers=bearer("quiet")))[0] == 200
        statuses = [status for status, _ in await asyncio.gather(*asked)]
        assert set(statuses) == {200, 429}
        _, answer = await doors.post(CHAT, body(), headers=bearer("flood"))
        assert "error" not in answer


async def test_key_over_its_tokens_a_minute_waits_and_is_told_how_long(
    serve: Any, body: Any, tmp_path: Any
) -> None:
    key = "a key of this test"
    kept = {"keys": [{"name": "small", "sha256": digest_of(key), "tokens_per_minute": 60}]}
    file = tmp_path / "keys.json"
    await asyncio.to_thread(file.write_text, json.dumps(kept))
    async with serve(api_keys_file=file, turn_wait_s=0.1) as doors:
        text = "word " * 300
        assert (await doors.post(CHAT, body(text), headers=bearer(key)))[0] == 200
        url = doors.url + CHAT
        async with doors.http.post(url, json=body(text), headers=bearer(key)) as response:
            told = (await response.json())["error"]
            assert (response.status, told["code"]) == (429, "tokens_per_minute_exceeded")
            assert 100 < int(response.headers["Retry-After"]) < 600
        assert doors.mind.stats()["waiting"] == 0


async def test_idle_session_of_the_greediest_key_makes_room(serve: Any) -> None:
    async with serve(api_keys=["greedy", "other"], max_sessions=4) as doors:
        made = []
        for _ in range(4):
            status, session = await doors.post("/v1/live/sessions", headers=bearer("greedy"))
            assert status == 201
            made.append(session["id"])
        for count in (1, 2):
            assert (await doors.post("/v1/live/sessions", headers=bearer("other")))[0] == 201, count
        gone = [
            (await doors.ask("GET", f"/v1/live/sessions/{name}", headers=bearer("greedy")))[0]
            for name in made
        ]
        assert gone == [404, 404, 200, 200]
        assert (await doors.post("/v1/live/sessions", headers=bearer("other")))[0] == 429
        assert (await doors.post("/v1/live/sessions", headers=bearer("greedy")))[0] == 429


async def test_prompts_of_two_keys_share_no_cache_unless_both_want_it(
    serve: Any, body: Any, both_ways: str
) -> None:
    async with serve(api_keys=["a", "b"]) as doors:
        text = "the same words " * 40

        async def cached(name: str, **fields: Any) -> int:
            status, answer = await doors.post(CHAT, body(text, **fields), headers=bearer(name))
            assert status == 200, answer
            details: dict[str, int] = answer["usage"]["prompt_tokens_details"]
            return details["cached_tokens"]

        assert await cached("a") == 0
        assert await cached("a") > 0
        assert await cached("b") == 0
        assert await cached("a", cache_salt="own") == 0
        assert await cached("b", cache_salt="own") == 0
        assert await cached("a", cache_salt="shared") == 0
        assert await cached("b", cache_salt="shared") > 0


async def test_key_with_limits_keeps_them(serve: Any, tmp_path: Any, body: Any) -> None:
    key = "a key of this test"
    limits = {"max_sessions": 1, "max_turns": 1}
    kept = {"keys": [{"name": "small", "sha256": digest_of(key), **limits}]}
    file = tmp_path / "keys.json"
    await asyncio.to_thread(file.write_text, json.dumps(kept))
    async with serve(slow(), api_keys_file=file) as doors:
        assert (await doors.post("/v1/live/sessions", headers=bearer(key)))[0] == 201
        status, answer = await doors.post("/v1/live/sessions", headers=bearer(key))
        assert (status, answer["error"]["code"]) == (429, "too_many_sessions")
        asked = [doors.post(CHAT, body(), headers=bearer(key)) for _ in range(3)]
        running = []

        async def watch() -> None:
            while True:
                running.append(doors.experts["fake"].running)
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        statuses = sorted(status for status, _ in await asyncio.gather(*asked))
        watching.cancel()
        assert max(running) == 1
        assert statuses == [200, 200, 200]
