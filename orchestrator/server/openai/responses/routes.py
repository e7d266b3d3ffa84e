"""``/v1/responses``, as OpenAI's API has it: another spelling of a chat and its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiohttp import web
from msgspec import json
from pydantic import TypeAdapter

from ....errors import InvalidRequest
from ....events import ResponseDone
from ...middleware import error_info, log_failure
from ...state import OWNER, REQUEST_ID, STATE, ServerState
from ...validation import parse
from ..answering import EXPERT_HEADER, AnyTurn, Frames, send, stream
from ..chat import one_opening, shows
from .body import ResponsesRequest
from .store import Kept
from .writer import ResponseWriter, answer_messages

Json = dict[str, Any]
RESPONSES = TypeAdapter(ResponsesRequest)


async def create(request: web.Request) -> web.StreamResponse:
    """Answer an input, and what went before it if the request names that."""
    state, limit = request.app[STATE], request.app[STATE].limits.max_text_chars
    body = parse(RESPONSES, await state.images.read(request), max_text_chars=limit)
    owner, before = request.get(OWNER), []
    if body.previous_response_id is not None:
        previous = state.responses.get(body.previous_response_id, owner, "previous_response_id")
        before = previous.messages
    chat, messages = body.chat(before, max_text_chars=limit)
    opening, headers = await one_opening(request, state, chat)
    writer = ResponseWriter(repeated(body), logprobs=bool(body.top_logprobs))
    kept = Kept(writer.payload, body.items, messages, owner)
    with state.responses.writing(kept):
        return await _answered(request, state, body, opening, headers, writer, kept)


async def _answered(
    request: web.Request,
    state: ServerState,
    body: ResponsesRequest,
    opening: AbstractAsyncContextManager[AnyTurn],
    headers: Mapping[str, str],
    writer: ResponseWriter,
    kept: Kept,
) -> web.StreamResponse:
    async with opening as turn:
        if body.stream:
            return await stream(
                request,
                state,
                frames(state, request, turn, writer, kept, keeps=body.keeps),
                lambda: {EXPERT_HEADER: turn.expert or "", **headers},
                turn.free,
            )
        async for piece in turn:
            writer.saw(piece)
        assert turn.done is not None
        writer.begin(turn.expert or "")
        _end(state, writer, turn.done, kept, keeps=body.keeps)
        told = {EXPERT_HEADER: turn.expert or "", **headers}
        response = web.json_bytes_response(writer.payload, dumps=json.encode, headers=told)
        return await send(request, state, response, turn)


async def show(request: web.Request) -> web.Response:
    """Return a response that is kept, or is being written."""
    state, owner = request.app[STATE], request.get(OWNER)
    unfinished = state.responses.unfinished(request.match_info["id"], owner)
    return _json((unfinished or _kept(request)).payload)


async def input_items(request: web.Request) -> web.Response:
    """List the input of a response that is kept, newest first."""
    items = [
        {"id": f"item_{number}", **item}
        for number, item in reversed([*enumerate(_kept(request).items)])
    ]
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {}
    return _json({"object": "list", "data": items, "has_more": False, **ends})


async def delete(request: web.Request) -> web.Response:
    """Forget a response."""
    response_id = request.match_info["id"]
    request.app[STATE].responses.delete(response_id, request.get(OWNER))
    return _json({"id": response_id, "object": "response", "deleted": True})


async def cancel(request: web.Request) -> web.Response:
    """Stop a response that is being written."""
    state, owner = request.app[STATE], request.get(OWNER)
    payload = await state.responses.cancel(request.match_info["id"], owner)
    if payload is None:
        payload = _kept(request).payload
        message = f"response_id: the response is {payload['status']}, and cannot be cancelled"
        raise InvalidRequest(message, param="response_id", code="response_ended")
    return _json(payload)


async def frames(
    state: ServerState,
    request: web.Request,
    turn: AnyTurn,
    writer: ResponseWriter,
    kept: Kept,
    *,
    keeps: bool,
) -> Frames:
    """Yield the events of a response as they come; ``keeps``: it goes into the store at its end.

    Raises:
        Exception: what the turn failed with before anything was told.
    """
    begun = False
    try:
        async for piece in turn:
            if not shows(piece):
                continue
            opening = () if begun else writer.begin(turn.expert or "")
            begun = True
            yield (*opening, *writer.saw(piece))
    except (ConnectionError, asyncio.CancelledError, GeneratorExit):
        raise
    except Exception as exc:
        if not begun:
            raise
        info = error_info(exc)
        if info.status == 500:
            log_failure(f"request {request[REQUEST_ID]}", exc)
        await turn.free()
        yield tuple(writer.fail(info))
        return
    assert turn.done is not None
    await turn.free()
    opening = () if begun else writer.begin(turn.expert or "")
    yield (*opening, *_end(state, writer, turn.done, kept, keeps=keeps))


def _end(
    state: ServerState, writer: ResponseWriter, done: ResponseDone, kept: Kept, *, keeps: bool
) -> tuple[object, ...]:
    events = tuple(writer.end(done))
    kept.messages += answer_messages(writer.payload["output"])
    if keeps:
        state.responses.put(kept)
    return events


def repeated(body: ResponsesRequest) -> Json:
    """Return the fields of a response that repeat its request."""
    given = body.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)
    text = given.get("text") or {}
    reasoning = given.get("reasoning") or {}
    return {
        "background": False,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model or "auto",
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.keeps,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": body.tool_choice or "auto",
        "tools": [{"strict": None, "parameters": None, **tool} for tool in given.get("tools", ())],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "user": body.user,
    }


def _kept(request: web.Request) -> Kept:
    return request.app[STATE].responses.get(request.match_info["id"], request.get(OWNER))


def _json(payload: Json) -> web.Response:
    return web.json_bytes_response(payload, dumps=json.encode)
