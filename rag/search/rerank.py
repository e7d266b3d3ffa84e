"""Reranking by a cross-encoder behind ``POST /rerank``, as vLLM, Cohere and Jina offer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import httpx
from pydantic import BaseModel, Field, ValidationError

from .fusion import Found


class _Result(BaseModel):
    index: int = Field(ge=0)
    relevance_score: float


class _Answer(BaseModel):
    results: list[_Result]


class Reranker:
    """Orders passages anew. Task-safe; the caller's deadline is the only one."""

    def __init__(self, url: str, model: str) -> None:
        """Open no connection yet.

        Args:
            url: whole address, for example ``http://127.0.0.1:8000/v1/rerank``.
            model: its name there.
        """
        self._url, self._model = url, model
        self._http = httpx.AsyncClient(timeout=None, trust_env=False)

    async def rerank(self, query: str, found: Sequence[Found]) -> tuple[Found, ...] | None:
        """Return the passages in the model's order; None = it failed, the old order stands."""
        body = {"model": self._model, "query": query, "documents": [f.passage.text for f in found]}
        try:
            response = await self._http.post(self._url, json=body)
            response.raise_for_status()
            results = _Answer.model_validate_json(response.content).results
            scored = [replace(found[r.index], score=r.relevance_score, rerank=r.relevance_score)
                      for r in results]  # fmt: skip
        except (httpx.HTTPError, ValidationError, IndexError):
            return None
        return tuple(sorted(scored, key=lambda f: -f.score)) if len(scored) == len(found) else None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
