"""The bodies of requests to OpenAI's API."""

from __future__ import annotations

import base64
import json

from ..base import (
    GenerationParams,
    Image,
    Message,
    StructuredOutput,
    TokenPrompt,
    template_options,
)

# Fields that the API and GenerationParams call by the same name; from ``top_k`` on some are vLLM's
# own and a server that does not know them refuses them by name.
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
    "min_tokens",
    "skip_special_tokens",
    "parallel_tool_calls",
)


def request_body(model: str, prompt: TokenPrompt, params: GenerationParams) -> dict[str, object]:
    """Return the body of ``/v1/completions`` (a plain prompt) or ``/v1/chat/completions``."""
    body: dict[str, object] = {"model": model}
    if prompt.text is not None:
        body["prompt"] = prompt.text or list(prompt.token_ids)
    else:
        body["messages"] = [_message(m) for m in prompt.messages if m.role != "template"]
        body |= template_options(prompt.messages)
        if body.get("add_generation_prompt") is True:  # which is what every server does
            del body["add_generation_prompt"]
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
    if params.echo and prompt.text is not None:
        body["echo"] = True
    if params.stop_token_ids:
        body["stop_token_ids"] = list(params.stop_token_ids)
    if params.structured is not None:
        body |= _form(params.structured)
    if params.tool_choice == "named":
        body["tool_choice"] = {"type": "function", "function": {"name": params.tool_name}}
    elif params.tool_choice is not None:
        body["tool_choice"] = params.tool_choice
    if params.logprobs is not None:
        if prompt.text is not None:
            body["logprobs"] = params.logprobs
        else:
            body |= {"logprobs": True, "top_logprobs": params.logprobs}
    return body


def _form(wanted: StructuredOutput) -> dict[str, object]:
    """Return what says how the answer has to look: OpenAI's way where it has one, else vLLM's."""
    if wanted.json_object:
        return {"response_format": {"type": "json_object"}}
    if wanted.json is not None:
        schema = {"name": "answer", "schema": json.loads(wanted.json), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    ways: dict[str, object] = {
        "regex": wanted.regex,
        "choice": list(wanted.choice) or None,
        "grammar": wanted.grammar,
        "structural_tag": wanted.structural_tag,
    }
    given = {name: value for name, value in ways.items() if value is not None}
    return {"structured_outputs": given}


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
