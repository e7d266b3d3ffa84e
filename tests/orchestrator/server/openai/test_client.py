"""The official ``openai`` client, unchanged: sync and async, streaming and not."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from livemind.backends.fake import FakeExpert

MESSAGES: Any = [{"role": "user", "content": "one two three"}]


def sync_client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=10)


def async_client(url: str, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=10)


async def test_sync_client_gets_whole_and_streamed_answers(serve: Any) -> None:
    def talk(url: str) -> tuple[str | None, str, list[str]]:
        with sync_client(url) as client:
            whole = client.chat.completions.create(model="auto", messages=MESSAGES, stop=" THREE")
            stream = client.chat.completions.create(model="fake", messages=MESSAGES, stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
            names = [model.id for model in client.models.list()]
            return whole.choices[0].message.content, "".join(pieces), names

    async with serve() as doors:
        whole, streamed, names = await asyncio.to_thread(talk, doors.url)
        assert whole == "ONE TWO"
        assert streamed == "ONE TWO THREE"
        assert names == ["auto", "fake"]


async def test_async_client_gets_a_whole_answer_with_logprobs(serve: Any) -> None:
    async with serve() as doors, async_client(doors.url) as client:
        answer = await client.chat.completions.create(
            model="auto", messages=MESSAGES, logprobs=True, top_logprobs=2, seed=1
        )
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert [entry.token for entry in logprobs.content or []] == ["ONE", " TWO", " THREE"]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 3


async def test_async_client_stream_ends_with_usage(serve: Any) -> None:
    async with serve() as doors, async_client(doors.url) as client:
        stream = await client.chat.completions.create(
            model="auto", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 3
        assert chunks[-2].choices[0].finish_reason == "stop"


async def test_async_client_completes_a_prompt(serve: Any) -> None:
    async with serve() as doors, async_client(doors.url) as client:
        whole = await client.completions.create(model="auto", prompt="a b", logprobs=1)
        assert whole.choices[0].text == "A B"
        stream = await client.completions.create(model="auto", prompt="a b", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "A B"


async def test_client_raises_its_own_errors(serve: Any) -> None:
    async with serve(api_keys=["right"]) as doors:
        async with async_client(doors.url, "wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with async_client(doors.url, "right") as client:
            with pytest.raises(openai.NotFoundError) as missing:
                await client.chat.completions.create(model="nope", messages=MESSAGES)
            assert missing.value.code == "model_not_found"
            with pytest.raises(openai.BadRequestError) as bad:
                await client.chat.completions.create(model="auto", messages=MESSAGES, n=200)
            assert bad.value.param == "n"


async def test_client_sees_a_failure_in_mid_stream(serve: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors, async_client(doors.url) as client:
        expert.crash_after_tokens = 1
        stream = await client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        seen = []

        async def read() -> None:
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content)

        with pytest.raises(openai.APIError, match="not running"):
            await read()
        assert "".join(piece or "" for piece in seen) == "ONE"


async def test_client_that_closes_its_stream_frees_the_slot(serve: Any) -> None:
    expert = FakeExpert("fake", token_s=3600)
    async with serve(expert) as doors, async_client(doors.url) as client:
        stream = await client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        await anext(aiter(stream))
        assert expert.running == 1
        await stream.close()
        await doors.quiet()
        assert expert.aborted == 1
        assert doors.state.metrics.stats()["turns_cancelled"] == 1


async def test_client_that_gives_up_on_a_whole_answer_frees_the_slot(serve: Any) -> None:
    expert = FakeExpert("fake", ttft_s=3600)
    async with serve(expert) as doors, async_client(doors.url) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="auto", messages=MESSAGES, timeout=1.0)
        await doors.quiet()
        assert expert.aborted == 1


async def test_client_adopts_a_live_session_with_the_extra_header_alone(
    serve: Any, eventually: Any
) -> None:
    expert = FakeExpert("fake", prefill_token_s=0.001)
    async with serve(expert) as doors, async_client(doors.url) as client:
        _, session = await doors.post("/v1/live/sessions", {"speculation": "prefill"})
        path = f"/v1/live/sessions/{session['id']}/input"
        text = "one two three four five six seven eight nine ten eleven twelve"
        for revision, cut in enumerate((20, 40, len(text)), start=1):
            await doors.ask("PUT", path, json={"text": text[:cut] + " ", "revision": revision})
            await asyncio.sleep(0.1)
        await eventually(lambda: expert.prefilled_tokens)
        answer = await client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": text}],
            extra_headers={"X-LiveMind-Session": session["id"]},
        )
        assert answer.choices[0].message.content == text.upper()
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        assert (answer.usage.prompt_tokens_details.cached_tokens or 0) > 0
