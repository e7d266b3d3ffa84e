"""``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``, as OpenAI's API has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, nullcontext

from aiohttp import web
from msgspec import json
from pydantic import TypeAdapter

from ...backends.affinity import affinity_key
from ...backends.base import Chunk, TokenLogprob, Usage
from ..errors import ErrorInfo, InvalidRequest, NotFound, Unavailable
from ..events import ResponseDone, ResponseTextDelta
from .middleware import TurnFailed, error_info, log_failure
from .openai_format import ChatFormat, CompletionFormat, Json, timing_headers
from .schema import ChatRequest, CompletionRequest
from .sse import EventStream, dropped_after, taken_at_once
from .state import OWNER, REQUEST_ID, SHUTTING_DOWN, STATE, ServerState
from .turns import SESSION_HEADER, Turn, adopting_turn, own_turn
from .validation import parse

CHAT = TypeAdapter(ChatRequest)
COMPLETION = TypeAdapter(CompletionRequest)
EXPERT_HEADER = "X-LiveMind-Expert"
Frames = AsyncGenerator[tuple[Json, ...], None]


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer the last message of a conversation."""
    state = request.app[STATE]
    body = parse(CHAT, await state.images.read(request), max_text_chars=state.limits.max_text_chars)
    session_id = request.headers.get(SESSION_HEADER)
    opening = (
        own_turn(state, body)
        if session_id is None
        else adopting_turn(state, body, owner=request.get(OWNER), session_id=session_id)
    )
    async with opening as turn:
        answer = ChatFormat(body.include_usage, body.prediction is not None, bool(body.livemind))
        if not body.stream:
            response = await _whole_chat(turn, answer)
            await _send(request, response, state.limits.send_timeout_s)
            return response
        frames = _chat_frames(turn, answer)
        return await _stream(request, state, frames, lambda: {EXPERT_HEADER: turn.expert or ""})


async def completions(request: web.Request) -> web.StreamResponse:
    """Continue a plain prompt."""
    state = request.app[STATE]
    body = parse(COMPLETION, await request.read(), max_text_chars=state.limits.max_text_chars)
    if SESSION_HEADER in request.headers:
        message = f"{SESSION_HEADER}: only chat completions can adopt a live session"
        raise InvalidRequest(message, param=SESSION_HEADER, code="unsupported_parameter")
    expert = state.resolve_model(body.model) or state.mind.settings.default_expert
    answer = CompletionFormat(expert, body.include_usage)
    chunks = _observed(state, state.mind.complete(body.prompt, body.params(), model=expert), expert)
    headers = {EXPERT_HEADER: expert}
    affinity = affinity_key.set(body.user)
    try:
        if not body.stream:
            return await _whole_completion(chunks, answer, headers)
        return await _stream(request, state, _completion_frames(chunks, answer), lambda: headers)
    finally:
        affinity_key.reset(affinity)


async def models(request: web.Request) -> web.Response:
    """List the experts, and ``auto``."""
    return web.json_response({"object": "list", "data": _models(request.app[STATE])})


async def model(request: web.Request) -> web.Response:
    """Show one expert."""
    name = request.match_info["model"]
    for entry in _models(request.app[STATE]):
        if entry["id"] == name:
            return web.json_response(entry)
    raise NotFound("model: no such model", param="model", code="model_not_found")


# ---- chat ---------------------------------------------------------------------------------------


async def _whole_chat(turn: Turn, answer: ChatFormat) -> web.Response:
    text: list[str] = []
    logprobs: list[TokenLogprob] | None = None
    async for event in turn:
        if isinstance(event, ResponseTextDelta):
            text.append(event.delta)
            if event.logprobs is not None:
                logprobs = [*(logprobs or ()), *event.logprobs]
    assert turn.done is not None
    expert = turn.expert or ""
    payload = answer.whole(expert, "".join(text), turn.done, logprobs)
    headers = {EXPERT_HEADER: expert, **timing_headers(turn.done)}
    return web.json_bytes_response(payload, dumps=json.encode, headers=headers)


async def _chat_frames(turn: Turn, answer: ChatFormat) -> Frames:
    begun = False
    async for event in turn:
        expert = turn.expert or ""
        opening = () if begun else (_role_chunk(answer, expert),)
        if isinstance(event, ResponseTextDelta):
            if not event.delta and not event.logprobs:
                continue
            delta: Json = {"content": event.delta}
            yield *opening, answer.chunk(expert, delta, logprobs=event.logprobs)
            begun = True
        elif isinstance(event, ResponseDone):
            yield *opening, answer.last_chunk(expert, event)
            if answer.include_usage:
                yield (answer.usage_chunk(expert, event.usage),)


def _role_chunk(answer: ChatFormat, expert: str) -> Json:
    return answer.chunk(expert, {"role": "assistant", "content": ""})


