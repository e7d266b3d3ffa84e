"""The bodies of requests to OpenAI's API."""

from __future__ import annotations

import base64

from ..base import GenerationParams, Image, Message, TokenPrompt, template_options

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
        body["messages"] = [_message(m) for m in prompt.messages if m.role != "template"]
        body |= template_options(prompt.messages)
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


def _message(message: Message) -> dict[str, object]:
    """Return a message as the API has it; what it does not hold is left out."""
    details = message.details
    told: dict[str, object] = {"role": message.role, "content": _content(message)}
    if details.name is not None:
        told["name"] = details.name
    if details.tool_call_id is not None:
        told["tool_call_id"] = details.tool_call_id
    if details.reasoning is not None:
        told["reasoning_content"] = details.reasoning
    if details.tool_calls:
        told["content"] = told["content"] or None
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in details.tool_calls
        ]
    return told


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
