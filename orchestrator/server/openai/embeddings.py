"""``/v1/embeddings``: vectors of texts, from the encoder that routing and retrieval use."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any, Literal

import numpy as np
from aiohttp import web
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationInfo, model_validator

from ....rag.base import FloatArray
from ....rag.encoder.embedder import EmbedderError
from ....rag.encoder.worker import EmbedQueueFull
from ...errors import InvalidRequest, NotFound, Overloaded, Unavailable
from ..content import refusal
from ..schema import check_total
from ..state import STATE
from ..strict import Strict
from ..validation import parse

MAX_TEXTS = 2048
AT_ONCE = 64
CHARACTERS_PER_TOKEN = 4


def _texts(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    if any(isinstance(text, int | list) for text in texts):
        message = "token ids belong to another model's tokenizer; send the texts themselves"
        raise refusal("unsupported_content", "", message)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise refusal("invalid_value", "", "need a text or a list of texts, none of them empty")
    if len(texts) > MAX_TEXTS:
        raise refusal("invalid_value", "", f"got {len(texts)} texts, the limit is {MAX_TEXTS}")
    return tuple(texts)


class EmbeddingsRequest(Strict):
    """``POST /v1/embeddings``."""

    texts: Annotated[tuple[str, ...], BeforeValidator(_texts)] = Field(alias="input")
    model: str | None = Field(None, max_length=256)
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = Field(None, max_length=512)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> EmbeddingsRequest:
        check_total(info, "input", sum(map(len, self.texts)))
        return self


EMBEDDINGS = TypeAdapter(EmbeddingsRequest)


async def embeddings(request: web.Request) -> web.Response:
    """Return one unit vector a text, in order."""
    state = request.app[STATE]
    limit = state.limits.max_text_chars
    body = parse(EMBEDDINGS, await request.read(), max_text_chars=limit)
    worker = state.mind.embed_worker
    if worker is None:
        message = "no encoder is loaded: it is with several experts, or with rag.enabled"
        raise NotFound(message, code="no_encoder")
    if body.model not in (None, "auto", worker.name):
        message = f"model: no such encoder; there is {worker.name}"
        raise NotFound(message, param="model", code="model_not_found")
    if body.dimensions is not None and body.dimensions > worker.dim:
        message = f"dimensions: got {body.dimensions}, the encoder has {worker.dim}"
        raise InvalidRequest(message, param="dimensions")
    vectors: list[FloatArray] = []
    try:
        for begin in range(0, len(body.texts), AT_ONCE):
            part = body.texts[begin : begin + AT_ONCE]
            vectors += await asyncio.gather(*map(worker.embed, part))
    except EmbedQueueFull:
        raise Overloaded("the encoder's queue is full", retry_after_s=1.0) from None
    except EmbedderError:
        raise Unavailable("the encoder failed") from None
    data = [
        {"object": "embedding", "index": index, "embedding": _shown(vector, body)}
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(len(text) // CHARACTERS_PER_TOKEN + 1 for text in body.texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": worker.name, "usage": usage}
    return web.json_response(answer)


def _shown(vector: FloatArray, body: EmbeddingsRequest) -> str | list[float]:
    """Return a vector, its first dimensions made a unit again, in the format that is asked for."""
    cut = np.ascontiguousarray(vector[: body.dimensions], dtype="<f4")
    if body.dimensions is not None:
        length = float(np.linalg.norm(cut))
        cut = cut / length if length else cut
    if body.encoding_format == "base64":
        return base64.b64encode(cut.astype("<f4").tobytes()).decode("ascii")
    return [float(value) for value in cut]