# ---- completions --------------------------------------------------------------------------------


async def _observed(
    state: ServerState, chunks: AsyncGenerator[Chunk, None], expert: str
) -> AsyncGenerator[Chunk, None]:
    """Pass the chunks on within the time limit, and count the completion however it ends."""
    began_s, ttft_s = time.perf_counter(), None
    status, usage = "cancelled", None
    try:
        async with aclosing(_limited(chunks, state.limits.turn_timeout_s)) as limited:
            async for chunk in limited:
                if ttft_s is None:
                    ttft_s = time.perf_counter() - began_s
                usage = chunk.usage or usage
                if chunk.finish_reason is not None:
                    status = "completed"
                yield chunk
    except Exception:
        status = "failed"
        raise
    finally:
        state.metrics.completion_done(expert, status, ttft_s, usage)


async def _limited(
    chunks: AsyncGenerator[Chunk, None], limit_s: float
) -> AsyncGenerator[Chunk, None]:
    """Pass the chunks on until ``limit_s`` have passed; then stop the expert and say so."""
    deadline_s = asyncio.get_running_loop().time() + limit_s
    async with aclosing(chunks):
        while True:
            try:
                async with asyncio.timeout_at(deadline_s):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                message = f"no answer within {limit_s:g} s (server.turn_timeout_s)"
                raise TurnFailed(ErrorInfo(504, message, "timeout", None, "timeout")) from None
            yield chunk


async def _whole_completion(
    chunks: AsyncGenerator[Chunk, None], answer: CompletionFormat, headers: Mapping[str, str]
) -> web.Response:
    text: list[str] = []
    logprobs: list[TokenLogprob] | None = None
    finish, usage = None, None
    async with aclosing(chunks):
        async for chunk in chunks:
            text.append(chunk.text)
            if chunk.logprobs is not None:
                logprobs = [*(logprobs or ()), *chunk.logprobs]
            finish, usage = chunk.finish_reason or finish, chunk.usage or usage
    payload = answer.payload("".join(text), logprobs, finish)
    payload |= _usage(answer, usage)
    return web.json_bytes_response(payload, dumps=json.encode, headers=headers)


def _usage(answer: CompletionFormat, usage: Usage | None) -> Json:
    return {"usage": answer.usage_chunk(usage)["usage"]}


async def _completion_frames(
    chunks: AsyncGenerator[Chunk, None], answer: CompletionFormat
) -> Frames:
    usage = None
    async with aclosing(chunks):
        async for chunk in chunks:
            usage = chunk.usage or usage
            if chunk.text or chunk.logprobs or chunk.finish_reason:
                yield (answer.payload(chunk.text, chunk.logprobs, chunk.finish_reason),)
    if answer.include_usage:
        yield (answer.usage_chunk(usage),)


# ---- shared -------------------------------------------------------------------------------------


async def _stream(
    request: web.Request,
    state: ServerState,
    frames: Frames,
    headers: Callable[[], Mapping[str, str]],
) -> web.StreamResponse:
    """Send the frames as they come, then ``[DONE]``, or one error event instead.

    Until the first frame a failure is an ordinary error response with its own status.
    """
    stream = EventStream(request, state.limits.send_timeout_s)
    async with aclosing(frames):
        try:
            async for payloads in frames:
                if not stream.response.prepared:
                    await stream.open(headers())
                await stream.send(*payloads)
            await stream.finish()
        except ConnectionError:
            raise
        except asyncio.CancelledError:
            if not stream.response.prepared or not state.in_flight.aborted():
                raise
            await stream.send(error_info(Unavailable(SHUTTING_DOWN)).envelope())
        except Exception as exc:
            if not stream.response.prepared:
                raise
            info = error_info(exc)
            if info.status == 500:
                log_failure(f"request {request[REQUEST_ID]}", exc)
            await stream.send(info.envelope())
    return stream.response


async def _send(request: web.Request, response: web.Response, timeout_s: float) -> None:
    """Send a response now: what its turn leaves behind is cleaned up while the client reads.

    Raises:
        ConnectionResetError: the client did not read for ``timeout_s``; its connection is closed.
    """
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    at_once = taken_at_once(request, response.content_length or 0)
    async with nullcontext() if at_once else dropped_after(request, timeout_s):
        await response.prepare(request)
        await response.write_eof()


def _models(state: ServerState) -> list[Json]:
    entries: list[Json] = [
        {
            "id": info.expert_id,
            "object": "model",
            "created": state.started_at,
            "owned_by": "livemind",
            "max_model_len": info.max_model_len,
            "domain": info.domain,
            "state": info.state,
        }
        for info in state.mind.experts()
    ]
    auto: Json = {
        "id": "auto",
        "object": "model",
        "created": state.started_at,
        "owned_by": "livemind",
    }
    return [*entries, auto]
