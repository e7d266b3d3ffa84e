"""``/v1/completions``, as OpenAI's API and vLLM have it: prompts to be continued, or scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing

from aiohttp import web
from msgspec import json
from msgspec.structs import replace
from pydantic import TypeAdapter

from ...errors import InvalidRequest
from ...events import Delta, ResponseDone, ResponseTextDelta
from ..affinity import told_key
from ..live.session import SESSION_HEADER
from ..sse import DONE
from ..state import REQUEST_ID, STATE, ServerState
from ..validation import parse
from .alone import AloneTurn, completion_alone
from .answering import EXPERT_HEADER, AnyTurn, Frames, Joining, Opening, send, side_by_side, stream
from .bodies import CompletionRequest
from .format import CompletionFormat, Json, counted, obfuscated, total_usage, usage_json

COMPLETION = TypeAdapter(CompletionRequest)
Pieces = AsyncGenerator[tuple[int, AnyTurn, Delta | None], None]


async def completions(request: web.Request) -> web.StreamResponse:
    """Continue plain prompts, each ``n`` times."""
    state = request.app[STATE]
    body = parse(COMPLETION, await request.read(), max_text_chars=state.limits.max_text_chars)
    if SESSION_HEADER in request.headers:
        message = f"{SESSION_HEADER}: only chat completions can adopt a live session"
        raise InvalidRequest(message, param=SESSION_HEADER, code="unsupported_parameter")
    answers = body.n or 1
    prompts = [prompt for prompt in body.prompts for _ in range(answers)]
    openings = [
        _opening(request, state, body, prompt, place % answers)
        for place, prompt in enumerate(prompts)
    ]
    if len(openings) > 1:
        expert = state.mind.pinned(body.model) or state.mind.settings.default_expert
        answer, pieces = CompletionFormat(expert, body.include_usage), side_by_side(openings)
        if not body.stream:
            return await _whole(request, state, pieces, answer, body, len(openings))
        frames = _frames(pieces, answer, body, len(openings))
        return await stream(request, state, frames, dict, pieces.aclose)
    async with openings[0]() as turn:
        answer = CompletionFormat(turn.expert or "", body.include_usage)
        if not body.stream:
            return await _whole(request, state, _of_one(turn), answer, body, 1, turn)
        frames = _frames(_of_one(turn), answer, body, 1)
        expert = turn.expert or ""
        return await stream(request, state, frames, lambda: {EXPERT_HEADER: expert}, turn.free)


def _opening(
    request: web.Request,
    state: ServerState,
    body: CompletionRequest,
    prompt: str | tuple[int, ...],
    number: int,
) -> Opening:
    """Return what opens one answer's turn; each answer to a prompt has a seed of its own."""
    params = replace(body.params(), clamp=body.clamps(state.limits.max_tokens_policy))
    if number and params.seed is not None:
        params = replace(params, seed=params.seed + number)

    key = told_key(state.limits.affinity_from, request.headers, body.keys)

    def opening() -> AbstractAsyncContextManager[AloneTurn]:
        return completion_alone(state, body, request[REQUEST_ID], prompt, params, key)

    return opening


async def _of_one(turn: AnyTurn) -> Pieces:
    async for piece in turn:
        yield 0, turn, piece
    yield 0, turn, None


async def _whole(
    request: web.Request,
    state: ServerState,
    pieces: Pieces,
    answer: CompletionFormat,
    body: CompletionRequest,
    answers: int,
    turn: AnyTurn | None = None,
) -> web.Response:
    joinings = [Joining() for _ in range(answers)]
    dones: dict[int, ResponseDone] = {}
    async with aclosing(pieces):
        async for place, one, piece in pieces:
            if piece is not None:
                joinings[place].saw(piece)
            else:
                assert one.done is not None
                dones[place] = one.done
    choices = []
    for place, joining in enumerate(joinings):
        said = joining.joined()
        choices.append(answer.choice(said.text, said.logprobs, dones[place].finish_reason, place))
    payload = answer.payload(*choices)
    usage = total_usage([dones[place] for place in range(answers)], body.n or 1)
    payload["usage"] = usage_json(usage)
    headers = {EXPERT_HEADER: answer.model}
    response = web.json_bytes_response(payload, dumps=json.encode, headers=headers)
    return await send(request, state, response, turn)


async def _frames(
    pieces: Pieces, answer: CompletionFormat, body: CompletionRequest, answers: int
) -> Frames:
    tokens: Counter[int] = Counter()
    dones: dict[int, ResponseDone] = {}

    def told(choice: Json, turn: AnyTurn, place: int) -> Json:
        frame = answer.payload(choice)
        if body.counts_on:
            frame = counted(frame, turn.prompt_tokens, tokens[place])
        return obfuscated(frame) if body.obfuscates else frame

    async with aclosing(pieces):
        async for place, turn, piece in pieces:
            if piece is not None:
                if isinstance(piece, ResponseTextDelta) and (piece.delta or piece.logprobs):
                    tokens[place] += len(piece.token_ids) or 1
                    choice = answer.choice(piece.delta, piece.logprobs, None, place)
                    yield (told(choice, turn, place),)
                continue
            assert turn.done is not None
            await turn.free()
            dones[place] = turn.done
            frames = [told(answer.choice("", None, turn.done.finish_reason, place), turn, place)]
            if len(dones) < answers:
                yield tuple(frames)
                continue
            if body.include_usage:
                usage = total_usage([dones[n] for n in range(answers)], body.n or 1)
                frames.append(answer.usage_chunk(usage))
            yield *frames, DONE
