"""``/v1/rerank`` and ``/v1/score``: how near texts are, in the names of vLLM, Cohere and Jina.

A score is the cosine of the encoder's vectors, -1 to 1, as vLLM gives it for models that embed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Annotated, Any

import numpy as np
from aiohttp import web
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationInfo, model_validator

from ....rag.base import FloatArray
from ..content import refusal
from ..schema import check_length
from ..state import STATE
from ..strict import Strict
from ..validation import parse
from .bodies import MAX_PROMPTS, Label
from .neutral import NEUTRAL, Neutral, without_neutral
from .vectors import embedded, encoder, usage_of

SAID = (("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2"))
"""The names under which clients give the two sides of a score."""
_OWN: Mapping[str, Neutral] = {
    **NEUTRAL,
    "activation": Neutral("now `use_activation`"),
    "encoding_format": Neutral("of vectors, which are not shown", ("float",)),
    "instruction": Neutral("a task for the template of a reranking model"),
    "max_chunks_per_doc": Neutral("documents have one vector", (1,)),
    "max_tokens_per_doc": Neutral("tokens of a document at most", (0,)),
    "max_tokens_per_query": Neutral("tokens of a query at most", (0,)),
    "rank_fields": Neutral("fields of a document that count", (["text"], [])),
    "use_activation": Neutral("a function over the scores of a classifier", (False,)),
}


def _texts(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    given = [text.get("text") if isinstance(text, dict) else text for text in texts]
    told = [text for text in given if isinstance(text, str) and text]
    if not told or len(told) < len(given):
        message = "need a text or a list of texts (or of objects with text), none of them empty"
        raise refusal("invalid_value", "", message)
    if len(told) > MAX_PROMPTS:
        raise refusal("invalid_value", "", f"got {len(told)} texts, the limit is {MAX_PROMPTS}")
    return tuple(told)


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]


class _Scoring(Strict):
    model: str | None = Field(None, max_length=256)
    user: Label | None = None

    @model_validator(mode="before")
    @classmethod
    def _pass_over_neutral(cls, value: Any) -> Any:
        return without_neutral(value, cls, _OWN)


class RerankRequest(_Scoring):
    """``POST /v1/rerank``; ``top_n`` 0 or null: all."""

    query: str = Field(min_length=1)
    documents: Texts
    top_n: int | None = Field(None, ge=0)
    return_documents: bool | None = None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> RerankRequest:
        check_length(info, "documents", [self.query, *self.documents])
        return self


class ScoreRequest(_Scoring):
    """``POST /v1/score``: one text against each of the others, or pairs."""

    ones: Texts
    others: Texts

    @model_validator(mode="before")
    @classmethod
    def _name_sides(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for one, other in SAID:
            if one in value and other in value:
                named = {one: "ones", other: "others"}
                return {named.get(name, name): content for name, content in value.items()}
        names = ", ".join(f"{one} and {other}" for one, other in SAID)
        raise refusal("invalid_value", "text_1", f"need two sides: {names}")

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> ScoreRequest:
        if len(self.ones) not in (1, len(self.others)):
            message = f"got {len(self.ones)} and {len(self.others)}; need one, or as many"
            raise refusal("invalid_value", "text_1", message)
        check_length(info, "text_2", [*self.ones, *self.others])
        return self


RERANK, SCORE = TypeAdapter(RerankRequest), TypeAdapter(ScoreRequest)


async def rerank(request: web.Request) -> web.Response:
    """Return documents by their nearness to a query, the nearest first."""
    state = request.app[STATE]
    limit = state.limits.max_text_chars
    body = parse(RERANK, await request.read(), max_text_chars=limit)
    worker = encoder(state, body.model)
    texts = (body.query, *body.documents)
    query, *others = await embedded(worker, texts)
    scores = [_cosine(query, vector) for vector in others]
    ranked = sorted(range(len(scores)), key=lambda place: -scores[place])[: body.top_n or None]
    shows = body.return_documents is not False
    results = [
        {
            "index": place,
            **({"document": {"text": body.documents[place]}} if shows else {}),
            "relevance_score": scores[place],
        }
        for place in ranked
    ]
    usage = await usage_of(worker, texts)
    told = {"id": f"rerank-{token_hex(16)}", "model": worker.name, "usage": usage}
    return web.json_response({**told, "results": results})


async def score(request: web.Request) -> web.Response:
    """Return how near the texts of each pair are."""
    state = request.app[STATE]
    limit = state.limits.max_text_chars
    body = parse(SCORE, await request.read(), max_text_chars=limit)
    worker = encoder(state, body.model)
    vectors = await embedded(worker, (*body.ones, *body.others))
    ones, others = vectors[: len(body.ones)], vectors[len(body.ones) :]
    pairs = zip(ones * (len(others) if len(ones) == 1 else 1), others, strict=True)
    data = [
        {"index": index, "object": "score", "score": _cosine(*pair)}
        for index, pair in enumerate(pairs)
    ]
    return web.json_response(
        {
            "id": f"score-{token_hex(16)}",
            "object": "list",
            "created": int(time.time()),
            "model": worker.name,
            "data": data,
            "usage": await usage_of(worker, (*body.ones, *body.others)),
        }
    )


def _cosine(one: FloatArray, other: FloatArray) -> float:
    return float(np.clip(np.dot(one, other), -1.0, 1.0))
