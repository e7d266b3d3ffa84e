"""Other people's programs that LiveMind is measured against.

Each has a virtual environment of its own. They are installed from the package index when a
benchmark first needs them, never into the environment that runs the benchmark. A peer that cannot
be installed is absent, not an error.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ..harness.experts import cache_folder
from ..harness.server_process import free_port, output_of, serving

INSTALL_TIMEOUT_S = 600.0
_MARKER = "installed.json"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program from the package index.

    Attributes:
        name: of its folder and of its distribution.
        requirement: what pip is asked for.
    """

    name: str
    requirement: str


LITELLM = Peer("litellm", "litellm[proxy]")


@dataclass(frozen=True, slots=True)
class Installed:
    """A peer that is there: the folder of its programs and its version."""

    programs: Path
    version: str


@dataclass(frozen=True, slots=True)
class Absent:
    """A peer that could not be installed, and why."""

    reason: str


def peers_folder() -> Path:
    """Return where peers are kept: ``var/peers`` of a source tree, else the user's cache."""
    tree = Path(__file__).resolve().parents[2]
    in_tree = (tree / "pyproject.toml").exists()
    return tree / "var" / "peers" if in_tree else cache_folder() / "peers"


def told(peer: Installed | Absent | None) -> dict[str, str | None]:
    """Return what reports say of LiteLLM: its version, or why it is absent."""
    return {
        "litellm": getattr(peer, "version", None),
        "litellm_absent": getattr(peer, "reason", None),
    }


async def installed(
    peer: Peer, say: Callable[[str], None], folder: Path | None = None
) -> Installed | Absent:
    """Return a peer, after installing it if it is not there. Never raises but on cancel.

    Args:
        peer: what to install.
        say: gets a line before anything that takes long.
        folder: holds the peers' environments; None = ``peers_folder()``.
    """
    place = (folder or peers_folder()) / peer.name
    programs = place / "bin"
    if (place / _MARKER).exists():
        return Installed(programs, json.loads((place / _MARKER).read_text())["version"])
    say(f"installing {peer.requirement} into {place}")
    pip = (str(programs / "python"), "-m", "pip", "--disable-pip-version-check")
    try:
        place.mkdir(parents=True, exist_ok=True)
        async with asyncio.timeout(INSTALL_TIMEOUT_S):
            await output_of(sys.executable, "-m", "venv", "--clear", str(place))
            await output_of(*pip, "install", "--quiet", peer.requirement)
            listed = await output_of(*pip, "list", "--format", "json")
    except (OSError, TimeoutError, subprocess.CalledProcessError) as exc:
        said = getattr(exc, "output", None)
        last = said.strip().splitlines()[-1] if said and said.strip() else ""
        return Absent(f"{peer.requirement} cannot be installed: {last or type(exc).__name__}")
    found = {one["name"].lower(): one["version"] for one in json.loads(listed)}
    version = str(found[peer.name])
    (place / _MARKER).write_text(json.dumps({"version": version, "all": found}, indent=2) + "\n")
    return Installed(programs, version)


@asynccontextmanager
async def litellm_proxy(
    peer: Installed,
    models: Mapping[str, tuple[str, str]],
    key: str,
    folder: Path,
    prefix: tuple[str, ...] = (),
) -> AsyncGenerator[str, None]:
    """Serve models through LiteLLM's proxy, one worker; yields its base URL.

    Args:
        peer: LiteLLM.
        models: name that clients use -> (base URL of an OpenAI-compatible server, its model name).
        key: clients have to send it as the bearer token; without one the proxy does not start.
        folder: holds the configuration and the log.
        prefix: what the command line begins with.

    Raises:
        ServerFailed: it did not come up; the message ends with its last lines.
    """
    port = free_port()
    entries = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{model}",
                "api_base": f"{url}/v1",
                "api_key": "none",
            },
        }
        for name, (url, model) in models.items()
    ]
    settings = {"telemetry": False, "num_retries": 0, "request_timeout": 60}
    file = folder / "litellm.yaml"  # JSON is YAML
    file.write_text(json.dumps({"model_list": entries, "litellm_settings": settings}, indent=2))
    program = str(peer.programs / "litellm")
    where = ("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no look-up on the network
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": key,
        "LITELLM_MODE": "PRODUCTION",
    }
    command = (*prefix, program, "--config", str(file), *where)
    log = folder / "litellm.log"
    async with serving(command, port, log, environment, "/health/liveliness") as url:
        yield url
