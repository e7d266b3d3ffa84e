"""The remote expert against scripted servers: wire, retries, fail-over, limits, secrets."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey

from livemind.backends.base import (
    Chunk,
    Draft,
    GenerationParams,
    Image,
    Message,
    MessageDetails,
    Priority,
    StructuredOutput,
    TokenPrompt,
    ToolCall,
    Usage,
    joined,
)
from livemind.backends.errors import (
    ExpertError,
    ExpertOverloaded,
    ExpertTimeout,
    ExpertUnavailable,
    PromptRejected,
)
from livemind.backends.messages import joined_calls
from livemind.backends.remote import http as remote_http
from livemind.backends.remote.affinity import affinity_key, ranked
from livemind.backends.remote.expert import RemoteExpert
from livemind.backends.remote.http import RemoteServers
from livemind.backends.sampling import HINTS
from livemind.backends.spec import ExpertSpec

VirtualRun = Callable[[Coroutine[Any, Any, Any]], Any]
Answer = httpx.Response | Exception
MODELS = {"data": [{"id": "m", "max_model_len": 4096}]}


class Stream(httpx.AsyncByteStream):
    """A body sent block by block; ``closed`` tells whether the client released it."""

    def __init__(self, blocks: list[bytes], error: aiohttp.ClientError | None = None) -> None:
        self.blocks = blocks
        self.error = error
        self.closed = False


def sse(
    *events: object, done: bool = True, error: aiohttp.ClientError | None = None
) -> httpx.Response:
    blocks = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
    return httpx.Response(
        200, stream=Stream([*blocks, b"data: [DONE]\n\n"][: None if done else -1], error)
    )


def delta(text: str, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **fields}]}


STOPPED = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE_ALONE = {
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}
USAGE = {"choices": [], **USAGE_ALONE}


class Servers:
    """Answers from a script per host; what was asked is kept in ``asked`` as (host, path, body)."""

    def __init__(
        self,
        *scripted: Answer,
        open_turn: bool = False,
        by_host: Mapping[str, list[Answer]] | None = None,
    ) -> None:
        self.scripted = list(scripted)
        self.by_host = by_host or {}
        self.open_turn = open_turn
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.headers: list[httpx.Headers] = []
        self.models: Mapping[str, Any] | Exception = MODELS

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.headers.append(request.headers)
        if request.method == "GET":
            if isinstance(self.models, Exception):
                raise self.models
            return httpx.Response(200, json=self.models)
        body = json.loads(request.content)
        if body.get("messages") == [{"role": "user", "content": "Hello there"}]:
            return self.probe(body)
        self.asked.append((request.url.host, request.url.path, body))
        script = self.by_host.get(request.url.host, self.scripted)
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def probe(self, body: Mapping[str, Any]) -> httpx.Response:
        if "continue_final_message" in body and not self.open_turn:
            return httpx.Response(400, json={"error": {"message": "unknown field"}})
        tokens = 5 if "continue_final_message" in body else 9
        return httpx.Response(200, json={"choices": [], "usage": {"prompt_tokens": tokens}})


class Client:
    """What ``RemoteServers`` uses of ``aiohttp.ClientSession``; a ``Servers`` stands behind it."""

    def __init__(self, servers: Servers, *, headers: Mapping[str, str], **_: object) -> None:
        self.servers = servers
        self.headers = headers
        self.closed = False

    async def close(self) -> None:
        self.closed = True

    @asynccontextmanager
    async def get(self, url: str, **_: object) -> AsyncGenerator[Received, None]:
        response = self.ask(httpx.Request("GET", url, headers=self.headers))
        try:
            yield response
        finally:
            response.release()

    async def post(
        self, url: str, *, data: bytes, headers: Mapping[str, str], **_: object
    ) -> Received:
        sent = {**self.headers, **headers}
        return self.ask(httpx.Request("POST", url, headers=sent, content=data))

    def ask(self, request: httpx.Request) -> Received:
        if self.closed:
            raise RuntimeError("Session is closed")
        try:
            return Received(self.servers(request))
        except httpx.TransportError as error:
            raise as_aiohttp(error) from error


class Received:
    """A scripted response with aiohttp's face; it is its own ``content``."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.content = self
        self._stream = response.stream if isinstance(response.stream, Stream) else None
        self._blocks = list(self._stream.blocks if self._stream else [response.content])

    def at_eof(self) -> bool:
        return not self._blocks

    def iter_any(self) -> Received:
        return self

    def __aiter__(self) -> Received:
        return self

    async def __anext__(self) -> bytes:
        if self._blocks:
            return self._blocks.pop(0)
        if self._stream is not None and self._stream.error is not None:
            raise self._stream.error
        raise StopAsyncIteration

    def release(self) -> None:
        if self._stream is not None:
            self._stream.closed = True


