"""Two gateways behind HAProxy and nginx: sessions stay, a gateway dies, all are replaced."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from livemind.client import LiveClient
from livemind.orchestrator.errors import LiveMindError
from livemind.orchestrator.events import ResponseDone

from .fleet import CONFIGURATIONS, Fleet, adapted, fleet, program

SESSIONS = int(os.environ.get("LIVEMIND_FLEET", "100"))
TEXT = "what grows best in the shade of an old wall that faces north"
ANSWER = "four words to read"
KEY_S = 0.25
TRIES = 3

balancers = pytest.mark.parametrize("balancer", list(CONFIGURATIONS))


def needs(balancer: str) -> None:
    """``make test``, which takes the machine as it is, leaves out what is not installed."""
    if program(balancer) is None:
        missing = f"{balancer} is not installed (apt install {balancer})"
        if "LIVEMIND_FLEET" in os.environ:  # `make test-fleet` is there to run it
            pytest.fail(missing)
        pytest.skip(missing)


@balancers
def test_configuration_is_valid(balancer: str, tmp_path: Path) -> None:
    needs(balancer)
    file = tmp_path / "balancer.conf"
    file.write_text(adapted(balancer, 18080, [18001, 18002]))
    check = {
        "haproxy": ["-c", "-f", str(file)],
        "nginx": ["-t", "-c", str(file), "-g", f"pid {tmp_path}/pid; error_log stderr;"],
    }[balancer]
    done = subprocess.run(
        [str(program(balancer)), *check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warn" not in (done.stdout + done.stderr).lower()


async def typed_turn(http: aiohttp.ClientSession, url: str, name: str) -> str:
    """Type a question into a session of this id and ask it; return what became of the session.

    As OpenAI's client does, a request that was not answered, or by a 5xx, is sent again.
    """
    place, text = f"{url}/v1/live/sessions/{name}/input", ""
    for word in TEXT.split():
        text += f"{word} "
        await _again(http, "PUT", place, {"text": text})
        await asyncio.sleep(KEY_S * random.uniform(0.5, 1.5))
    body = {"model": "far", "messages": [{"role": "user", "content": text.strip()}]}
    headers = {"X-LiveMind-Session": name}
    answer, told = await _again(http, "POST", f"{url}/v1/chat/completions", body, headers)
    assert answer["choices"][0]["message"]["content"] == ANSWER
    return str(told["X-LiveMind-Session-Status"])


async def _again(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    body: dict[str, Any],
    headers: dict[str, str] | None = None,
) -> tuple[dict[str, Any], Any]:
    for attempt in range(TRIES):
        try:
            async with http.request(method, url, json=body, headers=headers) as answer:
                if answer.status < 500:
                    assert answer.status in (200, 201), await answer.text()
                    return await answer.json(), answer.headers
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.5 * 2**attempt)
    raise AssertionError(f"{method} {url}: not answered")


async def typists(running: Fleet, turns: int, until: asyncio.Event | None = None) -> Counter[str]:
    """Let everybody type so many turns, a session each; return what became of the sessions.

    ``until``: and go on until it is set.
    """
    limit = aiohttp.ClientTimeout(total=60)
    found: Counter[str] = Counter()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=limit, connector=connector) as http:

        async def one(number: int) -> None:
            await asyncio.sleep(random.uniform(0, 2))
            turn = 0
            while turn < turns or not (until is None or until.is_set()):
                found[await typed_turn(http, running.url, f"typist-{number}-{turn}")] += 1
                turn += 1

        await asyncio.gather(*(one(number) for number in range(SESSIONS)))
    return found


async def rolled(running: Fleet) -> None:
    """Replace one gateway after the other."""
    for gateway in running.gateways:
        assert await gateway.end(signal.SIGTERM) == 0
        await gateway.start()
        await asyncio.sleep(2)


@balancers
@pytest.mark.fleet
@pytest.mark.timeout(400)
async def test_sessions_with_ids_of_their_own_stay_on_their_gateway(
    balancer: str, tmp_path: Path
) -> None:
    needs(balancer)
    async with fleet(balancer, tmp_path) as running:
        assert await typists(running, 1) == {"adopted": SESSIONS}


@balancers
@pytest.mark.fleet
@pytest.mark.timeout(400)
async def test_gateway_that_is_killed_takes_no_turn_with_it(balancer: str, tmp_path: Path) -> None:
    needs(balancer)
    async with fleet(balancer, tmp_path) as running:
        typing = asyncio.create_task(typists(running, 2))
        await asyncio.sleep(4)
        await running.gateways[0].end(signal.SIGKILL)
        found = await typing
    assert found.total() == 2 * SESSIONS
    assert (
        found["adopted"] >= 0.9 * found.total()
    )  # the others were committed before their next word


@pytest.mark.fleet
@pytest.mark.timeout(400)
async def test_rolling_update_behind_haproxy_loses_no_turn_and_no_head_start(
    tmp_path: Path,
) -> None:
    needs("haproxy")
    async with fleet("haproxy", tmp_path, lame_duck_s=15.0) as running:
        done = asyncio.Event()
        typing = asyncio.create_task(typists(running, 1, done))
        await asyncio.sleep(2)
        await rolled(running)
        done.set()
        found = await typing
    assert found == {"adopted": found.total()}
    assert found.total() >= 2 * SESSIONS


@balancers
@pytest.mark.fleet
@pytest.mark.timeout(400)
@pytest.mark.parametrize("model", ["far", "auto"])
async def test_second_turns_without_any_key_are_on_the_replica_that_knows_them(
    balancer: str, model: str, tmp_path: Path
) -> None:
    needs(balancer)
    async with fleet(balancer, tmp_path) as running:
        for turn in range(2):
            for number in range(SESSIONS):
                said = [{"role": "user", "content": f"question {number}"}]
                if turn:
                    said.append({"role": "assistant", "content": ANSWER})
                    said.append({"role": "user", "content": "and then?"})
                async with aiohttp.ClientSession() as http:  # a connection of its own
                    body = {"model": model, "messages": said}
                    await _again(http, "POST", f"{running.url}/v1/chat/completions", body)
        homes: dict[str, set[str]] = {}
        for replica in running.replicas:
            for asked, _ in replica.asked:
                homes.setdefault(asked["messages"][0]["content"], set()).add(replica.name)
    assert len(homes) == SESSIONS
    assert sum(len(names) == 1 for names in homes.values()) >= 0.99 * SESSIONS


@pytest.mark.fleet
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["killed", "rolled"])
async def test_live_connections_move_with_their_conversations(how: str, tmp_path: Path) -> None:
    needs("haproxy")
    async with fleet("haproxy", tmp_path, lame_duck_s=4.0) as running:
        failed: list[str] = []

        async def one(client: LiveClient, number: int) -> int:
            ended = 0
            async with client.session(model="far", speculation="prefill") as session:
                for _ in range(4):
                    for word in TEXT.split():
                        session.append(f"{word} ")
                        await asyncio.sleep(KEY_S * random.uniform(0.5, 1.5))
                    try:
                        events = [event async for event in session.commit()]
                        last = events[-1]
                        assert isinstance(last, ResponseDone)
                        assert last.status == "completed"
                        ended += 1
                    except LiveMindError as exc:
                        failed.append(exc.code)
            return ended

        async with LiveClient(running.url, attempts=8) as client:
            typing = [asyncio.create_task(one(client, n)) for n in range(SESSIONS // 2)]
            await asyncio.sleep(4)
            if how == "killed":
                await running.gateways[0].end(signal.SIGKILL)
            else:
                await rolled(running)
            ended = sum(await asyncio.gather(*typing))
    assert ended + len(failed) == 4 * (SESSIONS // 2)
    if how == "rolled":
        assert failed == []
    else:  # answers that had begun on the one that was killed
        assert len(failed) <= 0.05 * ended
