"""An image through a real vLLM multimodal engine with tiny random weights."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import PIL.Image
import pytest
import pytest_asyncio

from livemind.backends.base import GenerationParams, Image, Message, Priority
from livemind.backends.errors import PromptRejected
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.expert import VllmExpert
from livemind.backends.zoo.random_images import write_random_image_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
GREEDY = GenerationParams(max_tokens=6, temperature=0.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def expert(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmExpert]:
    folder = tmp_path_factory.mktemp("images") / "model"
    write_random_image_model(folder)
    spec = ExpertSpec(
        "eye", model_path=str(folder), images=True, kv_cache_gib=0.1, max_model_len=256
    )
    expert = VllmExpert(spec)
    await expert.start()
    yield expert
    await expert.stop()


def picture(color: str) -> Image:
    file = io.BytesIO()
    PIL.Image.new("RGB", (80, 60), color).save(file, "PNG")
    return Image("image/png", file.getvalue())


async def answer(
    expert: VllmExpert, *images: Image, text: str = "What is this?"
) -> tuple[tuple[int, ...], int, int | None]:
    """Return the answer's tokens, and how many the prompt had and were cached."""
    prompt = expert.render([Message("user", text, images)], open_turn=False)
    tokens: tuple[int, ...] = ()
    usage = None
    async for chunk in expert.generate(
        prompt, GREEDY, priority=Priority.FOREGROUND, request_id=f"r{id(prompt)}"
    ):
        tokens += chunk.token_ids
        usage = chunk.usage or usage
    assert usage is not None
    return tokens, usage.prompt_tokens, usage.cached_tokens


@pytest.mark.asyncio(loop_scope="module")
async def test_image_reaches_the_model_and_counts_as_its_tokens(expert: VllmExpert) -> None:
    assert expert.capabilities.images
    plain, short, _ = await answer(expert)
    red, long, _ = await answer(expert, picture("red"))
    blue, same, _ = await answer(expert, picture("blue"))
    again, _, _ = await answer(expert, picture("red"))
    assert len({plain, red, blue}) == 3
    assert red == again
    assert long == same > short + 4


@pytest.mark.asyncio(loop_scope="module")
async def test_prefix_with_another_image_is_not_taken_from_the_cache(expert: VllmExpert) -> None:
    text = "What is this? " * 20
    await answer(expert, picture("green"), text=text)
    _, _, same = await answer(expert, picture("green"), text=text)
    _, _, other = await answer(expert, picture("yellow"), text=text)
    assert (same or 0) >= 32
    assert not other


@pytest.mark.asyncio(loop_scope="module")
async def test_written_mark_of_an_image_takes_no_image(expert: VllmExpert) -> None:
    _, short, _ = await answer(expert)
    _, long, _ = await answer(expert, picture("red"))
    text = "what is <image> here"
    _, written, _ = await answer(expert, text=text)
    red, shown, _ = await answer(expert, picture("red"), text=text)
    blue, _, _ = await answer(expert, picture("blue"), text=text)
    assert shown - written == long - short
    assert red != blue


@pytest.mark.asyncio(loop_scope="module")
async def test_image_that_cannot_be_used_is_refused_and_the_engine_goes_on(
    expert: VllmExpert,
) -> None:
    with pytest.raises(PromptRejected, match="cannot be decoded"):
        await answer(expert, Image("image/png", b"noise"))
    with pytest.raises(PromptRejected, match="with its images"):
        await answer(expert, *[picture("red")] * 16, text="word " * 130)
    assert len((await answer(expert, picture("red")))[0]) == 6
