"""The bodies of requests to OpenAI's API."""

from __future__ import annotations

import base64

from ..base import GenerationParams, Image, Message, TokenPrompt

# Fields that the API and GenerationParams call by the same name; the last three are vLLM's own and
# a server that does not know them refuses them by name.
_SAME_NAMES = (
    "max_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "top_k",
    "min_p",
    "repetition_penalty",
)


def request_body(model: str, prompt: TokenPrompt, params: GenerationParams) -> dict[str, object]:
    """Return the body of ``/v1/completions`` (a plain prompt) or ``/v1/chat/completions``."""
    body: dict[str, object] = {"model": model}
    if prompt.text is not None:
        body["prompt"] = prompt.text
    else:
        body["messages"] = [{"role": m.role, "content": _content(m)} for m in prompt.messages]
    for name in _SAME_NAMES:
        value = getattr(params, name)
        if value is not None:
            body[name] = value
    if params.stop:
        body["stop"] = list(params.stop)
    if params.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in params.logit_bias}
    if params.ignore_eos:
        body["ignore_eos"] = True
    if params.logprobs is not None:
        if prompt.text is not None:
            body["logprobs"] = params.logprobs
        else:
            body |= {"logprobs": True, "top_logprobs": params.logprobs}
    return body


def _content(message: Message) -> str | list[dict[str, object]]:
    """Return a message's text, or its parts if it has images."""
    if not message.images:
        return message.content
    images: list[dict[str, object]] = [
        {"type": "image_url", "image_url": {"url": _data_url(image)}} for image in message.images
    ]
    return [*images, {"type": "text", "text": message.content}]


def _data_url(image: Image) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode('ascii')}"
