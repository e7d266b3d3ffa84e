"""One thread, micro-batches, a cache: what waits, what is dropped, what is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from livemind.rag.base import FloatArray
from livemind.rag.encoder.embedder import EmbedderError
from livemind.rag.encoder.fake import FakeEmbedder
from livemind.rag.encoder.worker import EmbedQueueFull, EmbedWorker, EmbedWorkerClosed


async def waiting(worker: EmbedWorker, *texts: str) -> list[asyncio.Task[FloatArray]]:
    """Start one task per text and let each reach its wait."""
    tasks = [asyncio.ensure_future(worker.embed(text)) for text in texts]
    await asyncio.sleep(0)
    return tasks


async def test_embed_worker_text_gets_the_embedders_vector(worker: EmbedWorker) -> None:
    vector = await worker.embed("the port of Kestrel")
    np.testing.assert_array_equal(vector, FakeEmbedder().embed(["the port of Kestrel"])[0])
    assert not vector.flags.writeable


async def test_embed_worker_texts_waiting_together_share_a_batch(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    tasks = await waiting(worker, "a", "b", "c", "d")
    embedder.gate.set()
    vectors = await asyncio.gather(*tasks)
    assert embedder.batches == [("a",), ("b", "c", "d")]
    np.testing.assert_array_equal(vectors, embedder.embed(["a", "b", "c", "d"]))


async def test_embed_worker_batch_is_no_longer_than_its_limit(embedder: FakeEmbedder) -> None:
    worker = EmbedWorker(embedder, max_batch=2)
    embedder.gate.clear()
    tasks = await waiting(worker, "a", "b", "c", "d")
    embedder.gate.set()
    await asyncio.gather(*tasks)
    assert embedder.batches == [("a",), ("b", "c"), ("d",)]
    await worker.aclose()


@pytest.mark.parametrize("texts", [("a", "a"), ("x", "a", "a")], ids=["in work", "waiting"])
async def test_embed_worker_same_text_twice_is_encoded_once(
    worker: EmbedWorker, embedder: FakeEmbedder, texts: tuple[str, ...]
) -> None:
    embedder.gate.clear()
    tasks = await waiting(worker, *texts)
    embedder.gate.set()
    vectors = await asyncio.gather(*tasks)
    assert [text for batch in embedder.batches for text in batch].count("a") == 1
    assert np.shares_memory(vectors[-1], vectors[-2])


async def test_embed_worker_cache_forgets_the_least_recently_used(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    for text in ("a", "b", "a", "c", "a", "b"):
        await worker.embed(text)
    assert embedder.batches == [("a",), ("b",), ("c",), ("b",)]
    stats = worker.stats()
    assert (stats.hits, stats.misses, stats.cached, stats.batches) == (2, 4, 2, 4)


async def test_embed_worker_without_cache_encodes_again(embedder: FakeEmbedder) -> None:
    worker = EmbedWorker(embedder, cache_size=0)
    await worker.embed("a")
    await worker.embed("a")
    assert len(embedder.batches) == 2
    await worker.aclose()


async def test_embed_worker_cancelled_before_its_batch_is_never_encoded(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    running, dropped, kept = await waiting(worker, "a", "b", "c")
    dropped.cancel()
    await asyncio.wait([dropped])
    assert (worker.stats().dropped, worker.stats().queued) == (1, 1)
    embedder.gate.set()
    await asyncio.gather(running, kept)
    assert embedder.batches == [("a",), ("c",)]


async def test_embed_worker_one_of_two_waiters_cancelled_keeps_the_text(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    running, cancelled, kept = await waiting(worker, "a", "b", "b")
    cancelled.cancel()
    await asyncio.wait([cancelled])
    embedder.gate.set()
    await asyncio.gather(running, kept)
    assert embedder.batches == [("a",), ("b",)]


async def test_embed_worker_cancelled_in_its_batch_leaves_the_vector_in_the_cache(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    (task,) = await waiting(worker, "a")
    task.cancel()
    await asyncio.wait([task])
    embedder.gate.set()
    await worker.embed("b")  # its batch comes after the one of "a"
    await worker.embed("a")
    assert embedder.batches == [("a",), ("b",)]


async def test_embed_worker_full_queue_refuses_with_its_limit(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    tasks = await waiting(worker, "in work", "1", "2", "3")
    with pytest.raises(EmbedQueueFull, match="3 texts wait"):
        await worker.embed("4")
    embedder.gate.set()
    await asyncio.gather(*tasks)


async def test_embed_worker_failing_encoder_fails_its_batch_only(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.error = RuntimeError("secret text")
    with pytest.raises(EmbedderError, match=r"^the encoder failed$") as caught:
        await worker.embed("a")
    assert caught.value.__cause__ is embedder.error
    embedder.error = None
    assert (await worker.embed("a")).shape == (embedder.dim,)


async def test_embed_worker_embedders_own_error_arrives_as_it_is(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.error = EmbedderError("no weights")
    with pytest.raises(EmbedderError, match="no weights"):
        await worker.embed("a")


async def test_embed_worker_wrong_number_of_vectors_is_an_error() -> None:
    class Short(FakeEmbedder):
        def embed(self, texts: Sequence[str]) -> FloatArray:
            return super().embed(texts)[:0]

    worker = EmbedWorker(Short())
    with pytest.raises(EmbedderError, match=r"returned \(0, 64\), need \(1, 64\)"):
        await worker.embed("a")
    await worker.aclose()


async def test_embed_worker_close_refuses_what_waits_and_finishes_what_runs(
    worker: EmbedWorker, embedder: FakeEmbedder
) -> None:
    embedder.gate.clear()
    running, queued = await waiting(worker, "a", "b")
    closing = asyncio.ensure_future(worker.aclose())
    with pytest.raises(EmbedWorkerClosed):
        await queued
    assert not closing.done()
    embedder.gate.set()
    await closing
    assert (await running).shape == (embedder.dim,)
    assert embedder.batches == [("a",)]
    with pytest.raises(EmbedWorkerClosed):
        await worker.embed("a")
    await worker.aclose()


@pytest.mark.parametrize("limits", [{"max_queue": 0}, {"max_batch": 0}, {"cache_size": -1}])
def test_embed_worker_limit_out_of_range_is_refused(limits: dict[str, int]) -> None:
    (value,) = limits.values()
    with pytest.raises(ValueError, match=f"{next(iter(limits))} {value}"):
        EmbedWorker(FakeEmbedder(), **limits)


async def test_embed_worker_waiters_of_a_batch_resume_one_per_round_of_the_loop(
    embedder: FakeEmbedder,
) -> None:
    worker = EmbedWorker(embedder)
    embedder.gate.clear()
    first = asyncio.ensure_future(worker.embed("first"))
    await asyncio.sleep(0)
    rounds, resumed = [0], list[int]()

    async def ask(number: int) -> None:
        await worker.embed(f"text {number}")
        resumed.append(rounds[0])

    async def count() -> None:
        while len(resumed) < 12:
            rounds[0] += 1
            await asyncio.sleep(0)

    asked = [asyncio.ensure_future(ask(number)) for number in range(12)]
    await asyncio.sleep(0)
    counting = asyncio.ensure_future(count())
    embedder.gate.set()
    await asyncio.gather(first, *asked, counting)
    assert len(embedder.batches) == 2
    assert len(set(resumed)) == len(resumed) == 12
    await worker.aclose()


async def test_embed_worker_layers_and_vector_of_a_text_are_encoded_once() -> None:
    class Layered(FakeEmbedder):
        def embed_layers(self, texts: Sequence[str]) -> FloatArray:
            vectors = self.embed(texts)
            return np.hstack([vectors, -vectors])

    embedder = Layered()
    worker = EmbedWorker(embedder)
    layers, vector = await asyncio.gather(worker.embed_layers("a"), worker.embed("a"))
    np.testing.assert_array_equal(layers, np.concatenate([vector, -vector]))
    assert embedder.batches == [("a",)]
    await worker.aclose()
