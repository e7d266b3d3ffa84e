"""Drafts and predictions travel to servers that verify them, and to no others."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from livemind.backends.base import (
    Chunk,
    Draft,
    GenerationParams,
    Message,
    Priority,
    Usage,
)
from livemind.backends.remote.expert import RemoteExpert

from .scripted import (
    STOPPED,
    USAGE,
    Servers,
    VirtualRun,
    check,
    delta,
    sse,
)


def drafted(
    expert: RemoteExpert, draft: Draft | None, **params: Any
) -> Coroutine[Any, Any, list[Chunk]]:
    async def main() -> list[Chunk]:
        prompt = expert.render([Message("user", "go")], open_turn=False)
        values = GenerationParams(**params)
        stream = expert.generate(
            prompt, values, priority=Priority.FOREGROUND, request_id="r", draft=draft
        )
        return [chunk async for chunk in stream]

    return main()


ANSWER = (delta("a", token_ids=[5]), delta("bc", token_ids=[6, 7]), STOPPED, USAGE)


def test_generate_draft_travels_with_the_request_and_is_counted(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(*ANSWER))

    async def then(expert: RemoteExpert) -> None:
        assert expert.capabilities.drafts
        chunks = await drafted(expert, [5, 6, 9])
        assert servers.asked[-1][2]["vllm_xargs"] == {"livemind_draft": [5, 6, 9]}
        assert chunks[-1].usage == Usage(9, 2, 4, 2, 1)

    check(virtual_run, servers, then, verify_drafts=True)


def test_generate_prediction_is_tokenized_by_the_server(virtual_run: VirtualRun) -> None:
    servers = Servers(httpx.Response(200, json={"tokens": [5, 6]}), sse(*ANSWER))

    async def then(expert: RemoteExpert) -> None:
        chunks = await drafted(expert, None, prediction="abc")
        paths = [(path, body.get("prompt")) for _, path, body in servers.asked]
        assert paths == [("/tokenize", "abc"), ("/v1/chat/completions", None)]
        assert servers.asked[-1][2]["vllm_xargs"] == {"livemind_draft": [5, 6]}
        assert chunks[-1].usage == Usage(9, 2, 4, 2, 0)

    check(virtual_run, servers, then, verify_drafts=True)


@pytest.mark.parametrize(
    ("settings", "params"),
    [({}, {}), ({"verify_drafts": True}, {"min_p": 0.1})],
    ids=["not configured", "cannot be verified"],
)
def test_generate_draft_that_no_server_would_verify_is_not_sent(
    virtual_run: VirtualRun, settings: dict[str, Any], params: dict[str, Any]
) -> None:
    servers = Servers(sse(*ANSWER))

    async def then(expert: RemoteExpert) -> None:
        chunks = await drafted(expert, [5, 6], **params)
        assert "vllm_xargs" not in servers.asked[-1][2]
        assert chunks[-1].usage == Usage(9, 2, 4)

    check(virtual_run, servers, then, **settings)


def test_generate_prediction_without_a_tokenizing_server_is_ignored(
    virtual_run: VirtualRun,
) -> None:
    servers = Servers(httpx.Response(404, json={"error": {"message": "no"}}), sse(*ANSWER))

    async def then(expert: RemoteExpert) -> None:
        chunks = await drafted(expert, "abc")
        assert chunks[-1].usage == Usage(9, 2, 4)

    check(virtual_run, servers, then, verify_drafts=True)
