"""``/v1/embeddings``: vectors of texts or tokens."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from aiohttp import web
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationInfo, model_validator

from ....rag.base import FloatArray
from ...errors import InvalidRequest
from ..schema import check_total
from ..state import STATE
from ..strict import Strict
from ..validation import parse
from .bodies import Label, Prompt, prompts_of
from .neutral import without_neutral
from .vectors import embedded, encoder, texts_of, usage_of


class EmbeddingsRequest(Strict):
    """``POST /v1/embeddings``."""

    inputs: Annotated[tuple[Prompt, ...], BeforeValidator(prompts_of)] = Field(alias="input")
    model: str | None = Field(None, max_length=256)
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: Label | None = None

    @model_validator(mode="before")
    @classmethod
    def _pass_over_neutral(cls, value: Any) -> Any:
        return without_neutral(value, cls)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> EmbeddingsRequest:
        check_total(info, "input", sum(map(len, self.inputs)))
        return self


EMBEDDINGS = TypeAdapter(EmbeddingsRequest)


async def embeddings(request: web.Request) -> web.Response:
    """Return one unit vector an input, in order."""
    state = request.app[STATE]
    limit = state.limits.max_text_chars
    body = parse(EMBEDDINGS, await request.read(), max_text_chars=limit)
    worker = encoder(state, body.model)
    if body.dimensions is not None and body.dimensions > worker.dim:
        message = f"dimensions: got {body.dimensions}, the encoder has {worker.dim}"
        raise InvalidRequest(message, param="dimensions")
    texts = texts_of(worker, body.inputs)
    vectors = await embedded(worker, texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _shown(vector, body)}
        for index, vector in enumerate(vectors)
    ]
    usage = await usage_of(worker, texts)
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
