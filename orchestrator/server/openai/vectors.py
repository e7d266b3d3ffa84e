"""Vectors of texts, from the encoder that routing and retrieval use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ....rag.base import FloatArray
from ....rag.encoder.embedder import EmbedderError
from ....rag.encoder.worker import EmbedQueueFull, EmbedWorker
from ...errors import InvalidRequest, NotFound, Overloaded, Unavailable
from ..state import ServerState

AT_ONCE = 64
CHARACTERS_PER_TOKEN = 4


def encoder(state: ServerState, model: str | None) -> EmbedWorker:
    """Return the encoder.

    Raises:
        NotFound: there is none, or none of this name.
    """
    worker = state.mind.embed_worker
    if worker is None:
        message = "no encoder is loaded: it is with several experts, or with rag.enabled"
        raise NotFound(message, code="no_encoder")
    if model not in (None, "auto", worker.name):
        message = f"model: no such encoder; there is {worker.name}"
        raise NotFound(message, param="model", code="model_not_found")
    return worker


async def embedded(worker: EmbedWorker, texts: Sequence[str]) -> list[FloatArray]:
    """Return one unit vector a text, in order.

    Raises:
        Overloaded: the encoder's queue is full.
        Unavailable: it failed.
    """
    vectors: list[FloatArray] = []
    try:
        for begin in range(0, len(texts), AT_ONCE):
            vectors += await asyncio.gather(*map(worker.embed, texts[begin : begin + AT_ONCE]))
    except EmbedQueueFull:
        raise Overloaded("the encoder's queue is full", retry_after_s=1.0) from None
    except EmbedderError:
        raise Unavailable("the encoder failed") from None
    return vectors


async def usage_of(worker: EmbedWorker, texts: Sequence[str]) -> dict[str, object]:
    """Return the tokens that are computed for these texts; characters / 4 where nobody counts."""
    if worker.tokens is not None:
        tokens = await asyncio.to_thread(worker.tokens.count, texts)
    else:
        tokens = sum(len(text) // CHARACTERS_PER_TOKEN + 1 for text in texts)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def texts_of(worker: EmbedWorker, inputs: Sequence[str | tuple[int, ...]]) -> tuple[str, ...]:
    """Return inputs as texts; tokens are those of the encoder itself.

    Raises:
        InvalidRequest: tokens that it has not, or whose texts it does not tell.
    """
    return tuple([text if isinstance(text, str) else _text(worker, text) for text in inputs])


def _text(worker: EmbedWorker, tokens: tuple[int, ...]) -> str:
    if worker.tokens is None:
        message = f"input: {worker.name} takes texts, no tokens"
        raise InvalidRequest(message, param="input", code="unsupported_content")
    try:
        return worker.tokens.text_of(tokens)
    except ValueError as error:
        message = f"input: {error}; send the texts where the tokens are another model's"
        raise InvalidRequest(message, param="input") from None
