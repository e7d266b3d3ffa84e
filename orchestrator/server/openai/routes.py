"""``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``, as OpenAI's API has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext

from aiohttp import web
from msgspec import json
from pydantic import TypeAdapter

from ....backends.base import TokenLogprob
from ...errors import InvalidRequest, NotFound, Unavailable
from ...events import ResponseReasoningDelta, ResponseTextDelta, ResponseToolCallDelta
from ..middleware import error_info, log_failure
from ..sse import DONE, EventStream, dropped_after, taken_at_once
from ..state import OWNER, REQUEST_ID, SHUTTING_DOWN, STATE, ServerState
from ..validation import parse
from .alone import AloneTurn, chat_alone, completion_alone
from .bodies import ChatRequest, CompletionRequest
from .format import (
    ChatFormat,
    CompletionFormat,
    Joined,
    Json,
    delta_json,
    timing_headers,
    usage_json,
)
from .turns import SESSION_HEADER, STATUS_HEADER, Turn, adopting_turn, own_turn

CHAT = TypeAdapter(ChatRequest)
COMPLETION = TypeAdapter(CompletionRequest)
EXPERT_HEADER = "X-LiveMind-Expert"
AnyTurn = Turn | AloneTurn
Frames = AsyncGenerator[tuple[object, ...], None]
"""Payloads to be sent together, ``DONE`` at the end."""


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer the last message of a conversation."""
    state, request_id = request.app[STATE], request[REQUEST_ID]
    body = parse(CHAT, await state.images.read(request), max_text_chars=state.limits.max_text_chars)
    session_id, headers = request.headers.get(SESSION_HEADER), {}
    opening: AbstractAsyncContextManager[AnyTurn] | None = None
    if session_id is not None:
        images = await state.images.load(body.image_urls)
        live = state.registry.known(session_id, request.get(OWNER))
        if live is not None:
            opening = adopting_turn(state, body, live, images)
        headers = {STATUS_HEADER: "lost" if live is None else "adopted"}
    if opening is None:
        opening = chat_alone(state, body, request_id) or own_turn(state, body)
    async with opening as turn:
        answer = ChatFormat(body.include_usage, body.prediction is not None, bool(body.livemind))
        if not body.stream:
            response = await _whole_chat(turn, answer)
            response.headers.update(headers)
            await _send(request, state, turn, response)
            return response
        return await _stream(request, state, turn, _chat_frames(turn, answer), headers)


async def completions(request: web.Request) -> web.StreamResponse:
    """Continue a plain prompt."""
    state = request.app[STATE]
    body = parse(COMPLETION, await request.read(), max_text_chars=state.limits.max_text_chars)
    if SESSION_HEADER in request.headers:
        message = f"{SESSION_HEADER}: only chat completions can adopt a live session"
        raise InvalidRequest(message, param=SESSION_HEADER, code="unsupported_parameter")
    async with completion_alone(state, body, request[REQUEST_ID]) as turn:
        answer = CompletionFormat(turn.expert, body.include_usage)
        if not body.stream:
            response = await _whole_completion(turn, answer)
            await _send(request, state, turn, response)
            return response
        return await _stream(request, state, turn, _completion_frames(turn, answer))


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


async def _whole_chat(turn: AnyTurn, answer: ChatFormat) -> web.Response:
    joined = await _joined(turn)
    assert turn.done is not None
    expert = turn.expert or ""
    payload = answer.whole(expert, joined, turn.done)
    headers = {EXPERT_HEADER: expert, **timing_headers(turn.done)}
    return web.json_bytes_response(payload, dumps=json.encode, headers=headers)


