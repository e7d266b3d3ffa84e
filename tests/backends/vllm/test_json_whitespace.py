"""White space in the JSON of an answer: bounded where the expert wants it, as vLLM has it else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from livemind.backends.base import GenerationParams, StructuredOutput
from livemind.backends.vllm.json_whitespace import bounded
from livemind.backends.vllm.sampling import sampling_params

pytest.importorskip("vllm")

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TAG = {
    "type": "structural_tag",
    "format": {
        "type": "sequence",
        "elements": [
            {"type": "const_string", "value": "<call>"},
            {"type": "json_schema", "json_schema": {"type": "json_schema"}},
        ],
    },
}


def made(structured: StructuredOutput, most: int | None) -> Any:
    params = GenerationParams(structured=structured)
    found = sampling_params(params, {}, None, room=9, max_tokens_default=5, json_whitespace=most)
    return found.structured_outputs


def accepts(tag: str, text: str) -> bool:
    """Ask the grammar's own library."""
    xgrammar = pytest.importorskip("xgrammar")
    vocabulary = [chr(code) for code in range(32, 127)] + ["\n"]
    info = xgrammar.TokenizerInfo(vocabulary, stop_token_ids=[0])
    compiled = xgrammar.GrammarCompiler(info).compile_structural_tag(tag)
    return bool(xgrammar.GrammarMatcher(compiled).accept_string(text))


@pytest.mark.parametrize(
    "structured",
    [StructuredOutput(json=json.dumps(SCHEMA)), StructuredOutput(json_object=True)],
)
def test_bounded_json_takes_one_blank_and_not_two(structured: StructuredOutput) -> None:
    tag = made(structured, 1).structural_tag
    assert accepts(tag, '{"a": 1}')
    assert accepts(tag, '{"a":1}')
    assert not accepts(tag, '{  "a": 1}')
    assert not accepts(tag, "{\n\n")


def test_bounded_calls_of_tools_and_leaves_the_schema_itself_alone() -> None:
    told = json.loads(bounded(made_tag(), 1).structural_tag)
    schema = told["format"]["elements"][1]
    assert schema["max_whitespace_cnt"] == 1
    assert schema["json_schema"] == {"type": "json_schema"}


def made_tag() -> Any:
    return made(StructuredOutput(structural_tag=json.dumps(TAG)), None)


def test_unbounded_is_what_vllm_is_asked_without_the_setting() -> None:
    assert made(StructuredOutput(json=json.dumps(SCHEMA)), None).json is not None
    assert made(StructuredOutput(json_object=True), None).json_object
    assert json.loads(made_tag().structural_tag) == TAG


@pytest.mark.parametrize(
    "structured",
    [
        StructuredOutput(regex="[a-z]+"),
        StructuredOutput(choice=("a", "b")),
        StructuredOutput(json='{"type": "integer", "multipleOf": 3}'),
        StructuredOutput(json="{no json"),
    ],
)
def test_bounded_leaves_what_is_no_json_or_cannot_be_a_tag(structured: StructuredOutput) -> None:
    assert made(structured, 1) == made(structured, None)
