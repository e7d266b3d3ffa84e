"""From messages to token ids: a model's own chat template and tokenizer, fast enough for every key.

Owns the folding of the documents role and the cache of tokenized pieces; where an open turn is cut
is said by ``open_turn/``. Works with any Hugging Face tokenizer; knows nothing of engines.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from ..base import Message, TokenPrompt, template_options
from ..errors import PromptRejected, takes_no_images
from ..folding import fold_documents
from ..open_turn.added import AddedToken, AddedTokens
from ..open_turn.tokens import OpenTokens
from .chat_template import ChatTemplate

_SENTINEL = "\ue000\ue001\ue000"
_PROBE = "\ue002"
_CACHED_PIECES = 256
_DOCUMENTS_ROLE = re.compile(r"""==\s*['"]documents['"]""")


class Renderer:
    """Renders for one tokenizer.

    Special tokens split a text into pieces that tokenize independently of each other, so the pieces
    of an unchanged head come from a cache; where a tokenizer breaks that rule the cache stays off.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        expert_id: for error messages.
        max_model_len: context limit in tokens.
        image_mark: what stands in a text for an image; None = the model takes none.

    Attributes:
        why_no_cut: why of an open turn's text no token is certain; None = some are.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        expert_id: str,
        max_model_len: int,
        image_mark: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._image_mark = image_mark
        self._expert_id = expert_id
        self._max_model_len = max_model_len
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._open = OpenTokens(self._backend) if self._backend is not None else None
        self.why_no_cut = (
            "its tokenizer cannot be looked into" if self._open is None else self._open.why_not
        )
        self._encode_piece = functools.lru_cache(_CACHED_PIECES)(self._encode_array)
        self._knows_documents = self._probe_documents()
        self._knows_parts = image_mark is not None and self._probe_parts()
        self._template = ChatTemplate(tokenizer, expert_id, self._content)
        self._marks = AddedTokens([AddedToken(text) for text in self._mark_texts()])
        self._starts_piece: re.Pattern[str] | None = self._piece_starts()
        if not self._pieces_are_independent():
            self._starts_piece = None

    @functools.cached_property
    def tokenizer_id(self) -> str:
        """Equal for two tokenizers exactly if they tokenize alike."""
        if self._backend is None:
            description = json.dumps(self._tokenizer.get_vocab(), sort_keys=True)
        else:
            description = self._backend.to_str()
            # Truncation and padding stand before it.
            description = description[description.index('"added_tokens"') :]
        return sha256(description.encode()).hexdigest()[:16]

    def render(self, messages: Sequence[Message], *, open_turn: bool) -> TokenPrompt:
        """Render a conversation; see ``Expert.render``."""
        text = self._text(messages, open_turn)
        ids = self._certain(text) if open_turn else self._encode(text)
        return self._checked(
            TokenPrompt(
                ids,
                len(ids),
                tuple(messages),
                open_turn=open_turn,
                images=tuple(image for message in messages for image in message.images),
            )
        )

    def tokenize(self, text: str | Sequence[int]) -> TokenPrompt:
        """Tokenize a plain prompt, with the special tokens the tokenizer adds by itself."""
        if not isinstance(text, str):
            return self._checked(TokenPrompt((*self._known(text, "prompt"),), len(text), text=""))
        ids = self.encode(text)
        if not ids:
            raise PromptRejected(self._expert_id, "the prompt is empty", param="prompt")
        return self._checked(TokenPrompt(ids, len(ids), text=text))

    def encode(
        self, prompt: str | Sequence[Message], *, add_special_tokens: bool = True
    ) -> tuple[int, ...]:
        """See ``Tokenizer.encode``."""
        if not isinstance(prompt, str):
            return self._encode(self._text(prompt, open_turn=False))
        shown = self._without_marks(prompt)
        return tuple(self._tokenizer(shown, add_special_tokens=add_special_tokens)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """See ``Tokenizer.decode``."""
        return str(self._tokenizer.decode(self._known(token_ids, "tokens")))

    def strings(self, token_ids: Sequence[int]) -> list[str]:
        """See ``Tokenizer.strings``."""
        found = self._tokenizer.convert_ids_to_tokens(self._known(token_ids, "tokens"))
        return [str(token) for token in found]

    def info(self) -> dict[str, object]:
        """See ``Tokenizer.info``."""
        given = dict(getattr(self._tokenizer, "init_kwargs", None) or {})
        left_out = {
            "vocab_file",
            "merges_file",
            "tokenizer_file",
            "name_or_path",
            "tokenizer_object",
        }
        told = {name: _as_json(value) for name, value in given.items() if name not in left_out}
        told["tokenizer_class"] = type(self._tokenizer).__name__
        if (template := getattr(self._tokenizer, "chat_template", None)) is not None:
            told["chat_template"] = _as_json(template)
        return told

    def _known(self, token_ids: Sequence[int], param: str) -> list[int]:
        known = len(self._tokenizer)
        if unknown := [token for token in token_ids if not 0 <= token < known]:
            message = f"token {unknown[0]}: the model has {known} tokens"
            raise PromptRejected(self._expert_id, message, param=param)
        return list(token_ids)

    def continuation(self, text: str) -> list[int]:
        """Tokenize what an answer is expected to say, without special tokens around it."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _checked(self, prompt: TokenPrompt) -> TokenPrompt:
        if prompt.num_tokens + 1 > self._max_model_len:
            raise PromptRejected(
                self._expert_id,
                f"the prompt has {prompt.num_tokens} tokens; with one token of answer that is more "
                f"than the context limit of {self._max_model_len} tokens",
                param="prompt" if prompt.text is not None else "messages",
                code="context_length_exceeded",
            )
        return prompt

    def _text(self, messages: Sequence[Message], open_turn: bool) -> str:
        if not messages:
            raise PromptRejected(self._expert_id, "messages is empty", param="messages")
        if open_turn and messages[-1].role != "user":
            raise PromptRejected(
                self._expert_id, "the open turn is not the user's", param="messages"
            )
        options = dict(template_options(messages))
        given = [message for message in messages if message.role != "template"]
        folded = given if self._knows_documents else fold_documents(given)
        is_open = open_turn or _goes_on(folded, options)
        options.pop("continue_final_message", None)
        closed = options.pop("add_generation_prompt", True) and not is_open
        if is_open:
            folded[-1] = replace(folded[-1], content=folded[-1].content + _SENTINEL)
        text = self._template.text(folded, options, closed=closed)
        return text.partition(_SENTINEL)[0] if is_open else text

    def _content(self, message: Message) -> str | list[dict[str, str]]:
        """Return a message's content as the template wants it, its images before its text."""
        mark = self._image_mark
        if mark is None:
            if message.images:
                raise takes_no_images(self._expert_id)
            return message.content
        content = self._without_marks(message.content)
        if self._knows_parts:
            parts = [{"type": "image"} for _ in message.images]
            return [*parts, {"type": "text", "text": content}]
        return "".join(f"{mark}\n" for _ in message.images) + content

    def _without_marks(self, text: str) -> str:
        """Return what somebody wrote with a blank in each mark: ``< image>`` is no image's place.

        vLLM looks for marks in the tokens and, for some models, in the text of the tokens.
        """
        parts = self._marks.split(text)
        return "".join(part if of is None else f"{part[0]} {part[1:]}" for part, of in parts)

    def _certain(self, text: str) -> tuple[int, ...]:
        """Return the tokens that a text begins with whatever follows it."""
        text = self._marks.certain(text)
        if self._open is not None:
            text = self._open.known(text)
        start = max((found.start() for found in self._find_starts(text)), default=0)
        piece = self._encode_piece(text[start:])
        kept = 0
        if self._open is not None:
            kept = self._open.stable(text[start:], piece)
        begins = self._starts_piece is not None and self._starts_piece.match(text, start)
        return (*self._encode(text[:start]), *piece[: max(kept, 1 if begins else 0)])

    def _encode(self, text: str) -> tuple[int, ...]:
        starts = [found.start() for found in self._find_starts(text)]
        edges = [0, *starts, len(text)] if not starts or starts[0] else [*starts, len(text)]
        ids = array("I")
        for begin, end in itertools.pairwise(edges):
            ids += self._encode_piece(text[begin:end])
        return tuple(ids)

    def _encode_array(self, text: str) -> array[int]:
        return array("I", self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _find_starts(self, text: str) -> Iterator[re.Match[str]]:
        return self._starts_piece.finditer(text) if self._starts_piece is not None else iter(())

    def _piece_starts(self) -> re.Pattern[str] | None:
        """Match the special tokens that take nothing from the text on their left."""
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
        tokens = [t.content for t in added if t.special and not (t.lstrip or t.single_word)]
        tokens.sort(key=len, reverse=True)
        return re.compile("|".join(map(re.escape, tokens))) if tokens else None

    def _mark_texts(self) -> list[str]:
        """Return the tokens that make up the mark of an image, or the mark if it is mere text."""
        mark = self._image_mark
        if mark is None:
            return []
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
        return [t.content for t in added if len(t.content) > 1 and t.content in mark] or [mark]

    def _pieces_are_independent(self) -> bool:
        if self._starts_piece is None:
            return False
        words = "One  two.\n\nThree, 4567 \n"
        for first in self._special_tokens():
            text = "".join(f"{first}{words}" for _ in range(2)) + f" {first}{first}{words}"
            if self._encode(text) != tuple(self._encode_array(text)):
                return False
        return True

    def _special_tokens(self) -> list[str]:
        return [t for t in self._tokenizer.all_special_tokens if self._is_start(t)][:8]

    def _is_start(self, token: str) -> bool:
        return self._starts_piece is not None and self._starts_piece.fullmatch(token) is not None

    def _probe_parts(self) -> bool:
        """Whether the template wants content in parts, and puts a mark where an image stands."""
        parts = [{"type": "image"}, {"type": "text", "text": _PROBE}]
        turn = {"role": "user", "content": parts}
        try:
            text: str = self._tokenizer.apply_chat_template([turn], tokenize=False)
        except Exception:  # the template joins strings
            return False
        return _PROBE in text and "'type'" not in text and str(self._image_mark) in text

    def _probe_documents(self) -> bool:
        """Whether the model was made for a documents role, by its template or a special token."""
        try:
            text: str = self._tokenizer.apply_chat_template(
                [
                    {"role": "documents", "content": _PROBE},
                    {"role": "user", "content": "x"},
                ],
                tokenize=False,
            )
        except Exception:  # the template refuses the role, however it says so
            return False
        head, found, _ = text.partition(_PROBE)
        if not found:
            return False
        template = str(getattr(self._tokenizer, "chat_template", ""))
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
        marks = [t.content for t in added if "documents" in t.content]
        return bool(_DOCUMENTS_ROLE.search(template)) or any(mark in head for mark in marks)


def _goes_on(messages: Sequence[Message], options: Mapping[str, Any]) -> bool:
    """Whether the model is to continue the last message."""
    if options.get("continue_final_message"):
        return True
    return messages[-1].role == "assistant" and not options.get("add_generation_prompt")


def _as_json(value: object) -> object:
    """Return a tokenizer's setting as JSON has it; a special token by its text."""
    if isinstance(value, dict):
        return {str(name): _as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(getattr(value, "content", value))
