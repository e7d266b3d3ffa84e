"""What a server is told of requests that may wait: nothing, unless it orders them by that."""

from __future__ import annotations

import httpx
import pytest

from livemind.backends.base import GenerationParams, Message, Priority
from livemind.backends.remote.expert import RemoteExpert

from .scripted import STOPPED, USAGE, Servers, VirtualRun, check, delta, sse

WHOLE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}


@pytest.mark.parametrize(
    ("told", "priority", "expected"),
    [
        (True, Priority.SPECULATIVE, 10),
        (True, Priority.FOREGROUND, None),
        (False, Priority.SPECULATIVE, None),
    ],
)
def test_requests_ahead_carry_their_priority_where_the_server_orders_by_it(
    virtual_run: VirtualRun, told: bool, priority: Priority, expected: int | None
) -> None:
    servers = Servers(httpx.Response(200, json=WHOLE), sse(delta("a"), STOPPED, USAGE))

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render([Message("user", "go")], open_turn=False)
        await expert.prefill(prompt, priority=priority)
        params = GenerationParams()
        stream = expert.generate(prompt, params, priority=priority, request_id="r")
        assert [chunk async for chunk in stream]
        asked = [body.get("priority") for _, _, body in servers.asked[-2:]]
        assert asked == [expected, expected]

    check(virtual_run, servers, then, send_priorities=told)
