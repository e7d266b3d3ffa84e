"""Greedy answers are those of ``vllm serve`` with the same parsers, template and weights.

Left out of ``make test``; ``make test-same-as-vllm`` runs it: 100 conversations with tools, 50 with
thoughts, each asked whole, streamed, typed live and after a draft, and 200 answers in a form, each
with right and wrong drafts.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from .asking import Asking, heard, in_every_way, livemind, vllm_serve, with_drafts
from .conversations import Json, body, form, thinking, wrong
from .tool_styles import STYLES, write_style, write_thinking

pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
pytestmark = [pytest.mark.slow, pytest.mark.same_as_vllm, pytest.mark.timeout(1800)]

CASES, FORMS = int(os.environ.get("LIVEMIND_SAME", "25")), 200
TOOL_FLAGS = ("--enable-auto-tool-choice", "--tool-call-parser")


async def _expected(theirs: Asking, asked: list[Json]) -> list[Json]:
    """Return what vLLM's server says.

    Its whole answers have the arguments of calls written anew, and calls that the limit cuts as
    text: what it streams counts there. So does the text that it streams beside calls (its parser
    qwen3_coder lets the mark of a call through), and that it streams no call where the model wrote
    Mistral's mark letter by letter.
    """
    expected = []
    for one in asked:
        whole, streamed = heard(await theirs.whole(one)), heard(await theirs.streamed(one))
        streams = whole["ended"] == "length" or not streamed["calls"]
        expected.append(streamed if streams else {**whole, "text": streamed["text"]})
    return expected


def _same(one: Json, other: Json) -> bool:
    """Whether two answers say the same, with the arguments of calls as values.

    How much of a call that the limit cuts is told depends on how many tokens came at once: vLLM's
    parser llama3_json goes one step for each piece.
    """
    names = [[name for name, _ in answer["calls"]] for answer in (one, other)]
    if {**one, "calls": names[0]} != {**other, "calls": names[1]}:
        return False
    told = [(a, b) for (_, a), (_, b) in zip(one["calls"], other["calls"], strict=True)]
    if one["ended"] == "length":
        return all(a.startswith(b) or b.startswith(a) for a, b in told)
    return all(a == b or _value(a) == _value(b) for a, b in told)


def _value(arguments: str) -> Any:
    """Return what a call's arguments say; as they are where the parser made no JSON of them."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


async def _check(ours: Asking, asked: list[Json], expected: list[Json]) -> None:
    """Compare every way of asking with what vLLM's server said."""
    adopted, different = 0, list[str]()
    called = sum(bool(wanted["calls"]) for wanted in expected)
    for number, (one, wanted) in enumerate(zip(asked, expected, strict=True)):
        found, tokens = await in_every_way(ours, one)
        adopted += tokens
        different += [
            f"{number}, {way}: {heard} instead of {wanted}, asked {one}"
            for way, heard in found.items()
            if not _same(heard, wanted)
        ]
    print(f"{len(asked)} conversations, {called} with calls, {adopted} drafted tokens adopted")
    assert not different, "\n".join(different)
    assert adopted > 0


@pytest.mark.parametrize("style", STYLES)
async def test_answers_with_tools_equal_those_of_vllm_serve(tmp_path: Path, style: str) -> None:
    parser = write_style(tmp_path / "model", style)
    asked = [body(style, number) for number in range(CASES)]
    async with vllm_serve(tmp_path / "model", tmp_path / "vllm.log", *TOOL_FLAGS, parser) as theirs:
        expected = await _expected(theirs, asked)
    # vLLM 0.32 reads Mistral's calls where the model writes them, not where a grammar does.
    assert sum(bool(one["calls"]) for one in expected) >= CASES // (8 if style == "mistral" else 3)
    async with livemind(tmp_path / "model") as ours:
        await _check(ours, asked, expected)


@pytest.mark.parametrize("parser", ["qwen3", "deepseek_r1"])
async def test_thoughts_equal_those_of_vllm_serve(tmp_path: Path, parser: str) -> None:
    tools = write_thinking(tmp_path / "model")
    asked = [thinking(number) for number in range(CASES)]
    flags = (*TOOL_FLAGS, tools, "--reasoning-parser", parser)
    async with vllm_serve(tmp_path / "model", tmp_path / "vllm.log", *flags) as theirs:
        expected = await _expected(theirs, asked)
    assert sum(bool(one["thoughts"] and one["text"]) for one in expected) >= CASES // 3
    assert any(one["thoughts"] and one["calls"] for one in expected)
    async with livemind(tmp_path / "model", reasoning_parser=parser) as ours:
        await _check(ours, asked, expected)


@pytest.mark.parametrize("whitespace", [None, 1])
async def test_answers_in_a_form_are_valid_and_the_same_with_drafts(
    tmp_path: Path, whitespace: int | None
) -> None:
    write_style(tmp_path / "model", "hermes")
    told: dict[str, Any] = {} if whitespace is None else {"json_whitespace": whitespace}
    asked = [form(number) for number in range(FORMS)]
    expected: list[Json] | None = None
    if whitespace is None:
        async with vllm_serve(tmp_path / "model", tmp_path / "vllm.log") as theirs:
            expected = await _expected(theirs, [one for one, _ in asked])
    valid, different = 0, list[str]()
    async with livemind(tmp_path / "model", **told) as ours:
        for number, (one, schema) in enumerate(asked):
            plain = heard(await ours.whole(one))
            if plain["ended"] == "stop":
                jsonschema.validate(json.loads(plain["text"]), schema)
                valid += 1
            drafts = [plain["text"], wrong(plain["text"], random.Random(number))]
            found = {"plain": plain, **await with_drafts(ours, one, drafts)}
            wanted = plain if expected is None else expected[number]
            different += [
                f"{number}, {draft!r}: {heard} instead of {wanted}, asked {one}"
                for draft, heard in found.items()
                if heard != wanted
            ]
    print(f"{FORMS} answers in a form: {valid} valid, {len(different)} differ")
    assert not different, "\n".join(different)
    assert valid == FORMS or whitespace is None  # it may write blanks until its limit there
