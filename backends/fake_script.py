"""The words of a scripted answer: of its text and of its calls of tools, and what is left of it."""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from .base import (
    Chunk,
    GenerationParams,
    Message,
    TokenLogprob,
    TokenPrompt,
    ToolCallDelta,
    template_options,
)
from .errors import PromptRejected


def called(text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
    """Split a scripted answer into its text and the pieces of its calls, in Hermes' marks."""
    said, *calls = re.split(r"\s*<tool_call>", text)
    pieces: list[ToolCallDelta] = []
    for index, call in enumerate(calls):
        told = json.loads(call.partition("</tool_call>")[0])
        pieces.append(ToolCallDelta(index, f"call_{index}", told["name"]))
        words = re.findall(r"\s*\S+", json.dumps(told["arguments"]))
        pieces += [ToolCallDelta(index, arguments=word) for word in words]
    return said, tuple(pieces)


def echoed(prompt: TokenPrompt, params: GenerationParams) -> Chunk:
    """Return a plain prompt as the beginning of its answer."""
    words = re.findall(r"\s*\S+", prompt.text or "")
    told = tuple(
        TokenLogprob(word, token_id, 0.0 if place else float("nan"))
        for place, (word, token_id) in enumerate(zip(words, prompt.token_ids, strict=True))
    )
    return Chunk(prompt.text or "", (), None if params.logprobs is None else told)


def goes_on(messages: Sequence[Message], options: Mapping[str, object]) -> bool:
    """Whether the answer is to continue the last message."""
    if options.get("continue_final_message"):
        return True
    return messages[-1].role == "assistant" and not options.get("add_generation_prompt")


def left_of(pieces: list[str], prompt: TokenPrompt) -> list[str]:
    """Drop what a prompt that was extended with generated tokens holds of the answer already.

    That is as much of the answer's beginning as the prompt ends with, found as by Knuth, Morris and
    Pratt, so that it is linear.
    """
    ids = tuple(token_id_of(piece.strip()) for piece in pieces)
    borders = [0] * len(ids)  # of each beginning: how much of it is its own end, too
    for place in range(1, len(ids)):
        borders[place] = _extended(borders[place - 1], ids[place], ids, borders)
    done = 0
    for token in prompt.token_ids[-len(ids) :] if ids else ():
        done = _extended(done, token, ids, borders)
    return pieces[done:]


class Words:
    """A tokenizer whose tokens are words; it knows those that it has encoded.

    Args:
        render: returns the tokens of a conversation.
    """

    def __init__(self, render: Callable[[Sequence[Message]], tuple[int, ...]]) -> None:
        self._render = render
        self._seen: dict[int, str] = {}

    def encode(
        self, prompt: str | Sequence[Message], *, add_special_tokens: bool = True
    ) -> tuple[int, ...]:
        """See ``Tokenizer.encode``."""
        texts = [prompt] if isinstance(prompt, str) else [said.content for said in prompt]
        words = [word for text in texts for word in text.split()]
        self._seen |= {token_id_of(word): word for word in words}
        return tuple(map(token_id_of, words)) if isinstance(prompt, str) else self._render(prompt)

    def decode(self, token_ids: Sequence[int]) -> str:
        """See ``Tokenizer.decode``."""
        return " ".join(self.strings(token_ids))

    def strings(self, token_ids: Sequence[int]) -> list[str]:
        """See ``Tokenizer.strings``."""
        if unknown := [token for token in token_ids if token not in self._seen]:
            raise PromptRejected("fake", f"no token {unknown[0]}", param="tokens")
        return [self._seen[token] for token in token_ids]

    def info(self) -> dict[str, object]:
        """See ``Tokenizer.info``."""
        return {"tokenizer_class": type(self).__name__, "chat_template": "words"}


@lru_cache(maxsize=4096)  # a long text has the same words again and again
def token_id_of(word: str) -> int:
    """Return the token of a word."""
    return zlib.crc32(word.encode()) & 0x7FFFFFFF


def pieces_of(text: str) -> list[str]:
    """Return the words, each with the white space before it; the last one with what follows."""
    ends = [found.end() for found in re.finditer(r"\S+", text)][:-1]
    edges = [0, *ends, len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(edges)] if text else []


def rest_of(answer: Callable[[Sequence[Message]], str], messages: Sequence[Message]) -> str:
    """Return the answer, without as many words as somebody has begun it with."""
    if messages[-1].role != "assistant" or not goes_on(messages, template_options(messages)):
        return answer(messages)
    words = pieces_of(answer(messages[:-1]))
    return "".join(words[len(messages[-1].content.split()) :])


def _extended(done: int, token: int, ids: tuple[int, ...], borders: list[int]) -> int:
    """Return how much of the beginning of ``ids`` stands at the end once ``token`` follows."""
    while done and (done == len(ids) or ids[done] != token):
        done = borders[done - 1]
    return done + (ids[done] == token)
