"""Names, sizes, documents and data files that could drift from the code."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import livemind
from livemind.orchestrator.config.experts import Section
from livemind.orchestrator.config.settings import load_settings

ROOT = Path(livemind.__file__).parent
PARTS = ("orchestrator", "backends", "rag", "kernels", "benchmarks")
SOURCES = sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.json"))
FACE_LINES = 40
FILE_LINES = 400
FOLDER_FILES = 20
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        return ""


def test_every_module_name_says_what_it_owns() -> None:
    assert not [str(path) for path in SOURCES if path.stem in NAMELESS]


def test_every_file_is_short_and_every_folder_has_few() -> None:
    long = [str(path) for path in SOURCES if len(text_of(path).splitlines()) > FILE_LINES]
    folders = Counter(str(path.parent) for path in SOURCES)
    full = [folder for folder, count in folders.items() if count > FOLDER_FILES]
    assert (long, full) == ([], [])


def test_every_package_face_is_short() -> None:
    faces = [path for path in SOURCES if path.name == "__init__.py"]
    assert not [str(path) for path in faces if len(text_of(path).splitlines()) > FACE_LINES]


def test_root_face_is_short_and_its_list_is_sorted() -> None:
    assert len(text_of(ROOT / "__init__.py").splitlines()) <= FACE_LINES
    assert livemind.__all__ == sorted(livemind.__all__)


def test_version_is_the_one_of_the_distribution() -> None:
    assert f'\nversion = "{livemind.__version__}"\n' in text_of(ROOT / "pyproject.toml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_config_is_valid(path: Path) -> None:
    load_settings(path)


def test_tiny_config_has_fifteen_examples_of_every_specialist() -> None:
    settings = load_settings(ROOT / "configs" / "tiny.json")
    specialists = {e.domain for e in settings.experts if e.expert_id != settings.router.fast_expert}
    assert specialists == set(settings.domains)
    for name, domain in settings.domains.items():
        assert len(set(domain.examples)) >= 15, name


def test_every_configuration_key_is_read_somewhere() -> None:
    """DESIGN: every key is used or refused. A key that nothing reads would be ignored."""
    config = {path for path in SOURCES if path.name.startswith("config")}
    code = "\n".join(text_of(path) for path in SOURCES if path not in config)
    keys = {name for section in Section.__subclasses__() for name in section.model_fields}
    unread = {key for key in keys if not re.search(rf'\.{key}\b|"{key}"', code)}
    assert not unread


def test_readme_make_commands_exist() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)", text_of(ROOT / "README.md")))
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert {"serve", "test"} <= named
    assert named <= targets


def test_readme_and_architecture_name_only_files_that_exist() -> None:
    for document in ("README.md", "ARCHITECTURE.md"):
        text = text_of(ROOT / document)
        assert text, document
        for name in re.findall(r"`((?:orchestrator|backends|rag|kernels|configs)/[\w/.]+)`", text):
            assert (ROOT / name).exists(), f"{document}: {name}"
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{document}: {target}"


def test_ci_calls_only_make_test() -> None:
    calls = re.findall(r"^make .*$", text_of(ROOT / ".ci" / "run"), re.MULTILINE)
    assert calls == ["make test"]


def test_tracked_files_name_no_place_of_one_machine() -> None:
    # An invented user called "me" is fine in an example.
    place = re.compile(r"(?<![\w.])/(?:home|root|work|Users|opt|mnt|srv)/(?!me/)[\w.]")
    for path in tracked():
        text = text_of(path)
        if (found := place.search(text)) is not None:
            number = text.count("\n", 0, found.start()) + 1
            pytest.fail(f"{path.relative_to(ROOT)}:{number}: {text.splitlines()[number - 1]}")


def test_test_functions_say_subject_condition_and_outcome() -> None:
    short = []
    for path in tracked("tests/*.py"):
        for name in re.findall(r"^(?:async )?def (test_\w+)", text_of(path), re.MULTILINE):
            if name.count("_") < 3:
                short.append(f"{path.relative_to(ROOT)}: {name}")
    assert not short
