"""What an answer says, read by vLLM's own parsers: thoughts, text, calls of tools.

Owns the choice of the parsers for one model and the state of reading one answer. What a request
asks of its tools becomes a grammar here, as vLLM's server makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from ..answer_parsers import NONE, tool_parser
from ..base import FinishReason, GenerationParams, TokenPrompt, ToolCallDelta, template_options
from ..errors import ExpertUnavailable, PromptRejected
from ..spec import ExpertSpec
from .chat_template import template_arguments


class Read(Struct, frozen=True):
    """What a piece of an answer adds."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


class AnswerParsers:
    """The parsers of one expert.

    Args:
        spec: ``tool_parser`` and ``reasoning_parser``: vLLM's names, ``none``, or None = told from
            the chat template.
        tokenizer: with a chat template.
        model_config: vLLM's.

    Attributes:
        tools: name of the parser of tool calls, None without one.
        reasoning: name of the parser of thoughts, None without one.

    Raises:
        ExpertUnavailable: a parser that the settings name is not known to this vLLM, or does not
            fit the model.
    """

    def __init__(self, spec: ExpertSpec, tokenizer: Any, model_config: Any) -> None:
        template = str(getattr(tokenizer, "chat_template", None) or "")
        self.tools = _named(spec.tool_parser, tool_parser(template))
        self.reasoning = _named(spec.reasoning_parser, None)
        self._expert_id = spec.expert_id
        self._tokenizer = tokenizer
        self._model_config = model_config
        self._kind = self._parser_class(spec)

    def _parser_class(self, spec: ExpertSpec) -> Any:
        from vllm.parser.parser_manager import ParserManager

        try:
            return ParserManager.get_parser(
                tool_parser_name=self.tools,
                reasoning_parser_name=self.reasoning,
                enable_auto_tools=True,
                model_name=self._model_config.model,
                is_harmony=self._model_config.hf_config.model_type == "gpt_oss",
                tool_strict_level=spec.tool_strict_level,
                tokenizer=self._tokenizer,
            )
        except Exception as error:
            if spec.tool_parser is None and self.tools is not None:  # guessed: do without
                self.tools = None
                return self._parser_class(spec)
            cause = " ".join(str(error).split())[:200]
            raise ExpertUnavailable(
                spec.expert_id, f"tool_parser, reasoning_parser: {cause}"
            ) from error

    def reads(self, options: Mapping[str, Any]) -> bool:
        """Whether answers to a prompt with these template options are read."""
        return self.reasoning is not None or bool(options.get("tools"))

    def reader(self, prompt: TokenPrompt, params: GenerationParams) -> AnswerReader | None:
        """Return who reads one answer; None where its text is all that it says.

        Raises:
            PromptRejected: tools, but no parser for them; a choice of tools that cannot be obeyed.
        """
        options = template_options(prompt.messages)
        if not prompt.messages or not self.reads(options):
            return None
        tools, choice = options.get("tools"), params.tool_choice
        if tools and self.tools is None and choice != "none":
            message = (
                "the chat template's tool calls cannot be read: "
                "set tool_parser of this expert to one of vLLM's parsers"
            )
            raise PromptRejected(
                self._expert_id, message, param="tools", code="unsupported_parameter"
            )
        if self._kind is None:
            return None
        request = _request(prompt, params, tools)
        kwargs = template_arguments(options)
        parser = self._kind(
            self._tokenizer,
            request.tools,
            chat_template_kwargs=kwargs,
            model_config=self._model_config,
        )
        return AnswerReader(parser, request, kwargs, prompt)


class AnswerReader:
    """Reads one answer as it comes.

    Attributes:
        structured: vLLM's ``StructuredOutputsParams`` that the answer has to obey; None = none.
        skip_special_tokens: whether the text must come without them.
        engine_arguments: of ``AsyncLLM.generate``, for a grammar that begins behind the thoughts.
    """

    def __init__(
        self, parser: Any, request: Any, kwargs: dict[str, Any], prompt: TokenPrompt
    ) -> None:
        self._parser = parser
        self._request = parser.adjust_request(request) if _adjusts(parser, request) else request
        self._prompt_ids = list(prompt.token_ids)
        self._named = not isinstance(request.tool_choice, str) and request.tool_choice is not None
        self._called = False
        self._without_arguments: dict[int, None] = {}
        self._marks = _thinking_marks(parser)
        self.structured = self._request.extract_structured_outputs()
        self.skip_special_tokens: bool = self._request.skip_special_tokens
        self.engine_arguments: dict[str, Any] = {}
        if parser.reasoning_parser is not None:
            self.engine_arguments = {
                "reasoning_ended": self._request.resolve_reasoning_ended(parser, self._prompt_ids),
                "reasoning_parser_kwargs": {"chat_template_kwargs": kwargs},
            }

    def read(
        self, text: str, token_ids: Sequence[int], *, finished: bool, cut: bool = False
    ) -> Read:
        """Return what a piece of the answer adds; thoughts and calls may be held back for later.

        Args:
            text: of the piece.
            token_ids: of the piece.
            finished: it is the last one.
            cut: because of a limit.
        """
        *pieces, (last_text, last_ids) = _pieces(text, list(token_ids), self._marks)
        found = [self._read(*piece) for piece in pieces]
        found.append(self._read(last_text, last_ids, finished=finished, cut=cut))
        return Read(
            "".join(one.text for one in found),
            "".join(one.reasoning for one in found),
            tuple(call for one in found for call in one.tool_calls),
        )

    def _read(
        self, text: str, token_ids: list[int], *, finished: bool = False, cut: bool = False
    ) -> Read:
        delta = self._parser.parse_delta(
            delta_text=text,
            delta_token_ids=token_ids,
            request=self._request,
            prompt_token_ids=self._prompt_ids,
            finished=finished,
        )
        single = self._request.parallel_tool_calls is False
        found = () if delta is None else delta.tool_calls or ()
        calls = [_piece(call) for call in found if not (single and call.index > 0)]
        self._called = self._called or bool(calls)
        for call in calls:
            if call.arguments:
                self._without_arguments.pop(call.index, None)
            elif call.name:
                self._without_arguments[call.index] = None
        if finished and not cut:  # some of vLLM's parsers never stream an empty object
            calls += [ToolCallDelta(index, arguments="{}") for index in self._without_arguments]
        if delta is None:
            return Read(tool_calls=tuple(calls))
        return Read(delta.content or "", delta.reasoning or "", tuple(calls))

    def finish_reason(self, reason: FinishReason) -> FinishReason:
        """Return why the answer ended, as vLLM's server says it."""
        return "tool_calls" if reason == "stop" and self._called and not self._named else reason


