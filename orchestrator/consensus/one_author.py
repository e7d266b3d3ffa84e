"""What of a request cannot be shared between experts, and why. Pure."""

from __future__ import annotations

from ...backends.base import Capabilities, GenerationParams, template_options
from .task import Task


def why_one_author(task: Task) -> str | None:
    """Return why no expert can go on where another one stopped; None = one can.

    A grammar and who reads calls out of an answer begin at its first token, and a template that is
    told how to end has no place for another's words.
    """
    options = template_options(task.messages)
    if options.get("tools") and task.params.tool_choice != "none":
        return "an answer that may call tools has one author"
    if task.params.structured is not None:
        return "an answer of a given form has one author"
    if {"continue_final_message", "add_generation_prompt"} & options.keys():
        return "the end of the conversation is given: the answer has one author"
    return None


def why_not_its_tokens(
    params: GenerationParams, expert: Capabilities, leader: Capabilities | None
) -> str | None:
    """Return which field names tokens that are others to this expert; None = it names none.

    The ids are those of the routed expert's tokenizer.
    """
    same = leader is not None and expert.tokenizer_id == leader.tokenizer_id is not None
    if expert is leader or same:
        return None
    for name in ("logit_bias", "stop_token_ids"):
        if getattr(params, name):
            return f"{name}: another tokenizer"
    return None
