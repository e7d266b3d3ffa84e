"""The wheel: what is in it, and that it works without the tree it was built from."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import livemind

ROOT = Path(livemind.__file__).parent
PARTS = {"orchestrator", "backends", "rag", "kernels", "benchmarks", "configs"}
NEEDED = (
    "py.typed",
    "public.py",
    "client.py",
    "configs/embedded.json",
    "backends/zoo/models/technical/model.safetensors",
    "orchestrator/routing/data/model.npz",
    "rag/handbook/technical.md",
    "benchmarks/data/python_docs_questions.jsonl",
)
LEFT_OUT = (".cc", ".h", "/training/", "/results/", "tests/", ".ci/", "docs/", "var/")
PROGRAM = """
import sys
sys.path[:0] = [{folder!r}]
sys.path.append({site!r})  # without its .pth files, which would find the source tree
import livemind
assert livemind.__file__.startswith({folder!r}), livemind.__file__
for name in livemind.__all__:
    getattr(livemind, name)
from livemind.orchestrator.cli import main
sys.exit(main({words!r}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from this tree, without the native code."""
    pytest.importorskip("scikit_build_core")
    folder = tmp_path_factory.mktemp("wheel")
    options = "--disable-pip-version-check -q --no-deps --no-build-isolation"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options.split(), "-w", str(folder), str(ROOT)],
        check=True,
        env={**os.environ, "LIVEMIND_NO_NATIVE": "1"},
        timeout=110,
    )
    [found] = folder.glob("livemind-*.whl")
    return found


@pytest.mark.slow
def test_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    inside = [name.removeprefix("livemind/") for name in names if name.startswith("livemind/")]
    assert {name for name in NEEDED if name not in inside} == set()
    assert {name for name in inside if name.endswith(LEFT_OUT) or any(
        part in f"/{name}" for part in LEFT_OUT if "/" in part)} == set()  # fmt: skip
    assert {name.partition("/")[0] for name in inside if "/" in name} == PARTS
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"livemind", f"livemind-{livemind.__version__}.dist-info"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--version"], livemind.__version__),
        (["config", "check", "configs/embedded.json"], "✓"),
        (["zoo", "list"], "technical"),
        (["bench", "ttft", "--help"], "--quick"),
    ],
    ids=["version", "config", "zoo", "bench"],
)
def test_wheel_installed_elsewhere_runs_its_commands(
    wheel: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    words = [str(tmp_path / "livemind" / word) if "/" in word else word for word in words]
    site = sysconfig.get_paths()["purelib"]
    program = PROGRAM.format(folder=str(tmp_path), site=site, words=words)
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
