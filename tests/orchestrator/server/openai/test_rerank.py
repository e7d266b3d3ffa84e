"""``/v1/rerank`` and ``/v1/score``: order, shapes, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from livemind.backends.fake import FakeExpert

DOCUMENTS = ["a ship at sea", "port of call", "the port of Kestrel", "bread"]
QUERY = "port of Kestrel"


def experts() -> tuple[FakeExpert, FakeExpert]:
    """Return two, so that the server has an encoder to route between them."""
    return FakeExpert("a"), FakeExpert("b")


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_rerank_returns_the_nearest_first_with_its_place_in_the_request(
    serve: Any, path: str
) -> None:
    async with serve(*experts()) as doors:
        status, answer = await doors.post(path, {"query": QUERY, "documents": DOCUMENTS})
        assert status == 200, answer
        scores = [result["relevance_score"] for result in answer["results"]]
        assert answer["results"][0]["index"] == 2
        assert scores == sorted(scores, reverse=True)
        told = {result["index"]: result["document"]["text"] for result in answer["results"]}
        assert told == dict(enumerate(DOCUMENTS))
        words = sum(len(text.split()) for text in (QUERY, *DOCUMENTS))
        assert answer["usage"] == {"prompt_tokens": words, "total_tokens": words}
        body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 2, "return_documents": False}
        _, short = await doors.post(path, body)
        assert [result["index"] for result in short["results"]] == [
            result["index"] for result in answer["results"][:2]
        ]
        assert "document" not in short["results"][0]
        objects = [{"text": text, "id": 3} for text in DOCUMENTS]
        _, same = await doors.post(path, {"query": QUERY, "documents": objects})
        assert same["results"] == answer["results"]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize(
    "names", [("text_1", "text_2"), ("queries", "documents"), ("queries", "items")]
)
async def test_score_is_the_cosine_of_one_with_each_or_of_pairs(
    serve: Any, path: str, names: tuple[str, str]
) -> None:
    one, other = names
    async with serve(*experts()) as doors:
        _, answer = await doors.post(path, {one: QUERY, other: DOCUMENTS})
        _, pairs = await doors.post(path, {one: [QUERY, "bread"], other: DOCUMENTS[2:]})
        query = await doors.mind.embed_worker.embed(QUERY)
        wanted = [float(query @ await doors.mind.embed_worker.embed(d)) for d in DOCUMENTS]
        got = [entry["score"] for entry in answer["data"]]
        assert np.allclose(got, wanted, atol=1e-6)
        assert [entry["index"] for entry in answer["data"]] == [0, 1, 2, 3]
        assert np.allclose([e["score"] for e in pairs["data"]], [wanted[2], 1.0], atol=1e-6)
        assert (answer["object"], answer["data"][0]["object"]) == ("list", "score")


WRONG: dict[str, tuple[str, Any, int, str | None]] = {
    "no query": ("/v1/rerank", {"documents": ["x"]}, 400, "query"),
    "empty document": ("/v1/rerank", {"query": "x", "documents": ["x", ""]}, 400, "documents"),
    "no documents": ("/v1/rerank", {"query": "x", "documents": []}, 400, "documents"),
    "top": ("/v1/rerank", {"query": "x", "documents": ["x"], "top_n": -1}, 400, "top_n"),
    "model": ("/v1/rerank", {"query": "x", "documents": ["x"], "model": "m"}, 404, "model"),
    "cut": (
        "/v1/rerank",
        {"query": "x", "documents": ["x"], "max_tokens_per_doc": 9},
        400,
        "max_tokens_per_doc",
    ),
    "long": ("/v1/rerank", {"query": "x", "documents": ["x" * 3000]}, 413, "documents"),
    "unknown": ("/v1/rerank", {"query": "x", "documents": ["x"], "mood": 1}, 400, "mood"),
    "one side": ("/v1/score", {"text_1": "x"}, 400, "text_1"),
    "two and three": ("/v1/score", {"text_1": ["x"] * 2, "text_2": ["x"] * 3}, 400, "text_1"),
    "instruction": ("/score", {"text_1": "x", "text_2": "y", "instruction": "i"}, 400, None),
}


@pytest.mark.parametrize("name", WRONG)
async def test_rerank_and_score_refuse_by_name(serve: Any, name: str) -> None:
    path, body, status, param = WRONG[name]
    async with serve(*experts(), max_text_chars=2500) as doors:
        got, answer = await doors.post(path, body)
        assert (got, answer["error"]["param"]) == (status, param or "instruction"), answer


async def test_rerank_without_an_encoder_says_when_there_is_one(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.post("/v1/rerank", {"query": "x", "documents": ["y"]})
        assert (status, answer["error"]["code"]) == (404, "no_encoder")