def as_aiohttp(error: httpx.TransportError) -> aiohttp.ClientError:
    if isinstance(error, httpx.ConnectError):
        key = ConnectionKey("one", 80, False, True, None, None, None)
        return aiohttp.ClientConnectorError(key, OSError(str(error)))
    if isinstance(error, httpx.ReadTimeout):
        return aiohttp.SocketTimeoutError(str(error))
    raise error


async def started(servers: Servers, *hosts: str, **settings: Any) -> RemoteExpert:
    urls = tuple(f"http://{host}" for host in hosts or ("one",))
    values = {"expert_id": "e", "kind": "remote", "model": "m", "base_urls": urls, **settings}
    expert = RemoteExpert(ExpertSpec(**values), cast(Any, partial(Client, servers)))
    await expert.start()
    return expert


async def answer(
    expert: RemoteExpert, prompt: TokenPrompt | None = None, **params: Any
) -> list[Chunk]:
    prompt = prompt or expert.render([Message("user", "Hi")], open_turn=False)
    stream = expert.generate(
        prompt, GenerationParams(**params), priority=Priority.FOREGROUND, request_id="r"
    )
    return [chunk async for chunk in stream]


def check(
    run: VirtualRun,
    servers: Servers,
    then: Callable[[RemoteExpert], Coroutine[Any, Any, Any]],
    *hosts: str,
    **settings: Any,
) -> Any:
    """Start an expert on the servers, run the check, stop it."""

    async def main() -> Any:
        expert = await started(servers, *hosts, **settings)
        try:
            return await then(expert)
        finally:
            await expert.stop()

    return run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


def test_generate_stream_becomes_chunks_with_usage_on_the_last(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("Hel"), delta("lo"), STOPPED, USAGE))
    chunks = check(virtual_run, servers, answer)
    assert [chunk.text for chunk in chunks] == ["Hel", "lo", ""]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, "stop"]
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (9, 2, 4)


@pytest.mark.parametrize(
    "events",
    [
        [delta("a", logprobs=None), {**delta("b"), "error": None}, STOPPED, USAGE],
        [delta("a", logprobs={"content": None, "refusal": None}), delta("b"), STOPPED, USAGE],
        [
            delta("a", logprobs={"content": [{"token": "a", "logprob": -0.5}]}),
            delta("b"),
            STOPPED,
            USAGE,
        ],
        [delta("a", finish_reason="stop"), {**delta("b", finish_reason="stop"), **USAGE_ALONE}],
        [delta("ab"), STOPPED, {**delta(""), **USAGE_ALONE}],
        [
            delta("ab", logprobs={"content": [{"token": "ab", "logprob": -math.inf}]}),
            STOPPED,
            USAGE,
        ],
        [delta("ab"), {**USAGE, **STOPPED}],
    ],
    ids=[
        "error null",
        "logprobs null",
        "no alternatives",
        "two ends",
        "usage beside nothing",
        "infinite logprob",
        "usage with the end",
    ],
)
def test_generate_understands_what_servers_send_otherwise(
    virtual_run: VirtualRun, events: list[dict[str, Any]]
) -> None:
    chunks = check(virtual_run, Servers(sse(*events)), answer)
    assert "".join(chunk.text for chunk in chunks) == "ab"
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage.prompt_tokens == 9


def test_generate_halves_of_an_emoji_are_replaced(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("a\ud83d"), delta("\ude00b"), STOPPED))
    chunks = check(virtual_run, servers, answer)
    assert "".join(chunk.text for chunk in chunks) == "a??b"