def _adjusts(parser: Any, request: Any) -> bool:
    """Whether vLLM's server lets a parser change a request; without a call to read it may not.

    Otherwise Mistral's parser would have marks written into plain text.
    """
    grammar = getattr(parser.model_tokenizer, "supports_grammar", False)
    thinks = parser.reasoning_parser is not None
    return bool(parser.always_adjust_request or thinks or request.tool_choice != "none" or grammar)


def _thinking_marks(parser: Any) -> dict[int, str]:
    """Return the tokens that begin and end thoughts, as they are written, by id."""
    reasoning = parser.reasoning_parser
    if reasoning is None:
        return {}
    vocabulary = reasoning.vocab
    marks = (reasoning.reasoning_start_str, reasoning.reasoning_end_str)
    return {vocabulary[mark]: mark for mark in marks if mark in vocabulary}


def _pieces(
    text: str, token_ids: list[int], marks: Mapping[int, str]
) -> list[tuple[str, list[int]]]:
    """Return a piece of an answer cut so that marks of thoughts stand alone, as one by one.

    A verified draft adds many tokens at once; several marks in one piece are read otherwise by some
    of vLLM's parsers (0.32) than one after the other. Whole where a mark is not in the text as
    often as among the tokens.
    """
    found = [token for token in token_ids if token in marks]
    if not found or len(token_ids) == 1:
        return [(text, token_ids)]
    if any(text.count(marks[token]) != found.count(token) for token in set(found)):
        return [(text, token_ids)]
    pieces: list[tuple[str, list[int]]] = []
    began = 0
    for at, token in enumerate(token_ids):
        if token not in marks:
            continue
        before, _, text = text.partition(marks[token])
        if at > began:
            pieces.append((before, token_ids[began:at]))
        pieces.append((marks[token], [token]))
        began = at + 1
    return [*pieces, (text, token_ids[began:])] if began < len(token_ids) else pieces


def _named(setting: str | None, guessed: str | None) -> str | None:
    if setting is None:
        return guessed
    return None if setting == NONE else setting


def _piece(call: Any) -> ToolCallDelta:
    function = call.function
    if isinstance(function, dict):
        name, arguments = function.get("name"), function.get("arguments")
    else:
        name = getattr(function, "name", None)
        arguments = getattr(function, "arguments", None)
    return ToolCallDelta(call.index, call.id, name, arguments or "")


def _request(prompt: TokenPrompt, params: GenerationParams, tools: Any) -> Any:
    """Return the request as vLLM's parsers want to see it."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    said: list[dict[str, Any]] = [{"role": "user", "content": ""}]
    said += [  # ids of calls may count those before
        {
            "role": "assistant",
            "content": message.content,
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.details.tool_calls
            ],
        }
        for message in prompt.messages
        if message.details.tool_calls
    ]
    fields: dict[str, Any] = {"messages": said, "include_reasoning": True}
    if tools:
        choice: Any = params.tool_choice or "auto"
        if choice == "named":
            choice = {"type": "function", "function": {"name": params.tool_name}}
        fields |= {"tools": list(tools), "tool_choice": choice}
    if params.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = params.parallel_tool_calls
    if params.skip_special_tokens is not None:
        fields["skip_special_tokens"] = params.skip_special_tokens
    if params.structured is not None:
        fields["structured_outputs"] = structured_outputs(params)
    return ChatCompletionRequest(**fields)


def structured_outputs(params: GenerationParams) -> Any:
    """Return vLLM's ``StructuredOutputsParams`` for what the answer has to look like, or None."""
    from vllm.sampling_params import StructuredOutputsParams

    wanted = params.structured
    if wanted is None:
        return None
    return StructuredOutputsParams(
        json=wanted.json,
        json_object=wanted.json_object or None,
        regex=wanted.regex,
        choice=list(wanted.choice) or None,
        grammar=wanted.grammar,
        structural_tag=wanted.structural_tag,
    )
