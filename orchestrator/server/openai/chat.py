"""``/v1/chat/completions``, as OpenAI's API has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing

from aiohttp import web
from msgspec import json
from msgspec.structs import replace
from pydantic import TypeAdapter

from ....backends.base import GenerationParams
from ....backends.remote.affinity import digest
from ...errors import InvalidRequest
from ...events import Delta, ResponseTextDelta, ResponseToolCallDelta
from ..affinity import conversation_key, told_key
from ..live.session import SESSION_HEADER, STATUS_HEADER
from ..sse import DONE
from ..state import OWNER, REQUEST_ID, STATE, ServerState
from ..validation import parse
from .alone import chat_alone
from .answering import (
    EXPERT_HEADER,
    AnyTurn,
    Frames,
    Joining,
    Opening,
    joined,
    send,
    side_by_side,
    stream,
)
from .bodies import ChatRequest
from .format import ChatFormat, Json, counted, delta_json, obfuscated, timing_headers, total_usage
from .turns import adopting_turn, own_turn

CHAT = TypeAdapter(ChatRequest)
Pieces = AsyncGenerator[tuple[int, AnyTurn, Delta | None], None]


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    state = request.app[STATE]
    body = parse(CHAT, await state.images.read(request), max_text_chars=state.limits.max_text_chars)
    answers = body.n or 1
    if answers > 1:
        if SESSION_HEADER in request.headers:
            message = f"n: got {answers}; a live session ({SESSION_HEADER}) gives one answer"
            raise InvalidRequest(message, param="n", code="unsupported_parameter")
        openings = [_opening(request, state, body, place) for place in range(answers)]
        return await _several(request, state, body, openings)
    opening, headers = await one_opening(request, state, body)
    async with opening as turn:
        answer = _format(body)
        if not body.stream:
            return await _whole(request, state, turn, answer, headers)
        frames = _frames(_of_one(turn), answer, body, 1)
        return await stream(
            request,
            state,
            frames,
            lambda: {EXPERT_HEADER: turn.expert or "", **headers},
            turn.free,
        )


async def one_opening(
    request: web.Request, state: ServerState, body: ChatRequest, request_id: str | None = None
) -> tuple[AbstractAsyncContextManager[AnyTurn], dict[str, str]]:
    """Return the turn that answers, and what is told of the session that prepared it.

    ``request_id``: where the request is a connection that asks several times; None = its own.
    """
    session_id, headers = request.headers.get(SESSION_HEADER), {}
    if session_id is not None:
        images = await state.images.load(body.image_urls)
        live = state.registry.known(session_id, request.get(OWNER))
        headers = {STATUS_HEADER: "lost" if live is None else "adopted"}
        if live is not None:
            return adopting_turn(state, body, live, images), headers
    return _opening(request, state, body, 0, request_id)(), headers


def _opening(
    request: web.Request,
    state: ServerState,
    body: ChatRequest,
    place: int,
    request_id: str | None = None,
) -> Opening:
    """Return what opens the turn of one of a request's answers; each has a seed of its own."""

    def params(base: GenerationParams) -> GenerationParams:
        given = body.params(base)
        clamp = body.clamps(state.limits.max_tokens_policy)
        seed = given.seed if given.seed is None else given.seed + place
        return replace(given, seed=seed, clamp=clamp) if clamp or place else given

    live = request.headers.get(SESSION_HEADER)
    fields = {**body.keys, "live_session": live and digest(live)}  # the key of that session
    told = told_key(state.limits.affinity_from, request.headers, fields)
    key = told or conversation_key(body.instructions, body.first_text)

    def opening() -> AbstractAsyncContextManager[AnyTurn]:
        asked = request_id or request[REQUEST_ID]
        alone = chat_alone(state, body, asked, params, affinity=key)
        return own_turn(state, body, params, affinity=key) if alone is None else alone

    return opening


def _format(body: ChatRequest) -> ChatFormat:
    return ChatFormat(body.include_usage, body.prediction is not None, bool(body.livemind))


async def _whole(
    request: web.Request,
    state: ServerState,
    turn: AnyTurn,
    answer: ChatFormat,
    headers: Mapping[str, str],
) -> web.Response:
    said = await joined(turn)
    assert turn.done is not None
    expert = turn.expert or ""
    payload = answer.whole(expert, [(said, turn.done)])
    told = {EXPERT_HEADER: expert, **timing_headers(turn.done), **headers}
    response = web.json_bytes_response(payload, dumps=json.encode, headers=told)
    return await send(request, state, response, turn)


async def _several(
    request: web.Request, state: ServerState, body: ChatRequest, openings: list[Opening]
) -> web.StreamResponse:
    answer, pieces = _format(body), side_by_side(openings)
    if body.stream:
        frames = _frames(pieces, answer, body, len(openings))
        return await stream(request, state, frames, dict, pieces.aclose)
    joinings = [Joining() for _ in openings]
    turns: dict[int, AnyTurn] = {}
    async with aclosing(pieces):
        async for place, turn, piece in pieces:
            turns[place] = turn
            if piece is not None:
                joinings[place].saw(piece)
    whole = []
    for place, joining in enumerate(joinings):
        done = turns[place].done
        assert done is not None
        whole.append((joining.joined(), done))
    payload = answer.whole(turns[0].expert or "", whole)
    return await send(request, state, web.json_bytes_response(payload, dumps=json.encode))


async def _of_one(turn: AnyTurn) -> Pieces:
    async for piece in turn:
        yield 0, turn, piece
    await turn.free()  # the expert does not wait for a client that reads slowly
    yield 0, turn, None


async def _frames(pieces: Pieces, answer: ChatFormat, body: ChatRequest, answers: int) -> Frames:
    """Yield the chunks of a stream; every answer begins with its role and ends with its reason."""
    begun: set[int] = set()
    tokens: Counter[int] = Counter()
    ended: dict[int, AnyTurn] = {}

    def told(frame: Json, turn: AnyTurn, place: int) -> Json:
        if body.counts_on:
            frame = counted(frame, turn.prompt_tokens, tokens[place])
        return obfuscated(frame) if body.obfuscates else frame

    async with aclosing(pieces):
        async for place, turn, piece in pieces:
            expert, frames = turn.expert or "", []
            if piece is not None and not shows(piece):
                continue
            if place not in begun:
                begun.add(place)
                role: Json = {"role": "assistant", "content": ""}
                frames.append(told(answer.chunk(expert, role, index=place), turn, place))
            if piece is not None:
                tokens[place] += _tokens(piece)
                logprobs = piece.logprobs if isinstance(piece, ResponseTextDelta) else None
                chunk = answer.chunk(expert, delta_json(piece), index=place, logprobs=logprobs)
                frames.append(told(chunk, turn, place))
            else:
                assert turn.done is not None
                ended[place] = turn
                frames.append(told(answer.last_chunk(expert, turn.done, place), turn, place))
            if len(ended) == answers:
                if body.include_usage:
                    dones = [ended[n].done for n in range(answers)]
                    usage = total_usage([done for done in dones if done is not None], answers)
                    frames.append(answer.usage_chunk(expert, usage))
                yield *frames, DONE
            else:
                yield tuple(frames)


def shows(piece: Delta) -> bool:
    """Whether a piece is worth an event."""
    if isinstance(piece, ResponseTextDelta):
        return bool(piece.delta or piece.logprobs)
    return isinstance(piece, ResponseToolCallDelta) or bool(piece.delta)


def _tokens(piece: Delta) -> int:
    """Return the tokens of a piece; one whose expert tells none counts as one."""
    return (len(piece.token_ids) if isinstance(piece, ResponseTextDelta) else 0) or 1
