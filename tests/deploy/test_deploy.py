"""Files for running LiveMind as a service: linted, and true about what they call."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import livemind
from livemind.orchestrator.cli import entry
from livemind.orchestrator.config.server import ServerConfig
from livemind.orchestrator.server.app import ABORT_S

ROOT = Path(livemind.__file__).parent
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "livemind.service"
INSTALLER = DEPLOY / "install-arm-server.sh"
CONTAINER = DEPLOY / "Containerfile"
INSTRUCTIONS = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


def unit() -> configparser.RawConfigParser:
    class Keys(configparser.RawConfigParser):
        def optionxform(self, optionstr: str) -> str:
            return optionstr

    parser = Keys(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.read(UNIT)
    return parser


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", CONTAINER.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    pairs = [line.partition(" ") for line in lines if line.strip()]
    return [(name, rest.strip()) for name, _, rest in pairs]


def accepted(words: list[str]) -> bool:
    """Tell whether the command line takes these arguments of ``livemind``."""
    try:
        entry.parser().parse_args(words)
    except SystemExit:
        return False
    return True


def test_unit_commands_are_ones_the_command_line_takes() -> None:
    service = unit()["Service"]
    for key in ("ExecStartPre", "ExecStart"):
        program, *words = shlex.split(service[key])
        assert program.endswith("/livemind")
        assert accepted(words), service[key]


def test_unit_waits_longer_than_the_server_drains_and_signals_it_alone() -> None:
    service = unit()["Service"]
    drain_s = float(ServerConfig().drain_timeout_s)
    assert float(service["TimeoutStopSec"]) > drain_s + ABORT_S
    assert service["KillMode"] == "mixed"
    assert service["KillSignal"] == "SIGTERM"


def test_unit_passes_systemd_verify(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    program = re.search(r"^ExecStart=(\S+)", UNIT.read_text(), re.MULTILINE)
    assert program is not None
    if verify is None:  # not on this machine: the tests above look at its form
        return
    # The program is not installed here: any executable stands in for it.
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(program[1], "/bin/true"))
    result = subprocess.run(
        [verify, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=30
    )
    own = [line for line in result.stderr.splitlines() if UNIT.name in line]
    assert not own, result.stderr


def test_installer_passes_shellcheck() -> None:
    checker = shutil.which("shellcheck") or str(Path(sys.executable).with_name("shellcheck"))
    result = subprocess.run(
        [checker, str(INSTALLER)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout


def test_installer_dry_run_prints_each_step_and_changes_nothing(tmp_path: Path) -> None:
    """No command of the steps is on PATH: whatever ran would fail."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "uname", "sed", "nproc", "awk", "id"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    result = subprocess.run(
        ["bash", str(INSTALLER), "--dry-run"],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": str(tools)},
    )
    assert result.returncode == 0, result.stderr
    for number in range(1, 7):
        assert f"==> {number} " in result.stdout
    assert "livemind check" in result.stdout


@pytest.mark.parametrize("words", [["--nonsense"], ["--config"]])
def test_installer_wrong_usage_is_refused_before_anything_is_done(words: list[str]) -> None:
    result = subprocess.run(
        ["bash", str(INSTALLER), *words], capture_output=True, text=True, timeout=30
    )
    assert result.returncode != 0
    assert "==>" not in result.stdout


def test_installer_is_executable_and_installs_the_unit_where_it_looks() -> None:
    assert os.access(INSTALLER, os.X_OK)
    prefix = re.search(r"^readonly PREFIX=(\S+)", INSTALLER.read_text(), re.MULTILINE)
    config = re.search(r"^readonly CONFIG=(\S+)", INSTALLER.read_text(), re.MULTILINE)
    assert prefix is not None
    assert config is not None
    for key in ("ExecStartPre", "ExecStart"):
        command = unit()["Service"][key]
        assert command.startswith(prefix[1] + "/.venv/bin/")
        assert config[1] in command.split()


def test_containerfile_has_known_instructions_and_copies_what_exists() -> None:
    found = instructions()
    assert found[0][0] == "FROM"
    assert not {name for name, _ in found} - INSTRUCTIONS
    for name, rest in found:
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_containerfile_pins_images_installs_cleanly_and_runs_as_a_user() -> None:
    found = instructions()
    for name, rest in found:
        if name == "FROM":
            assert re.search(r":[\d.]+", rest), rest
        if name == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists/*" in rest
    last_stage = found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]
    users = [rest for name, rest in last_stage if name == "USER"]
    assert users == ["livemind"]


def test_containerfile_starts_the_server_with_arguments_it_takes() -> None:
    last = dict(instructions())
    assert last["ENTRYPOINT"] == '["livemind"]'
    assert accepted(re.findall(r'"([^"]*)"', last["CMD"])), last["CMD"]
    assert last["STOPSIGNAL"] == "SIGTERM"


def test_containerfile_installs_all_that_the_client_of_milvus_needs() -> None:
    """The compose file's bridge keeps its collections there."""
    wanted = re.search(r"grep -E '\^\(([\w|-]+)\)=='", CONTAINER.read_text())
    assert wanted is not None
    names = set(wanted[1].split("|"))
    assert "pymilvus" in names
    dev = (ROOT / "requirements" / "dev.lock").read_text()
    assert all(f"\n{name}==" in dev for name in names)
    run = (ROOT / "requirements" / "run.lock").read_text()
    for text in requires("pymilvus") or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            name = canonicalize_name(requirement.name)
            assert name in names or f"\n{name}==" in run, name


def test_containerfile_takes_the_torch_of_the_makefile() -> None:
    version = re.search(r"^TORCH_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert version is not None
    assert ("ARG", f"TORCH_VERSION={version[1]}") in instructions()
