"""Answers read by vLLM's parsers: which parser, what a request becomes, pieces of any size."""

from __future__ import annotations

import json
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest

from livemind.backends.answer_parsers import tool_parser
from livemind.backends.base import (
    GenerationParams,
    Message,
    StructuredOutput,
    TokenPrompt,
    ToolCall,
)
from livemind.backends.errors import ExpertUnavailable, PromptRejected
from livemind.backends.messages import joined_calls
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.answer_reader import AnswerParsers
from livemind.backends.vllm.sampling import check_room, sampling_params, token_logprobs

pytest.importorskip("vllm")

MODEL = SimpleNamespace(model="m", hf_config=SimpleNamespace(model_type="llama"))
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}},
]
CALLS = (
    'Let me see.<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)
TEMPLATE_MARKS = {
    "hermes": "{{ tools }}<tool_call>",
    "mistral": "{{ tools }}[TOOL_CALLS]",
    "llama3_json": "{{ tools }}<|start_header_id|>ipython",
    "qwen3_coder": "{{ tools }}<tool_call><function=",
    "glm45": "{{ tools }}<tool_call><arg_key>",
    "deepseek_v3": "{{ tools }}tool▁calls▁begin",
    "kimi_k2": "{{ tools }}<|tool_calls_section_begin|>",
}


def parsers(hf_tokenizer: Any, **settings: Any) -> AnswerParsers:
    spec = ExpertSpec("e", **settings)
    return AnswerParsers(spec, hf_tokenizer("gpt2_like"), MODEL)


def prompt(**options: Any) -> TokenPrompt:
    told = (Message("template", json.dumps(options)),) if options else ()
    return TokenPrompt((1, 2), 2, (*told, Message("user", "hot?")))


def llama_reader(hf_tokenizer: Any) -> Any:
    tokenizer = deepcopy(hf_tokenizer("gpt2_like"))
    tokenizer.add_tokens(["<|python_tag|>"])
    made = AnswerParsers(ExpertSpec("e", tool_parser="llama3_json"), tokenizer, MODEL)
    return made.reader(prompt(tools=TOOLS), GenerationParams())


def read(reader: Any, text: str, size: int) -> tuple[str, str, tuple[ToolCall, ...]]:
    """Read a text in pieces; return text, thoughts and calls."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    found = [
        reader.read(piece, [7], finished=number == len(pieces))
        for number, piece in enumerate(pieces, 1)
    ]
    calls = joined_calls([call for one in found for call in one.tool_calls])
    return "".join(one.text for one in found), "".join(one.reasoning for one in found), calls


@pytest.mark.parametrize("name", TEMPLATE_MARKS)
def test_tool_parser_is_told_from_the_marks_of_the_template(name: str) -> None:
    from vllm.tool_parsers import ToolParserManager

    assert tool_parser(TEMPLATE_MARKS[name]) == name
    assert name in ToolParserManager.list_registered()


def test_tool_parser_of_a_template_without_tools_reads_what_it_was_told_in_words() -> None:
    assert tool_parser("{% for m in messages %}{{ m.content }}{% endfor %}") == "hermes"
    assert tool_parser("{{ tools }} in marks that nobody knows") is None


@pytest.mark.parametrize("size", [1, 3, 17, 1000])
def test_calls_are_read_in_pieces_of_any_size(hf_tokenizer: Any, size: int) -> None:
    reader = parsers(hf_tokenizer).reader(prompt(tools=TOOLS), GenerationParams())
    text, _, calls = read(reader, CALLS, size)
    assert text == "Let me see."
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("weather", {"city": "Bern"}),
        ("clock", {}),
    ]
    assert all(call.id for call in calls)
    assert reader is not None
    assert reader.finish_reason("stop") == "tool_calls"
    assert reader.finish_reason("length") == "length"


@pytest.mark.parametrize("size", [1, 3, 17])
def test_call_without_arguments_has_an_empty_object_where_the_parser_tells_nothing(
    hf_tokenizer: Any, size: int
) -> None:
    _, _, calls = read(llama_reader(hf_tokenizer), '{"name": "clock", "parameters": {}}', size)
    assert [(call.name, call.arguments) for call in calls] == [("clock", "{}")]


@pytest.mark.parametrize("size", [1, 4, 16])
def test_call_is_read_however_many_tokens_a_verified_draft_adds_at_once(
    hf_tokenizer: Any, size: int
) -> None:
    told = '{"name": "weather", "parameters": {"city": "Bern"}}'
    reader, tokenizer = llama_reader(hf_tokenizer), hf_tokenizer("gpt2_like")
    ids = tokenizer.encode(told, add_special_tokens=False)
    steps = [ids[at : at + size] for at in range(0, len(ids), size)]
    found = [
        reader.read(tokenizer.decode(step), step, finished=number == len(steps))
        for number, step in enumerate(steps, 1)
    ]
    calls = joined_calls([call for one in found for call in one.tool_calls])
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("weather", {"city": "Bern"})
    ]


def test_call_that_the_limit_cuts_before_its_arguments_has_none(hf_tokenizer: Any) -> None:
    reader = llama_reader(hf_tokenizer)
    calls = [
        call
        for piece in ('{"name": "clock", ', '"parameters": ')
        for call in reader.read(piece, [7], finished=False).tool_calls
    ]
    calls += reader.read("{", [7], finished=True, cut=True).tool_calls
    assert [(call.name, call.arguments) for call in joined_calls(calls)] == [("clock", "")]


def test_calls_beyond_the_first_are_left_out_where_one_is_wanted(hf_tokenizer: Any) -> None:
    params = GenerationParams(tool_choice="auto", parallel_tool_calls=False)
    reader = parsers(hf_tokenizer).reader(prompt(tools=TOOLS), params)
    assert [call.name for call in read(reader, CALLS, 5)[2]] == ["weather"]


def test_text_without_calls_stays_as_it_is(hf_tokenizer: Any) -> None:
    reader = parsers(hf_tokenizer).reader(prompt(tools=TOOLS), GenerationParams())
    assert read(reader, "It is <hot> there.", 4) == ("It is <hot> there.", "", ())
    assert reader is not None
    assert reader.finish_reason("stop") == "stop"


def test_answers_to_prompts_without_tools_are_not_read(hf_tokenizer: Any) -> None:
    made = parsers(hf_tokenizer)
    assert made.reader(prompt(), GenerationParams()) is None
    assert made.reader(TokenPrompt((1,), 1, text="x"), GenerationParams()) is None
    assert not made.reads({})
    assert made.reads({"tools": TOOLS})


@pytest.mark.parametrize(
    ("choice", "name"), [("required", None), ("named", "weather"), ("named", "clock")]
)
def test_call_that_has_to_be_made_becomes_a_grammar(
    hf_tokenizer: Any, choice: Any, name: str | None
) -> None:
    params = GenerationParams(tool_choice=choice, tool_name=name)
    reader = parsers(hf_tokenizer).reader(prompt(tools=TOOLS), params)
    assert reader is not None
    assert reader.structured is not None
    assert not reader.structured.all_constraints_none()


@pytest.mark.parametrize(("choice", "special"), [("auto", False), ("none", True)])
def test_marks_of_calls_stay_out_of_answers_that_may_not_call(
    hf_tokenizer: Any, choice: Any, special: bool
) -> None:
    tokenizer = deepcopy(hf_tokenizer("gpt2_like"))
    tokenizer.add_tokens(["[TOOL_CALLS]"], special_tokens=True)
    made = AnswerParsers(ExpertSpec("e", tool_parser="mistral"), tokenizer, MODEL)
    reader = made.reader(prompt(tools=TOOLS), GenerationParams(tool_choice=choice))
    assert reader is not None
    assert reader.skip_special_tokens is special


def test_form_of_an_answer_reaches_the_engine(hf_tokenizer: Any) -> None:
    ways = (
        (StructuredOutput(json='{"type": "object"}'), "json", '{"type": "object"}'),
        (StructuredOutput(json_object=True), "json_object", True),
        (StructuredOutput(regex="a+"), "regex", "a+"),
        (StructuredOutput(choice=("a", "b")), "choice", ["a", "b"]),
        (StructuredOutput(grammar="root ::= x"), "grammar", "root ::= x"),
    )
    for wanted, field, value in ways:
        made = sampling_params(
            GenerationParams(structured=wanted), {}, None, room=10, max_tokens_default=5
        )
        assert getattr(made.structured_outputs, field) == value


def test_parameters_reach_the_engine_by_their_names() -> None:
    params = GenerationParams(
        max_tokens=50, min_tokens=2, stop_token_ids=(5, 6), skip_special_tokens=False, clamp=True
    )
    made = sampling_params(params, {}, None, room=10, max_tokens_default=5)
    assert (made.max_tokens, made.min_tokens) == (10, 2)
    assert set(made.stop_token_ids or ()) >= {5, 6}
    assert made.skip_special_tokens is False
    scored = GenerationParams(max_tokens=0, echo=True, logprobs=1)
    made = sampling_params(scored, {}, None, room=10, max_tokens_default=5)
    assert (made.max_tokens, made.prompt_logprobs) == (1, 1)


def test_limit_beyond_the_context_is_refused_by_the_clients_name_unless_clamped() -> None:
    params = GenerationParams(max_tokens=50, max_tokens_name="max_output_tokens")
    with pytest.raises(PromptRejected, match="max_output_tokens=50") as refused:
        check_room("e", params, 60, 100)
    assert refused.value.param == "max_output_tokens"
    check_room("e", params, 50, 100)
    check_room("e", GenerationParams(max_tokens=50, clamp=True), 60, 100)
    check_room("e", GenerationParams(max_tokens=0, echo=True), 60, 100)
    with pytest.raises(PromptRejected, match="max_tokens=0"):
        check_room("e", GenerationParams(max_tokens=0), 60, 100)


def test_first_token_of_a_prompt_has_no_probability() -> None:
    entry = SimpleNamespace(rank=1, decoded_token=" b", logprob=-0.5)
    first, second = token_logprobs([1, 2], [None, {2: entry}], 1) or ()
    assert str(first.logprob) == "nan"
    assert (second.logprob, second.top) == (-0.5, ((" b", 2, -0.5),))


def test_tools_whose_calls_cannot_be_read_are_refused_by_name(hf_tokenizer: Any) -> None:
    made = parsers(hf_tokenizer, tool_parser="none")
    with pytest.raises(PromptRejected) as refused:
        made.reader(prompt(tools=TOOLS), GenerationParams(tool_choice="auto"))
    assert refused.value.param == "tools"
    assert made.reader(prompt(tools=TOOLS), GenerationParams(tool_choice="none")) is None


def test_parser_that_this_vllm_does_not_know_stops_the_start(hf_tokenizer: Any) -> None:
    with pytest.raises(ExpertUnavailable, match="tool_parser"):
        parsers(hf_tokenizer, tool_parser="nobody")
    with pytest.raises(ExpertUnavailable, match="reasoning_parser"):
        parsers(hf_tokenizer, reasoning_parser="nobody")


def thinking_reader(hf_tokenizer: Any, parser: str, options: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = deepcopy(hf_tokenizer("gpt2_like"))
    tokenizer.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"])
    spec = ExpertSpec("e", tool_parser="hermes", reasoning_parser=parser)
    made = AnswerParsers(spec, tokenizer, MODEL)
    return made.reader(prompt(**options), GenerationParams(tool_choice="auto")), tokenizer


def read_tokens(
    hf_tokenizer: Any, parser: str, options: dict[str, Any], told: str, sizes: list[int]
) -> tuple[str, str, list[tuple[str, Any]]]:
    """Read an answer in steps of these sizes, again and again; return thoughts, text and calls."""
    reader, tokenizer = thinking_reader(hf_tokenizer, parser, options)
    ids = tokenizer.encode(told, add_special_tokens=False)
    found, at, step = [], 0, 0
    while at < len(ids):
        size = sizes[step % len(sizes)]
        piece = ids[at : at + size]
        at, step = at + size, step + 1
        found.append(reader.read(tokenizer.decode(piece), piece, finished=at >= len(ids)))
    calls = joined_calls([call for one in found for call in one.tool_calls])
    thoughts = "".join(one.reasoning for one in found)
    return thoughts, "".join(one.text for one in found), [(c.name, c.arguments) for c in calls]


@pytest.mark.parametrize("sizes", [[2], [3, 1], [5], [40]])
@pytest.mark.parametrize("options", [{"enable_thinking": True}, {"tools": TOOLS}])
@pytest.mark.parametrize(
    "told",
    [
        "It is late.</think>At nine.",
        "Late.</think>At</think> nine.",
        "Late.</think></think>At nine.",
        "<think>Late.</think>At nine.<think>Or</think> ten.",
        "a <think>b</think> c",
        "</think>At nine.",
        "All of it is thought",
        'Ask.</think>Wait.<tool_call>\n{"name": "clock", "arguments": {"of": "day"}}\n</tool_call>',
    ],
)
@pytest.mark.parametrize("parser", ["deepseek_r1", "qwen3"])
def test_thoughts_are_read_alike_however_many_tokens_come_at_once(
    hf_tokenizer: Any, parser: str, told: str, options: dict[str, Any], sizes: list[int]
) -> None:
    one_by_one = read_tokens(hf_tokenizer, parser, options, told, [1])
    assert read_tokens(hf_tokenizer, parser, options, told, sizes) == one_by_one
