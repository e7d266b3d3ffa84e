"""API keys: where they come from, and what of them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livemind.orchestrator.cli import entry
from livemind.orchestrator.config.keys import digest_of, load_keys, read_key_file
from livemind.orchestrator.config.server import ServerConfig
from livemind.orchestrator.config.settings import load_settings
from livemind.orchestrator.errors import ConfigError


def config(folder: Path, **server: Any) -> Path:
    file = folder / "config.json"
    experts = [{"expert_id": "a", "kind": "remote", "base_urls": ["http://h"], "model": "m"}]
    file.write_text(json.dumps({"server": server, "experts": experts}))
    return file


@pytest.mark.parametrize("key", ["", " ", "\t", " a", "a ", "a\nb", "\u00a0"])
def test_key_that_nobody_can_send_is_refused_by_check(
    tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path, api_keys=["good", key])
    with pytest.raises(ConfigError, match=r"server\.api_keys.*\[1\]"):
        load_settings(file)
    assert entry.main(["check", str(file)]) != 0
    assert "api_keys" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["", " ", ",", " , "])
def test_variable_without_a_key_does_not_open_the_server(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("LIVEMIND_API_KEYS", given)
    with pytest.raises(ConfigError, match="LIVEMIND_API_KEYS"):
        load_keys(ServerConfig())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "empty"),
        ("[]", "object"),
        ('{"keys": []}', "no key"),
        ('{"keys": [{"name": "a", "sha256": "x"}]}', r"keys\[0\].sha256"),
        ('{"keys": [{"name": "a b", "sha256": "%s"}]}' % ("0" * 64), r"keys\[0\].name"),
        ('{"keys": [{"name": "a", "key": "secret"}]}', r"keys\[0\].key: unknown"),
        (
            '{"keys": [{"name": "a", "sha256": "%s", "scopes": ["all"]}]}' % ("0" * 64),
            r"keys\[0\].scopes\[0\]",
        ),
        (
            '{"keys": [{"name": "a", "sha256": "%s", "expires": "soon"}]}' % ("0" * 64),
            r"keys\[0\].expires",
        ),
    ],
)
def test_file_of_keys_that_is_wrong_is_refused_with_the_place(
    tmp_path: Path, text: str, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=names):
        load_keys(ServerConfig(api_keys_file=file))
    assert entry.main(["check", str(config(tmp_path, api_keys_file="keys.json"))]) == 1
    assert "keys.json" in "".join(capsys.readouterr().out.split())


def test_file_of_keys_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json"):
        load_keys(ServerConfig(api_keys_file=tmp_path / "none.json"))


def test_keys_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = {"name": "a", "sha256": "0" * 64}
    file.write_text(json.dumps({"keys": [key, key]}))
    with pytest.raises(ConfigError, match="'a'"):
        load_keys(ServerConfig(api_keys_file=file))


def test_command_keeps_hashes_alone_and_prints_the_key_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.json"
    words = ["keys", "add", "alice", "--file", str(file), "--scope", "ask", "--max-turns", "3"]
    assert entry.main([*words, "--expires", "2099-01-01"]) == 0
    secret = capsys.readouterr().out.strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret not in file.read_text()
    [key] = read_key_file(file)
    assert (key.name, key.sha256, key.scopes) == ("alice", digest_of(secret), ("ask",))
    assert key.max_turns == 3
    assert not key.expired()
    assert entry.main(words) == 1
    assert entry.main(["keys", "list", "--file", str(file)]) == 0
    assert "alice" in capsys.readouterr().out
    assert entry.main(["keys", "add", "b", "--file", str(file), "--max-turns", "0"]) == 2
    assert entry.main(["keys", "remove", "bob", "--file", str(file)]) == 1
    assert entry.main(["keys", "remove", "alice", "--file", str(file)]) == 0
    assert read_key_file(file) == ()
