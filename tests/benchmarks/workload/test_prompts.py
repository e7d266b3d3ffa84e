from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livemind.benchmarks.bench import UsageError
from livemind.benchmarks.workload.conversations import Conversation
from livemind.benchmarks.workload.prompts import read_prompts


def _file(folder: Path, *lines: object) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return file


def test_read_prompts_question_and_messages_become_conversations(tmp_path: Path) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "An answer of another model."},
        {"role": "user", "content": "And two?"},
    ]
    file = _file(
        tmp_path,
        {"question": "Why?", "documents": ["a", "b"], "max_tokens": 7},
        "",
        {"messages": talk},
    )
    assert read_prompts(file) == (
        Conversation(("Why?",), ("a", "b"), None, 7),
        Conversation(("One?", "And two?"), (), "Be brief."),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ({"question": "x", "temperature": 1}, "temperature: Extra inputs"),
        ({"question": 3}, "question: Input should be a valid string"),
        ({}, "question: give question or messages"),
        ({"question": "x", "messages": [{"role": "user", "content": "y"}]}, "one of them"),
        ({"question": "x", "max_tokens": 0}, "max_tokens: Input should be greater"),
        ({"question": "  "}, "messages: user message 0 is blank"),
        ({"messages": [{"role": "tool", "content": "y"}]}, r"messages\.0\.role"),
        ({"messages": [{"role": "system", "content": "y"}]}, "the last one must be the user's"),
        (
            {
                "messages": [
                    {"role": "assistant", "content": "y"},
                    {"role": "user", "content": "z"},
                ]
            },
            "need system messages first",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_read_prompts_bad_line_is_named_with_its_field(
    line: Any, message: str, tmp_path: Path
) -> None:
    file = _file(tmp_path, {"question": "fine"}, line)
    with pytest.raises(UsageError, match=rf"prompts\.jsonl:2: .*{message}"):
        read_prompts(file)


def test_read_prompts_file_without_a_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no prompt in it"):
        read_prompts(_file(tmp_path, ""))
    with pytest.raises(UsageError, match="No such file"):
        read_prompts(tmp_path / "other.jsonl")
