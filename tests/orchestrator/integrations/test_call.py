"""One call's side of a server, against the real doors with a fake expert."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from livemind.backends.fake import FakeExpert
from livemind.integrations.answer import Answer, CallFailed
from livemind.integrations.call import Call

from .served import Served, answer, served

USER = {"role": "user", "content": "What is the port of Kestrel?"}


async def read(answer: Answer) -> str:
    async with aclosing(answer.read()) as pieces:
        return "".join([piece.text async for piece in pieces])


async def until(condition: object, limit_s: float = 5.0) -> None:
    """Wait until a call of ``condition`` is true."""
    assert callable(condition)
    for _ in range(int(limit_s / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"not so after {limit_s} s")


def chats(server: Served) -> int:
    return server.count("POST", "/v1/chat/completions")


async def test_call_partials_reach_the_session_newest_first() -> None:
    async with served() as server:
        call = Call(server.url)
        for end in range(1, 20):
            call.hear(str(USER["content"])[:end])
        await until(lambda: server.count("PUT", "/input") == 1)
        call.hear(str(USER["content"]))
        await until(lambda: server.count("PUT", "/input") == 2)
        assert await read(call.ask([USER]))
        await call.aclose()
        assert server.refused == []
        assert server.count("POST", "/v1/live/sessions") == 1
        assert server.count("DELETE", "") == 1


async def test_call_final_transcript_is_sent_only_where_no_question_follows_at_once() -> None:
    async with served() as server:
        call = Call(server.url)
        call.hear("What is")
        await until(lambda: server.count("PUT", "/input") == 1)
        call.hear(str(USER["content"]), final=True)
        await asyncio.sleep(0)  # a framework asks some steps of the loop later
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await read(call.ask([USER]))
        await asyncio.sleep(0.1)
        assert server.count("PUT", "/input") == 1
        call.hear("And of Heron?", final=True)
        await until(lambda: server.count("PUT", "/input") == 2)
        await call.aclose()


async def test_call_same_question_again_reads_the_same_answer() -> None:
    async with served() as server:
        call = Call(server.url)
        first = call.ask([USER])
        dropped = asyncio.create_task(read(first))
        await until(lambda: chats(server) == 1 or server.asked)
        dropped.cancel()
        again = call.ask([{"role": "user", "content": "what is the port of kestrel"}])
        assert again is first
        assert await read(again) == await read(first) != ""
        await call.aclose()
        assert chats(server) == 1


async def test_call_other_words_end_an_answer_that_nobody_reads() -> None:
    expert = FakeExpert("fake", answer=answer, token_s=1.0)
    async with served(expert) as server:
        call = Call(server.url, keep_s=60)
        async with aclosing(call.ask([USER]).read()) as pieces:
            await anext(pieces)
        assert expert.running == 1
        call.hear(str(USER["content"]))  # what was asked is no news
        await asyncio.sleep(0.05)
        assert expert.running == 1
        call.hear("What is the port of Kestrel and of Heron?")
        await until(lambda: expert.running == 0)
        await call.aclose()


async def test_call_answer_left_alone_ends_after_a_moment() -> None:
    expert = FakeExpert("fake", answer=answer, token_s=0.05)
    async with served(expert) as server:
        call = Call(server.url, keep_s=0.01)
        async with aclosing(call.ask([USER]).read()) as pieces:
            await anext(pieces)
        await until(lambda: expert.running == 0)
        asked_again = call.ask([USER])
        assert await read(asked_again)
        await call.aclose()
        assert len(server.asked) == 2


async def test_call_history_of_the_request_is_what_the_expert_sees() -> None:
    async with served() as server:
        call = Call(server.url)
        call.hear("What is")
        await read(call.ask([{"role": "system", "content": "Be brief."}, USER]))
        heard = {"role": "assistant", "content": "This is"}
        conversation = [{"role": "system", "content": "Be brief."}, USER, heard]
        call.tell(conversation)
        call.hear("And of")
        last = {"role": "user", "content": "And of Heron?"}
        await read(call.ask([*conversation, last]))
        await call.aclose()
        wanted = tuple((str(m["role"]), str(m["content"])) for m in [*conversation, last])
        assert server.asked[-1] == wanted


async def test_call_lost_session_is_answered_without_it_and_opened_anew() -> None:
    async with served() as server:
        call = Call(server.url)
        call.hear("What is")
        await until(lambda: call.session_id is not None)
        lost = call.session_id
        await call._request("DELETE", f"/v1/live/sessions/{lost}")
        assert await read(call.ask([USER]))
        assert call.session_id is None
        call.hear("And")
        await until(lambda: call.session_id not in (None, lost))
        await call.aclose()


async def test_call_session_lost_between_partials_is_opened_anew() -> None:
    async with served() as server:
        call = Call(server.url)
        call.hear("What is")
        await until(lambda: server.count("PUT", "/input") == 1)
        lost = call.session_id
        await call._request("DELETE", f"/v1/live/sessions/{lost}")
        call.hear("What is the")
        await until(lambda: call.session_id not in (None, lost))
        await until(lambda: server.requests[-1][0] == "PUT" and server.requests[-1][2] == 200)
        await call.aclose()


async def test_call_question_without_words_of_the_user_is_answered_outside_the_session() -> None:
    async with served() as server:
        call = Call(server.url)
        call.hear("What is")
        await until(lambda: server.count("PUT", "/input") == 1)
        greeting = [{"role": "system", "content": "Be brief."}] * 2
        assert await read(call.ask(greeting))
        assert server.asked[-1] == (("system", "Be brief."), ("user", "Be brief."))
        await call.aclose()
        assert server.refused == []


async def test_call_question_aside_leaves_the_running_answer_alone() -> None:
    async with served(FakeExpert("fake", answer=answer, token_s=0.002)) as server:
        call = Call(server.url)
        running = call.ask([USER])
        assert "The last was this" in await call.ask_aside(
            [{"role": "user", "content": "Sum this"}]
        )
        assert "Kestrel" in await read(running)
        await call.aclose()


async def test_call_refused_question_says_why_to_every_reader() -> None:
    async with served() as server:
        call = Call(server.url)
        asked = call.ask([USER], model="nobody")
        for _ in range(2):
            with pytest.raises(CallFailed, match="no such model") as caught:
                await read(asked)
            assert caught.value.status == 404
            assert not caught.value.retryable
        assert await read(call.ask([USER]))
        await call.aclose()


async def test_call_without_a_server_fails_the_question_and_not_the_partials() -> None:
    call = Call("http://127.0.0.1:9")
    call.hear("What is")
    with pytest.raises(CallFailed) as caught:
        await read(call.ask([USER]))
    assert caught.value.retryable
    await call.aclose()
    with pytest.raises(CallFailed, match="over"):
        call.ask([USER])
