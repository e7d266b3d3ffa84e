"""``/v1/embeddings`` through the official client, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import openai
import pytest

from livemind.backends.fake import FakeExpert

PATH = "/v1/embeddings"
TEXTS = ["a port of call", "a glass of port", "a ship"]


def experts() -> tuple[FakeExpert, FakeExpert]:
    """Return two, so that the server has an encoder to route between them."""
    return FakeExpert("a"), FakeExpert("b")


async def test_embeddings_are_unit_vectors_in_order_in_both_formats(serve: Any) -> None:
    async with serve(*experts()) as doors:
        client = openai.AsyncOpenAI(base_url=f"{doors.url}/v1", api_key="none", max_retries=0)
        async with client:
            packed = await client.embeddings.create(model="auto", input=TEXTS)
            plain = await client.embeddings.create(
                model="auto", input=TEXTS, encoding_format="float"
            )
            single = await client.embeddings.create(model="auto", input=TEXTS[1])
        first = np.array([entry.embedding for entry in packed.data])
        assert np.allclose(first, [entry.embedding for entry in plain.data], atol=1e-6)
        assert np.allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-5)
        assert np.allclose(single.data[0].embedding, first[1], atol=1e-6)
        assert [entry.index for entry in plain.data] == [0, 1, 2]
        worker = doors.mind.embed_worker
        assert np.allclose(first[2], await worker.embed(TEXTS[2]), atol=1e-6)


async def test_embeddings_of_fewer_dimensions_are_unit_vectors_again(serve: Any) -> None:
    async with serve(*experts()) as doors:
        _, whole = await doors.post(PATH, {"input": "x y"})
        _, short = await doors.post(PATH, {"input": "x y", "dimensions": 8})
        vector = np.array(short["data"][0]["embedding"])
        assert vector.shape == (8,)
        head = np.array(whole["data"][0]["embedding"])[:8]
        if np.linalg.norm(head):
            assert np.allclose(vector, head / np.linalg.norm(head), atol=1e-5)


WRONG: dict[str, tuple[Any, int, str | None]] = {
    "tokens that there are not": ({"input": [1, 20_000]}, 400, "input"),
    "lists of tokens that there are not": ({"input": [[1], [20_000]]}, 400, "input"),
    "no tokens": ({"input": [[]]}, 400, "input"),
    "numbers beside texts": ({"input": ["x", 1]}, 400, "input"),
    "empty": ({"input": ""}, 400, "input"),
    "nothing": ({"input": []}, 400, "input"),
    "too many": ({"input": ["x"] * 2049}, 400, "input"),
    "too long": ({"input": "x" * 3000}, 413, "input"),
    "dimensions": ({"input": "x", "dimensions": 100_000}, 400, "dimensions"),
    "model": ({"input": "x", "model": "other"}, 404, "model"),
    "field": ({"input": "x", "mood": 1}, 400, "mood"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_embeddings_that_cannot_be_are_refused_by_name(serve: Any, name: str) -> None:
    body, status, param = WRONG[name]
    async with serve(*experts(), max_text_chars=2500) as doors:
        got, answer = await doors.post(PATH, body)
        assert (got, answer["error"]["param"]) == (status, param), answer


async def test_embeddings_without_an_encoder_say_when_there_is_one(serve: Any) -> None:
    async with serve() as doors:
        status, answer = await doors.post(PATH, {"input": "x"})
        assert (status, answer["error"]["code"]) == (404, "no_encoder")


async def test_embeddings_take_the_encoders_tokens_and_count_what_is_computed(serve: Any) -> None:
    async with serve(*experts()) as doors:
        _, tokens = await doors.post(PATH, {"input": [[1, 2, 3], [7]]})
        _, single = await doors.post(PATH, {"input": [7]})
        _, texts = await doors.post(PATH, {"input": ["1 2 3", "7"]})
        assert [e["embedding"] for e in tokens["data"]] == [e["embedding"] for e in texts["data"]]
        assert single["data"][0]["embedding"] == texts["data"][1]["embedding"]
        assert tokens["usage"] == texts["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