async def _chat_frames(turn: AnyTurn, answer: ChatFormat) -> Frames:
    begun = False
    async for piece in turn:
        logprobs = piece.logprobs if isinstance(piece, ResponseTextDelta) else None
        if not piece.delta and not logprobs and not isinstance(piece, ResponseToolCallDelta):
            continue
        expert = turn.expert or ""
        opening = () if begun else (_role_chunk(answer, expert),)
        yield *opening, answer.chunk(expert, delta_json(piece), logprobs=logprobs)
        begun = True
    assert turn.done is not None
    await turn.free()  # the expert does not wait for a client that reads slowly
    expert = turn.expert or ""
    opening = () if begun else (_role_chunk(answer, expert),)
    usage = (answer.usage_chunk(expert, turn.done.usage),) if answer.include_usage else ()
    yield *opening, answer.last_chunk(expert, turn.done), *usage, DONE


def _role_chunk(answer: ChatFormat, expert: str) -> Json:
    return answer.chunk(expert, {"role": "assistant", "content": ""})


# ---- completions --------------------------------------------------------------------------------


async def _whole_completion(turn: AloneTurn, answer: CompletionFormat) -> web.Response:
    joined = await _joined(turn)
    assert turn.done is not None
    payload = answer.payload(joined.text, joined.logprobs, turn.done.finish_reason)
    payload["usage"] = usage_json(turn.done.usage)
    headers = {EXPERT_HEADER: turn.expert}
    return web.json_bytes_response(payload, dumps=json.encode, headers=headers)


async def _completion_frames(turn: AloneTurn, answer: CompletionFormat) -> Frames:
    async for piece in turn:
        if isinstance(piece, ResponseTextDelta) and (piece.delta or piece.logprobs):
            yield (answer.payload(piece.delta, piece.logprobs, None),)
    assert turn.done is not None
    await turn.free()
    usage = (answer.usage_chunk(turn.done.usage),) if answer.include_usage else ()
    yield answer.payload("", None, turn.done.finish_reason), *usage, DONE


# ---- shared -------------------------------------------------------------------------------------


async def _joined(turn: AnyTurn) -> Joined:
    """Return the whole answer but for its tool calls, which its end tells."""
    text: list[str] = []
    thoughts: list[str] = []
    logprobs: list[TokenLogprob] | None = None
    async for piece in turn:
        if isinstance(piece, ResponseTextDelta):
            text.append(piece.delta)
            if piece.logprobs is not None:
                logprobs = [*(logprobs or ()), *piece.logprobs]
        elif isinstance(piece, ResponseReasoningDelta):
            thoughts.append(piece.delta)
    return Joined("".join(text), "".join(thoughts), logprobs)


async def _stream(
    request: web.Request,
    state: ServerState,
    turn: AnyTurn,
    frames: Frames,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Send the frames as they come, or one error event where they end early.

    Until the first frame a failure is an ordinary error response with its own status.
    """
    stream = EventStream(request, state.limits.send_timeout_s)
    async with aclosing(frames):
        try:
            async for payloads in frames:
                if not stream.response.prepared:
                    await stream.open({EXPERT_HEADER: turn.expert or "", **(headers or {})})
                await stream.send(*payloads)
        except ConnectionError:
            raise
        except asyncio.CancelledError:
            if not stream.response.prepared or not state.in_flight.aborted():
                raise
            await turn.free()
            await stream.send(error_info(Unavailable(SHUTTING_DOWN)).envelope())
        except Exception as exc:
            if not stream.response.prepared:
                raise
            info = error_info(exc)
            if info.status == 500:
                log_failure(f"request {request[REQUEST_ID]}", exc)
            await turn.free()
            await stream.send(info.envelope())
    return stream.response


async def _send(
    request: web.Request, state: ServerState, turn: AnyTurn, response: web.Response
) -> None:
    """Send a response: a small one before its turn is cleaned up, another once its expert is free.

    Raises:
        ConnectionResetError: the client did not read for ``send_timeout_s``; its connection is
            closed.
    """
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    at_once = taken_at_once(request, response.content_length or 0)
    if not at_once:
        await turn.free()
    limit_s = state.limits.send_timeout_s
    async with nullcontext() if at_once else dropped_after(request, limit_s):
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
