"""What a client may see of an error."""

from __future__ import annotations

import asyncio

import pytest

from livemind.backends.errors import ExpertError, ExpertOverloaded, ExpertUnavailable
from livemind.backends.remote.expert import RemoteExpert
from livemind.backends.remote.refusals import rejected, telling
from livemind.backends.spec import ExpertSpec
from livemind.orchestrator.errors import from_exception


def test_refusal_of_a_remote_server_is_told_without_its_words() -> None:
    info = from_exception(rejected("e", "host-7 says: no such lever", "top_k", "bad"))
    assert (info.status, info.param, info.code) == (400, "top_k", "bad")
    assert "host-7" not in info.message
    long = rejected("e", "maximum context length is 8 on host-7", None, None)
    assert from_exception(long).code == "context_length_exceeded"
    assert "host-7" not in from_exception(long).message


async def test_server_that_cannot_be_reached_is_told_without_its_address() -> None:
    url = "http://127.0.0.1:9"
    expert = RemoteExpert(ExpertSpec(expert_id="e", kind="remote", base_urls=(url,)))
    with pytest.raises(ExpertUnavailable) as caught:
        await expert.start()
    assert "127.0.0.1:9" in caught.value.message
    assert "127.0.0.1" not in from_exception(caught.value).message
    await asyncio.sleep(0)


def test_unavailable_expert_says_when_to_come_back() -> None:
    assert from_exception(ExpertUnavailable("e", "failed", 42.0)).retry_after_s == 42.0
    assert from_exception(ExpertUnavailable("e", "failed")).retry_after_s == 1.0


def test_of_several_failures_the_shortest_wait_counts() -> None:
    gone: ExpertError = ExpertUnavailable("e", "gone")
    long, short = ExpertOverloaded("e", "busy", 9.0), ExpertOverloaded("e", "busy", 2.0)
    refused = rejected("e", "no", None, None)
    assert telling([long, short, gone], gone) is short
    assert telling([gone, gone], gone) is gone
    assert telling([short, refused], refused) is refused
