"""The sdist and the wheel built from it: what is in them, and that the wheel works alone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import livemind

ROOT = Path(livemind.__file__).parent
PARTS = {"orchestrator", "integrations", "backends", "rag", "kernels", "benchmarks", "configs"}
NEEDED = (
    "py.typed",
    "public.py",
    "asgi.py",
    "client.py",
    "integrations/livekit.py",
    "configs/embedded.json",
    "configs/tiny.json",
    "backends/zoo/models/technical/model.safetensors",
    "orchestrator/routing/data/model.npz",
    "orchestrator/routing/data/model_e5.npz",
    "orchestrator/server/page/files/index.html",
    "orchestrator/server/page/files/main.js",
    "rag/encoder/data/e5_centres.npy",
    "rag/handbook/technical.md",
    "benchmarks/data/python_docs_questions.jsonl",
)
# orchestrator/integrations is livemind.integrations
LEFT_OUT = (
    "orchestrator/integrations/",
    *(".cc", ".h", "/training/", "/results/", "tests/", ".ci/", "docs/", "var/"),
)
# The sdist has what builds, explains and measures; the tests stay in the repository.
SDIST_TOPS = {
    *(PARTS - {"integrations"}), "docs", "deploy", "examples", "findings", "requirements",
    "__init__.py", "asgi.py", "client.py", "integrations.py", "public.py", "py.typed",
    "CMakeLists.txt", "Makefile", "PKG-INFO",
    "mkdocs.yml", "pyproject.toml", "LICENSE", "README.md", "ARCHITECTURE.md", "CHANGELOG.md",
    "CONTRIBUTING.md", "SECURITY.md", ".clang-format", ".dockerignore",
}  # fmt: skip
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
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an sdist of this tree."""
    pytest.importorskip("scikit_build_core")
    folder = tmp_path_factory.mktemp("sdist")
    program = "import sys; from scikit_build_core.build import build_sdist as b; b(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, cwd=ROOT, timeout=110)
    [found] = folder.glob("livemind-*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel built from the sdist, without the native code."""
    folder = tmp_path_factory.mktemp("wheel")
    options = "--disable-pip-version-check -q --no-deps --no-build-isolation"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options.split(), "-w", str(folder), str(sdist)],
        check=True,
        env={**os.environ, "LIVEMIND_NO_NATIVE": "1"},
        timeout=110,
    )
    [found] = folder.glob("livemind-*.whl")
    return found


@pytest.mark.slow
def test_sdist_holds_what_is_tracked_but_tests_and_ci(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.partition("/")[0] for name in names} == SDIST_TOPS
    assert {"docs/protocol.md", "kernels/native/module.cc", "requirements/run.lock"} <= names
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:  # a checkout: nothing that git ignores, and nothing forgotten
        there = {name for name in listing.stdout.decode().split("\0") if (ROOT / name).is_file()}
        left = {
            name for name in there if name.startswith(("tests/", ".ci/")) or name == ".gitignore"
        }
        assert names - {"PKG-INFO"} == there - left


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
