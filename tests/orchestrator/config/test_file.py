"""The file format: comments, positions, what plain JSON would let through."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from livemind.orchestrator.config.file import path_text, read_json, value_text
from livemind.orchestrator.errors import ConfigError


def read(folder: Path, text: str) -> object:
    file = folder / "x.json"
    file.write_text(text, encoding="utf-8")
    return read_json(file)


def test_read_json_comments_are_blank(tmp_path: Path) -> None:
    text = '// one\n{ /* two\n lines */ "a": 1, // "b": 2\n "c": [1, /* 9, */ 2] }\n/* end */'
    assert read(tmp_path, text) == {"a": 1, "c": [1, 2]}


@pytest.mark.parametrize(
    "text",
    ["http://host//path", "/* kept */", 'a "quoted" // b', "back\\slash \\", "//", "/*"],
)
def test_read_json_comment_marks_in_strings_survive(tmp_path: Path, text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert read(tmp_path, f'{{"key": "{quoted}"}} // gone') == {"key": text}


@given(st.text(alphabet='/*"\\ \na', max_size=30))
def test_read_json_any_string_value_survives(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    import json

    folder = tmp_path_factory.mktemp("json")
    assert read(folder, f"/* a */ {json.dumps([text])} // b") == [text]


def test_read_json_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff{}") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n  // note\n  "a" 1\n}', ":3:7: Expecting ':' delimiter"),
        ('{\n  "a": 1,\n}', ":3:1: a trailing comma is not allowed"),
        ("[1, 2, ]", ":1:8: a trailing comma is not allowed"),
        ('{"a": 1 /* open', ":1:9: comment is never closed"),
        ('{\n "a": 1', ":2:8: the file ends too early"),
        ("// only a comment", ":1:18: the file is empty"),
        ("{} {}", ":1:4: text after the end of the configuration"),
        ('{"a": 1, "a": 2}', ': duplicate key "a" in one object'),
        ('{"a": NaN}', ": got NaN, need a finite number"),
        ('{"a": -Infinity}', ": got -Infinity, need a finite number"),
        ("[" * 100_000, ": nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", ": Exceeds the limit"),
    ],
)
def test_read_json_broken_text_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    prefix, _, _ = message.partition(" (")
    assert caught.value.message.startswith(f"{tmp_path / 'x.json'}{prefix}")


def test_read_json_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read: No such file"):
        read_json(tmp_path / "none.json")


def test_read_json_not_utf8_names_the_byte(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigError, match="not UTF-8 at byte 7"):
        read_json(tmp_path / "x.json")


def test_path_text_mixes_keys_and_indices() -> None:
    assert path_text(("experts", 2, "base_urls", 0)) == "experts[2].base_urls[0]"
    assert path_text(()) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("bf16", '"bf16"'),
        (None, "null"),
        (True, "true"),
        ({"key": "secret"}, "an object"),
        (["secret"], "a list"),
        ([], "an empty list"),
        ("x" * 100, '"' + "x" * 59 + '…"'),
    ],
)
def test_value_text_is_json_and_short(value: object, text: str) -> None:
    assert value_text(value) == text
