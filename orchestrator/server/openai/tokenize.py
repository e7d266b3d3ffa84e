"""``/tokenize``, ``/detokenize``, ``/tokenizer_info`` of vLLM: what an expert's tokenizer says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationInfo, model_validator

from ....backends.base import Expert, Message, Tokenizer
from ....backends.rendering import beside
from ...errors import InvalidRequest
from ...turn.prompt import build
from ..schema import check_length
from ..state import STATE
from ..strict import Strict
from ..validation import parse
from .alone import context_of
from .bodies import ChatRequest, TokenId

MAX_TOKENS = 1_000_000


class TokenizeText(Strict):
    """``POST /tokenize`` of a text."""

    prompt: str
    model: str | None = Field(None, min_length=1, max_length=256)
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> TokenizeText:
        check_length(info, "prompt", [self.prompt])
        return self


class TokenizeChat(ChatRequest):
    """``POST /tokenize`` of a conversation: a chat request, whatever else it holds."""

    return_token_strs: bool | None = None


class DetokenizeRequest(Strict):
    """``POST /detokenize``."""

    tokens: list[TokenId] = Field(max_length=MAX_TOKENS)
    model: str | None = Field(None, min_length=1, max_length=256)


def _kind(value: Any) -> str:
    return "chat" if isinstance(value, dict) and "messages" in value else "text"


TAGS = frozenset({"chat", "text"})
TOKENIZE: TypeAdapter[TokenizeText | TokenizeChat] = TypeAdapter(
    Annotated[
        Annotated[TokenizeText, Tag("text")] | Annotated[TokenizeChat, Tag("chat")],
        Discriminator(_kind),
    ]
)
DETOKENIZE = TypeAdapter(DetokenizeRequest)


async def tokenize(request: web.Request) -> web.Response:
    """Return the tokens of a text or of a conversation, as the expert would be given it."""
    state = request.app[STATE]
    limit = state.limits.max_text_chars
    body = parse(TOKENIZE, await request.read(), max_text_chars=limit, tags=TAGS)
    expert = await state.mind.loaded(body.model)
    tokenizer, prompt, special = _tokenizer(expert), _prompt(body), True
    if isinstance(body, TokenizeText):
        special = body.add_special_tokens is not False
    size = len(prompt) if isinstance(prompt, str) else sum(len(said.content) for said in prompt)
    tokens = await beside(size, lambda: tokenizer.encode(prompt, add_special_tokens=special))
    strings = None
    if body.return_token_strs:
        strings = await beside(len(tokens), lambda: tokenizer.strings(tokens))
    return web.json_response(
        {
            "count": len(tokens),
            "max_model_len": expert.capabilities.max_model_len,
            "tokens": tokens,
            "token_strs": strings,
        }
    )


async def detokenize(request: web.Request) -> web.Response:
    """Return the text of tokens, special ones included."""
    state = request.app[STATE]
    limit = state.limits.max_text_chars
    body = parse(DETOKENIZE, await request.read(), max_text_chars=limit)
    tokenizer = _tokenizer(await state.mind.loaded(body.model))
    text = await beside(len(body.tokens), lambda: tokenizer.decode(body.tokens))
    return web.json_response({"prompt": text})


async def tokenizer_info(request: web.Request) -> web.Response:
    """Return how the tokenizer of an expert is set: of ``model`` in the query, else the default."""
    expert = await request.app[STATE].mind.loaded(request.query.get("model"))
    return web.json_response(_tokenizer(expert).info())


def _prompt(body: TokenizeText | TokenizeChat) -> str | Sequence[Message]:
    if isinstance(body, TokenizeText):
        return body.prompt
    if body.has_images:
        place, _ = body.image_urls[0]
        message = f"{place}: the tokens of an image are known to the engine alone"
        raise InvalidRequest(message, param=place, code="unsupported_content")
    return build(context_of(body), body.text)


def _tokenizer(expert: Expert) -> Tokenizer:
    if expert.tokenizer is None:
        message = f"model: the tokenizer of {expert.expert_id} is on its own server; ask that"
        raise InvalidRequest(message, param="model", code="no_tokenizer")
    return expert.tokenizer