def test_generate_every_parameter_reaches_the_body(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("x"), STOPPED))
    params: dict[str, Any] = {
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.1,
        "seed": 3,
        "stop": ("a", "b"),
        "logit_bias": ((5, 1.0),),
        "logprobs": 2,
        "ignore_eos": True,
        "stop_token_ids": (7, 8),
        "min_tokens": 2,
        "skip_special_tokens": False,
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    check(virtual_run, servers, lambda expert: answer(expert, **params))
    body = servers.asked[0][2]
    expected = {
        **params,
        "stop": ["a", "b"],
        "logit_bias": {"5": 1.0},
        "logprobs": True,
        "stop_token_ids": [7, 8],
    }
    elsewhere = {*HINTS, "structured", "tool_name", "echo"}
    assert set(GenerationParams.__struct_fields__) - elsewhere == set(params)
    assert {name: body[name] for name in params} == expected
    assert body["top_logprobs"] == 2
    assert (body["model"], body["stream"]) == ("m", True)
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


STRUCTURED: dict[str, tuple[StructuredOutput, dict[str, object]]] = {
    "object": (
        StructuredOutput(json_object=True),
        {"response_format": {"type": "json_object"}},
    ),
    "schema": (
        StructuredOutput(json='{"type": "object"}'),
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    "regex": (StructuredOutput(regex="a+"), {"structured_outputs": {"regex": "a+"}}),
    "choice": (StructuredOutput(choice=("a", "b")), {"structured_outputs": {"choice": ["a", "b"]}}),
    "grammar": (StructuredOutput(grammar="x"), {"structured_outputs": {"grammar": "x"}}),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_generate_form_of_the_answer_reaches_the_body(virtual_run: VirtualRun, name: str) -> None:
    wanted, told = STRUCTURED[name]
    servers = Servers(sse(delta("x"), STOPPED))
    check(virtual_run, servers, lambda expert: answer(expert, structured=wanted))
    assert servers.asked[0][2].items() >= told.items()


TOOL = {"type": "function", "function": {"name": "weather"}}
CALL = ToolCall("call_1", "weather", '{"city": "Bern"}')


def test_generate_tools_calls_and_results_reach_the_body(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("x"), STOPPED))
    messages = [
        Message("template", json.dumps({"tools": [TOOL], "add_generation_prompt": True})),
        Message("user", "Hot?", details=MessageDetails(name="ann")),
        Message("assistant", "", details=MessageDetails(tool_calls=(CALL,), reasoning="hm")),
        Message("tool", "12", details=MessageDetails(tool_call_id="call_1")),
    ]

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render(messages, open_turn=False)
        await answer(expert, prompt, tool_choice="named", tool_name="weather")

    check(virtual_run, servers, then)
    body = servers.asked[0][2]
    assert body["tools"] == [TOOL]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert "add_generation_prompt" not in body
    function = {"name": "weather", "arguments": '{"city": "Bern"}'}
    assert body["messages"] == [
        {"role": "user", "content": "Hot?", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "12", "tool_call_id": "call_1"},
    ]


def called(*calls: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"tool_calls": list(calls)}, "finish_reason": reason}
    return {"choices": [choice]}


def test_generate_calls_of_tools_come_in_pieces_by_index(virtual_run: VirtualRun) -> None:
    events = (
        {"choices": [{"delta": {"reasoning_content": "hm"}}]},
        called({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}),
        called({"index": 0, "function": {"arguments": '{"x"'}}),
        called({"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}),
        called({"index": 0, "function": {"arguments": ": 1}"}}, reason="tool_calls"),
    )
    chunks: list[Chunk] = []

    async def then(expert: RemoteExpert) -> None:
        chunks.extend(await answer(expert))

    check(virtual_run, Servers(sse(*events)), then)
    whole = joined(chunks)
    assert (whole.text, whole.reasoning, whole.finish_reason) == ("", "hm", "tool_calls")
    first, second = joined_calls(whole.tool_calls)
    assert first == ToolCall("a", "f", '{"x": 1}')
    assert second == ToolCall("b", "g", "{}")


def test_generate_images_are_sent_as_parts_before_the_text(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("x"), STOPPED))
    message = Message("user", "What is this?", (Image("image/png", b"red"),))

    async def then(expert: RemoteExpert) -> None:
        assert expert.capabilities.images
        prompt = expert.render([Message("documents", "facts"), message], open_turn=False)
        await answer(expert, prompt)

    check(virtual_run, servers, then, images=True)
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cmVk"}}
    text = {"type": "text", "text": "facts\n\nWhat is this?"}
    assert servers.asked[0][2]["messages"] == [{"role": "user", "content": [url, text]}]


def test_render_images_for_servers_that_take_none_are_refused(virtual_run: VirtualRun) -> None:
    async def then(expert: RemoteExpert) -> None:
        assert not expert.capabilities.images
        with pytest.raises(PromptRejected, match="takes no images"):
            expert.render([Message("user", "a", (Image("image/png", b"x"),))], open_turn=False)

    check(virtual_run, Servers(sse(STOPPED)), then)


def test_generate_nothing_set_sends_only_the_default_length(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("x"), STOPPED))
    check(virtual_run, servers, answer)
    assert set(servers.asked[0][2]) == {
        "model",
        "messages",
        "max_tokens",
        "stream",
        "stream_options",
    }
    assert servers.asked[0][2]["max_tokens"] == 512


def test_generate_plain_prompt_goes_to_completions(virtual_run: VirtualRun) -> None:
    event = {
        "choices": [
            {
                "text": "ab",
                "logprobs": {
                    "tokens": ["a", "b"],
                    "token_logprobs": [-0.1, -0.2],
                    "top_logprobs": [{"a": -0.1, "c": -3.0}, None],
                },
                "finish_reason": "length",
            }
        ]
    }
    servers = Servers(sse(event))
    chunks = check(
        virtual_run, servers, lambda e: answer(e, e.tokenize("Once upon"), max_tokens=2, logprobs=1)
    )
    assert servers.asked[0][1] == "/v1/completions"
    assert servers.asked[0][2]["prompt"] == "Once upon"
    assert servers.asked[0][2]["logprobs"] == 1
    assert [(e.token, e.logprob) for e in chunks[0].logprobs] == [("a", -0.1), ("b", -0.2)]
    assert chunks[0].logprobs[0].top == (("a", -1, -0.1), ("c", -1, -3.0))
    assert chunks[0].finish_reason == "length"


def test_generate_chat_logprobs_and_token_ids_are_read(virtual_run: VirtualRun) -> None:
    top = [{"token": "", "logprob": -2.0}, {"token": "Hi", "logprob": -0.5}]
    top.append({"token": "", "logprob": -1.0})  # parts of characters have no text of their own
    content = [{"token": "Hi", "logprob": -0.5, "top_logprobs": top}]
    event = delta("Hi", token_ids=[42], logprobs={"content": content})
    servers = Servers(sse(event, STOPPED), open_turn=True)
    chunks = check(virtual_run, servers, lambda expert: answer(expert, logprobs=1))
    assert servers.asked[0][2]["return_token_ids"] is True
    assert chunks[0].token_ids == (42,)
    assert chunks[0].logprobs[0].token_id == 42
    assert chunks[0].logprobs[0].top == (("Hi", -1, -0.5), ("", -1, -1.0), ("", -1, -2.0))


def test_render_documents_are_folded_and_the_growing_word_is_cut(virtual_run: VirtualRun) -> None:
    async def then(expert: RemoteExpert) -> None:
        messages = [Message("documents", "facts"), Message("user", "what is the ans")]
        opened = expert.render(messages, open_turn=True)
        assert opened.messages == (Message("user", "facts\n\nwhat is the"),)
        assert opened.open_turn
        closed = expert.render(messages, open_turn=False)
        assert closed.messages == (Message("user", "facts\n\nwhat is the ans"),)
        assert closed.num_tokens > opened.num_tokens > 0
        with pytest.raises(PromptRejected):
            expert.render([Message("assistant", "a")], open_turn=True)
        with pytest.raises(PromptRejected):
            await answer(expert, opened)

    check(virtual_run, Servers(sse(STOPPED)), then)


def test_prefill_open_turn_asks_for_one_token_of_an_unfinished_message(
    virtual_run: VirtualRun,
) -> None:
    usage = {"prompt_tokens": 30, "prompt_tokens_details": {"cached_tokens": 16}}
    servers = Servers(httpx.Response(200, json={"choices": [], "usage": usage}), open_turn=True)

    async def then(expert: RemoteExpert) -> None:
        assert expert.capabilities.open_turn_prefill
        opened = expert.render([Message("user", "what is the ans")], open_turn=True)
        result = await expert.prefill(opened, priority=Priority.SPECULATIVE)
        assert (result.cached, result.computed) == (16, 14)

    check(virtual_run, servers, then)
    body = servers.asked[0][2]
    assert (body["max_tokens"], body["continue_final_message"]) == (1, True)
    assert body["add_generation_prompt"] is False
    assert body["messages"][0]["content"] == "what is the"


def test_generate_begun_answer_goes_on_where_the_server_can(virtual_run: VirtualRun) -> None:
    begun = [Message("user", "what is it?"), Message("assistant", "it is")]
    servers = Servers(sse(STOPPED), open_turn=True)
    check(virtual_run, servers, lambda e: answer(e, e.render(begun, open_turn=False)))
    body = servers.asked[0][2]
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    assert body["messages"][-1] == {"role": "assistant", "content": "it is"}
    others = Servers(sse(STOPPED), open_turn=False)
    with pytest.raises(PromptRejected, match="cannot continue"):
        check(virtual_run, others, lambda e: answer(e, e.render(begun, open_turn=False)))


def test_prefill_server_without_open_turns_is_not_asked(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(STOPPED), open_turn=False)

    async def then(expert: RemoteExpert) -> None:
        assert not expert.capabilities.open_turn_prefill
        opened = expert.render([Message("user", "what is")], open_turn=True)
        with pytest.raises(PromptRejected, match="cannot prefill"):
            await expert.prefill(opened, priority=Priority.SPECULATIVE)

    check(virtual_run, servers, then)
    assert servers.asked == []


def test_start_model_not_served_says_what_is(virtual_run: VirtualRun) -> None:
    with pytest.raises(ExpertUnavailable, match="one serves m, not 'other'"):
        virtual_run(started(Servers(sse(STOPPED)), model="other"))


def test_start_one_of_two_servers_is_enough_none_is_not(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(STOPPED))
    servers.models = httpx.ConnectError("refused")
    with pytest.raises(ExpertUnavailable, match="one, two: cannot be reached"):
        virtual_run(started(servers, "one", "two"))


def test_api_key_comes_from_the_environment_and_shows_nowhere(
    virtual_run: VirtualRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("THE_KEY", "sk-very-secret")
    refused = httpx.Response(401, json={"error": {"message": "wrong key sk-very-secret"}})
    servers = Servers(refused)

    async def then(expert: RemoteExpert) -> None:
        assert servers.headers[0]["authorization"] == "Bearer sk-very-secret"
        with pytest.raises(ExpertUnavailable, match="refuses the API key") as caught:
            await answer(expert)
        assert "secret" not in f"{caught.value!r} {expert!r} {vars(expert)!r}"

    check(virtual_run, servers, then, api_key_env="THE_KEY")
    assert "secret" not in caplog.text
    monkeypatch.delenv("THE_KEY")
    with pytest.raises(ExpertUnavailable, match="THE_KEY is not set"):
        virtual_run(started(servers, api_key_env="THE_KEY"))


def test_base_url_credentials_are_not_shown(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(STOPPED))
    servers.models = httpx.ConnectError("refused")
    with pytest.raises(ExpertUnavailable) as caught:
        virtual_run(started(servers, "me:hidden@one:81"))
    assert caught.value.message == "one:81: cannot be reached"


def busy(after: str) -> httpx.Response:
    return httpx.Response(503, headers={"retry-after": after}, json={"error": {"message": "busy"}})


def test_generate_busy_server_is_asked_again_after_the_time_it_names(
    virtual_run: VirtualRun,
) -> None:
    async def then(expert: RemoteExpert) -> None:
        began = now()
        assert (await answer(expert))[0].text == "ok"
        assert 7 <= now() - began <= 7 * 1.25

    servers = Servers(busy("7"), sse(delta("ok"), STOPPED))
    check(virtual_run, servers, then)
    assert len(servers.asked) == 2


def test_generate_server_stays_busy_gives_up_with_its_retry_after(virtual_run: VirtualRun) -> None:
    async def then(expert: RemoteExpert) -> None:
        with pytest.raises(ExpertOverloaded) as caught:
            await answer(expert)
        assert caught.value.retry_after_s == 7
        assert now() < 30

    servers = Servers(busy("7"))
    check(virtual_run, servers, then)
    assert len(servers.asked) == 3


def test_generate_wait_longer_than_the_timeout_is_not_begun(virtual_run: VirtualRun) -> None:
    async def then(expert: RemoteExpert) -> None:
        began = now()
        with pytest.raises(ExpertOverloaded):
            await answer(expert)
        assert now() == began

    check(virtual_run, Servers(busy("50")), then, timeout_s=20)


@pytest.mark.parametrize("failure", ["refused", "busy"])
def test_generate_first_server_down_the_next_one_answers_at_once(
    virtual_run: VirtualRun, failure: str
) -> None:
    first, second = (
        url.removeprefix("http://") for url in ranked(["http://one", "http://two"], "s")
    )
    down: Answer = httpx.ConnectError("refused") if failure == "refused" else busy("9")
    servers = Servers(by_host={first: [down], second: [sse(delta("ok"), STOPPED)]})

    async def then(expert: RemoteExpert) -> None:
        began = now()
        affinity_key.set("s")
        assert (await answer(expert))[0].text == "ok"
        assert now() == began

    check(virtual_run, servers, then, "one", "two")
    assert [host for host, _, _ in servers.asked] == [first, second]


def test_generate_session_stays_on_its_server_and_sessions_spread(virtual_run: VirtualRun) -> None:
    hosts = ("one", "two", "three")
    served: dict[str, list[Answer]] = {
        host: [sse(delta("x"), STOPPED) for _ in range(50)] for host in hosts
    }
    servers = Servers(by_host=served)

    async def then(expert: RemoteExpert) -> None:
        for session in range(12):
            affinity_key.set(f"session-{session}")
            for _ in range(2):
                await answer(expert)

    check(virtual_run, servers, then, *hosts)
    asked = [host for host, _, _ in servers.asked]
    assert asked[0::2] == asked[1::2]
    assert set(asked) == set(hosts)


def test_ranked_a_node_leaves_only_its_own_keys_move() -> None:
    for key in map(str, range(50)):
        before, after = ranked(["a", "b", "c"], key), ranked(["a", "b"], key)
        assert [node for node in before if node != "c"] == after


def test_generate_connection_breaks_in_mid_answer_is_not_retried(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(delta("Hel"), done=False, error=aiohttp.ClientPayloadError("reset")))
    seen: list[str] = []

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render([Message("user", "Hi")], open_turn=False)
        stream = expert.generate(
            prompt, GenerationParams(), priority=Priority.FOREGROUND, request_id="r"
        )
        with pytest.raises(ExpertUnavailable, match="the connection broke"):
            seen.extend([chunk.text async for chunk in _copy(stream, seen)])

    check(virtual_run, servers, then)
    assert seen == ["Hel"]
    assert len(servers.asked) == 1


async def _copy(stream: AsyncIterator[Chunk], seen: list[str]) -> AsyncIterator[Chunk]:
    async for chunk in stream:
        seen.append(chunk.text)
        yield chunk


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (sse(delta("x"), done=False), ExpertUnavailable, "the answer broke off"),
        (sse({"error": {"message": "boom", "code": 500}}), ExpertUnavailable, "one: boom"),
        (sse({"error": {"message": "bad", "code": 400}}), PromptRejected, "bad"),
        (sse([1]), ExpertUnavailable, "expected form"),
        (sse({"choices": [5]}), ExpertUnavailable, "expected form"),
        (sse({"choices": [{"delta": {"content": 5}}]}), ExpertUnavailable, "expected form"),
        (
            sse({"choices": [{"delta": {"content": "a"}, "token_ids": ["b"]}]}),
            ExpertUnavailable,
            "expected form",
        ),
        (
            httpx.Response(200, stream=Stream([b'data: {"usage":' + b"[" * 100_000 + b"\n"])),
            ExpertUnavailable,
            "not JSON",
        ),
        (
            httpx.Response(200, stream=Stream([b"data: {nonsense\n\n"])),
            ExpertUnavailable,
            "not JSON",
        ),
        (
            httpx.Response(200, stream=Stream([b"data: " + b"x" * 100_000] * 12)),
            ExpertUnavailable,
            "a line of more than",
        ),
        (
            httpx.Response(200, stream=Stream([b": ping\n" * 100_000] * 100)),
            ExpertUnavailable,
            "more than 67108864 bytes",
        ),
        (httpx.Response(500, text="<html>"), ExpertUnavailable, "one answered 500"),
        (httpx.Response(404, json={"message": "no model"}), ExpertUnavailable, "answered 404"),
        (httpx.Response(405, text="no"), ExpertUnavailable, "answered 405"),
        (httpx.Response(418, text="teapot"), ExpertUnavailable, "answered 418"),
        (httpx.Response(422, json={"message": "no top_k"}), PromptRejected, "no top_k"),
        (httpx.ReadTimeout("slow"), ExpertTimeout, "no answer in time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_generate_servers_fault_becomes_the_right_error(
    virtual_run: VirtualRun, response: Answer, error: type[ExpertError], message: str
) -> None:
    async def then(expert: RemoteExpert) -> None:
        with pytest.raises(error, match=message):
            await answer(expert)

    stream = response.stream if isinstance(response, httpx.Response) else None
    check(virtual_run, Servers(response), then)
    assert not isinstance(stream, Stream) or stream.closed


def test_generate_refusal_names_the_field(virtual_run: VirtualRun) -> None:
    refusal = {"error": {"message": "min_p is unknown", "param": "min_p", "code": "unknown"}}

    async def then(expert: RemoteExpert) -> None:
        with pytest.raises(PromptRejected) as caught:
            await answer(expert)
        assert (caught.value.param, caught.value.code) == ("min_p", "unknown")

    check(virtual_run, Servers(httpx.Response(400, json=refusal)), then)


def test_generate_prompt_too_long_for_the_server_has_the_common_code(
    virtual_run: VirtualRun,
) -> None:
    refusal = {"error": {"message": "This model's maximum context length is 8 tokens", "code": 400}}

    async def then(expert: RemoteExpert) -> None:
        with pytest.raises(PromptRejected) as caught:
            await answer(expert)
        assert caught.value.code == "context_length_exceeded"

    check(virtual_run, Servers(httpx.Response(400, json=refusal)), then)


def test_generate_closed_stream_lets_go_of_the_connection(virtual_run: VirtualRun) -> None:
    response = sse(delta("a"), delta("b"), STOPPED)
    sent = response.stream
    assert isinstance(sent, Stream)

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render([Message("user", "Hi")], open_turn=False)
        stream = expert.generate(
            prompt, GenerationParams(), priority=Priority.FOREGROUND, request_id="r"
        )
        await anext(stream)
        assert not sent.closed
        await stream.aclose()
        assert sent.closed

    check(virtual_run, Servers(response), then)


def test_prefill_usage_of_another_form_is_an_expert_error(virtual_run: VirtualRun) -> None:
    usage = {"prompt_tokens": 9, "prompt_tokens_details": ["cached"]}
    servers = Servers(httpx.Response(200, json={"choices": [], "usage": usage}))

    async def then(expert: RemoteExpert) -> None:
        prompt = expert.render([Message("user", "Hi")], open_turn=False)
        result = await expert.prefill(prompt, priority=Priority.SPECULATIVE)
        assert (result.cached, result.computed) == (None, 9)

    check(virtual_run, servers, then)


async def test_generate_no_free_connection_ends_within_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a real client: requests beyond its connections wait for one, but not for ever."""
    monkeypatch.setattr(remote_http, "MAX_CONNECTIONS", 1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    servers = RemoteServers(ExpertSpec("e", kind="remote", base_urls=(url,), timeout_s=0.2))
    servers.open()
    try:
        async with server, asyncio.timeout(20), servers.stream("/", {}, key="a"):
            with pytest.raises(ExpertError):
                async with servers.stream("/", {}, key="b"):
                    pass
            with pytest.raises(ExpertTimeout):
                await servers.get_json(url, "/", timeout_s=0.05)
    finally:
        await servers.close()


def test_health_follows_the_servers_but_asks_rarely(virtual_run: VirtualRun) -> None:
    servers = Servers(sse(STOPPED))

    async def then(expert: RemoteExpert) -> None:
        asked = len(servers.headers)
        for _ in range(10):
            assert (await expert.health()).ok
        assert len(servers.headers) == asked
        servers.models = httpx.ConnectError("refused")
        await asyncio.sleep(6)
        assert not (await expert.health()).ok
        servers.models = httpx.ReadTimeout("slow")
        await asyncio.sleep(6)
        assert (await expert.health()).ok
        await expert.stop()
        assert not (await expert.health()).ok
        with pytest.raises(ExpertUnavailable):
            await answer(expert)

    check(virtual_run, servers, then)


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


def test_generate_answer_that_comes_whole_is_one_chunk(virtual_run: VirtualRun) -> None:
    body = {"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}]}

    async def then(expert: RemoteExpert) -> None:
        assert [chunk.text for chunk in await answer(expert)] == ["all"]

    check(virtual_run, Servers(httpx.Response(200, json=body)), then)
