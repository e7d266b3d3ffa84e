"""Images for an engine of this machine: what stands for one in a text, and how they go in."""

from __future__ import annotations

import asyncio
import io
from typing import Any

from ..base import Image, TokenPrompt
from ..errors import PromptRejected


def image_mark(model_config: Any) -> str | None:
    """Return what stands in a prompt for an image, None if the model takes none.

    ``model_config`` is vLLM's. Imports the model's module, which takes seconds the first time.
    """
    if not model_config.is_multimodal_model:
        return None
    from vllm.model_executor.model_loader import get_model_cls

    try:
        mark = get_model_cls(model_config).get_placeholder_str("image", 1)
    except ValueError:  # it takes something else than images
        return None
    return str(mark) if mark else None


async def engine_input(engine: Any, expert_id: str, prompt: TokenPrompt) -> Any:
    """Return vLLM's input for a prompt with images, each mark replaced by the image's tokens.

    Images are decoded on a thread; equal ones are found in vLLM's caches by their content.

    Raises:
        PromptRejected: an image cannot be decoded.
    """
    pictures = await asyncio.to_thread(_decoded, expert_id, prompt.images)
    raw = {"prompt_token_ids": list(prompt.token_ids), "multi_modal_data": {"image": pictures}}
    renderer = engine.renderer
    (found,) = await renderer.render_cmpl_async([raw], renderer.default_cmpl_tok_params)
    if prompt.cache_salt is not None:
        found["cache_salt"] = prompt.cache_salt
    return found


def _decoded(expert_id: str, images: tuple[Image, ...]) -> list[Any]:
    import PIL.Image

    try:
        return [PIL.Image.open(io.BytesIO(image.data)).convert("RGB") for image in images]
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        message = f"an image cannot be decoded: {type(error).__name__}"
        raise PromptRejected(expert_id, message, param="messages", code="invalid_image") from error
