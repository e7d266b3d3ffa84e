"""The command line without a server: arguments, exit codes, one-line errors."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from livemind.backends.models.known import DEFAULT_MODEL
from livemind.orchestrator.cli import entry, serve
from livemind.orchestrator.cli.errors import CommandError
from livemind.orchestrator.config.settings import Settings, load_settings

COMMANDS = [
    [],
    ["serve"],
    ["check"],
    ["chat"],
    ["config"],
    ["config", "check"],
    ["config", "show"],
    ["config", "reference"],
    ["models"],
    ["models", "import"],
    ["models", "list"],
    ["zoo"],
    ["zoo", "list"],
    ["zoo", "random"],
    ["keys"],
    ["keys", "add"],
    ["keys", "list"],
    ["keys", "remove"],
    ["bridge"],
    ["bridge", "serve"],
]


def settings(**server: Any) -> Settings:
    return Settings.model_validate(
        {
            "server": server,
            "experts": [
                {"expert_id": "local", "model_path": "x"},
                {"expert_id": "far", "kind": "remote", "base_urls": ["http://h"], "model": "m"},
            ],
        }
    )


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "top")
def test_cli_every_help_ends_with_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        entry.main([*words, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "example" in shown
    assert f"  livemind {' '.join(words)}" in shown.partition("example")[2]


def test_cli_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    import livemind

    with pytest.raises(SystemExit) as end:
        entry.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == f"livemind {livemind.__version__}"


@pytest.mark.parametrize(
    "words",
    [[], ["fly"], ["serve", "--port", "99999"], ["serve", "--port", "x"], ["zoo", "random", "d"]],
    ids=" ".join,
)
def test_cli_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        entry.main(words)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_cli_wrong_configuration_exits_with_2_and_a_line_per_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.json"
    file.write_text('{"experts": [{"expert_id": "a", "model_path": "x", "speed": 1}], "x": 2}')
    assert entry.main(["serve", "--config", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"livemind serve: {file}: ") for line in lines)


def test_cli_config_check_says_yes_or_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(["config", "check", str(entry.DEFAULT_CONFIG)]) == 0
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    assert entry.main(["config", "check", str(bad)]) == 2
    assert "experts" in capsys.readouterr().out


def test_cli_config_show_prints_the_shipped_settings_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert entry.main(["config", "show"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["server"]["port"] == 8000
    assert shown["speculation"]["draft_budget_tokens"] == 384


def test_cli_zoo_list_names_every_expert(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["zoo", "list"]) == 0
    shown = capsys.readouterr().out
    for name in ("fast", "general", "technical", "coding", "multilingual"):
        assert f"zoo:{name}" in shown


def test_cli_zoo_random_refuses_a_folder_with_something_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    assert entry.main(["zoo", "random", "--params", "1m", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_cli_zoo_random_refuses_a_size_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(["zoo", "random", "--params", "big", str(tmp_path / "m")]) == 2
    assert "big" in capsys.readouterr().err


def test_cli_bench_gets_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    from livemind.benchmarks import cli as bench

    seen: list[list[str]] = []

    def main(argv: list[str]) -> int:
        seen.append(argv)
        return 7

    monkeypatch.setattr(bench, "main", main)
    assert entry.main(["bench", "ttft", "--quick"]) == 7
    assert seen == [["ttft", "--quick"]]


def test_cli_port_in_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"experts": [{"expert_id": "a", "model_path": "x"}]}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert entry.main(["serve", "--config", str(file), "--port", str(port)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"port {port} of 127.0.0.1 is in use" in lines[0]


def test_listen_on_a_foreign_address_says_so() -> None:
    with pytest.raises(CommandError, match=r"192\.0\.2\.1") as refused:
        serve.listen("192.0.2.1", 0)
    assert refused.value.exit_code == 1


def test_listen_on_a_name_that_does_not_exist_is_a_configuration_error() -> None:
    with pytest.raises(CommandError, match=r"server\.host") as refused:
        serve.listen("no.such.name.invalid", 0)
    assert refused.value.exit_code == 2


def test_overrides_of_the_command_line_win(tmp_path: Path) -> None:
    changed = serve.with_overrides(settings(port=1), "0.0.0.0", 9000, tmp_path / "log")
    assert (changed.server.host, changed.server.port) == ("0.0.0.0", 9000)
    assert changed.experts[0].engine_log == tmp_path / "log" / "local.log"
    assert changed.experts[1].engine_log is None
    assert (tmp_path / "log").is_dir()


def test_overrides_not_given_change_nothing() -> None:
    before = settings(port=1234)
    assert serve.with_overrides(before, None, None, None) == before


def test_shipped_configuration_is_the_default() -> None:
    [expert] = load_settings(entry.DEFAULT_CONFIG).experts
    assert expert.model_path == DEFAULT_MODEL.package.model_path


@pytest.mark.parametrize("variable", ["LIVEMIND_CONFIG", "VLLM_CONFIG_PATH"])
def test_configuration_that_the_environment_names_is_the_default(
    variable: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "named.json"))
    assert entry.main(["route", "hello"]) == 2
    assert "named.json" in capsys.readouterr().err


def test_cli_import_loads_no_model_library() -> None:
    code = (
        "import sys, livemind.orchestrator.cli as c, livemind.orchestrator.server.app\n"
        "heavy = {'torch', 'vllm', 'transformers', 'livemind.kernels._native'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_cli_file_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    target = str(tmp_path / "file" / "log")
    assert entry.main(["serve", "--port", "0", "--experts-log", target]) == 1
    assert capsys.readouterr().err.splitlines() == [f"livemind serve: {target}: Not a directory"]
