"""The options of a live session, as a client gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict


class LiveOptions(TypedDict, total=False):
    """Options of a live session, as ``session.update`` has them; None = as configured.

    Attributes:
        model: an expert id, or ``auto``.
        instructions: system message.
        speculation: how much is done before the commit.
        retrieval: the server fetches documents.
        on_cold: for an expert that is not loaded: ``wait``, or ``fallback`` to the fast one.
        documents: passages that stand before the user's text in every turn.
        consensus: the name of a policy, or its fields; docs/consensus.md.
        sampling: ``max_tokens``, ``temperature``, … in the names of the OpenAI API.
        cache_salt: sessions with different salts share no prefix cache.
        input: where the text comes from: ``kind``, ``transcripts_equal``; docs/live-input.md.
        consistency: whose documents the answer gets; docs/retrieval.md.
        messages: the conversation so far, as in chat completions; docs/conversations.md.
        interrupt: what stops a running answer: a ``commit``, or new ``input`` already.
        segment: ``sentence`` = answers leave in sentences too.
        tools, tool_choice, parallel_tool_calls: functions that the expert may call, in the form of
            chat completions.
    """

    model: str | None
    instructions: str | None
    speculation: Literal["off", "prefill", "draft"] | None
    retrieval: bool | None
    on_cold: str | None
    documents: Sequence[str] | None
    consensus: str | Mapping[str, object] | None
    sampling: Mapping[str, object] | None
    cache_salt: str | None
    input: Mapping[str, str] | None
    consistency: Literal["final", "early"] | None
    messages: Sequence[Mapping[str, object]] | None
    interrupt: Literal["commit", "input"] | None
    segment: Literal["sentence"] | None
    tools: Sequence[Mapping[str, object]] | None
    tool_choice: str | Mapping[str, object] | None
    parallel_tool_calls: bool | None
