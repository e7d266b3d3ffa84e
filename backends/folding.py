"""How a conversation is told to a chat template that does not take it as it is."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from .base import Message


def fold_documents(messages: Sequence[Message]) -> list[Message]:
    """Put each documents block into the user message beside it, on the side where it stands.

    A block belongs to the user message after it, else to the one before it; with neither it becomes
    a user message of its own.
    """
    folded: list[Message] = []
    pending = ""
    for number, message in enumerate(messages):
        if message.role == "documents":
            follower = next((m.role for m in messages[number + 1 :] if m.role != "documents"), None)
            if follower != "user" and folded and folded[-1].role == "user" and not pending:
                text = f"{folded[-1].content}\n\n{message.content}"
                folded[-1] = replace(folded[-1], content=text)
            elif follower == "user":
                pending += f"{message.content}\n\n"
            else:
                folded.append(Message("user", message.content))
        elif message.role == "user":
            folded.append(replace(message, content=pending + message.content))
            pending = ""
        else:
            folded.append(message)
    return folded


def join_neighbours(messages: Sequence[Message]) -> list[Message]:
    """Return the conversation with what one role says several times in a row as one message.

    Some templates want user and assistant in turns. A question whose answer was cancelled before
    its first word stands before the next question.
    """
    told: list[Message] = []
    for message in messages:
        if told and told[-1].role == message.role:
            before = told[-1]
            text = f"{before.content}\n\n{message.content}"
            told[-1] = replace(before, content=text, images=before.images + message.images)
        else:
            told.append(message)
    return told
