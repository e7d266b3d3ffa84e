"""Real servers for one run, each in its own process, ended with the run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import aiohttp

from ..bench import BenchmarkFailed

COMMAND = (sys.executable, "-m", "livemind.orchestrator.cli")
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 20.0


class ServerFailed(BenchmarkFailed):
    """The server did not come up; the message ends with the last lines of its log."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(
    config: Mapping[str, Any],
    folder: Path,
    log: Path | None = None,
    command: Sequence[str] = COMMAND,
) -> AsyncGenerator[str, None]:
    """Serve a configuration on a free port; yields the base URL once ``/health`` answers 200.

    Args:
        config: as in a file; ``server.host`` and ``server.port`` are set here.
        folder: holds the configuration.
        log: file for what the server prints; None = in ``folder``.
        command: what ``serve --config FILE`` is appended to.

    Raises:
        ServerFailed: it ended or was not healthy within ``START_TIMEOUT_S``.
    """
    port = free_port()
    server = {**config.get("server", {}), "host": "127.0.0.1", "port": port}
    file = folder / "config.json"
    file.write_text(json.dumps({**config, "server": server}, indent=2))
    arguments = (*command, "serve", "--config", str(file))
    async with serving(arguments, port, log or folder / "server.log") as url:
        yield url


@asynccontextmanager
async def serving(
    command: Sequence[str],
    port: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
    health: str = "/health",
) -> AsyncGenerator[str, None]:
    """Run a server program; yields its base URL once it is healthy, ends it with the block.

    Args:
        command: the program, told where to listen.
        port: of 127.0.0.1.
        log: file for what it prints.
        environment: what it gets beyond this process's own.
        health: path that answers 200 when it is ready.

    Raises:
        ServerFailed: it ended or was not healthy within ``START_TIMEOUT_S``.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL, stdout=output, stderr=STDOUT,
            start_new_session=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        await _healthy(f"{url}{health}", process, log)
        yield url
    finally:
        await _stop(process)


async def output_of(*command: str, stderr: int = STDOUT, cwd: Path | None = None) -> str:
    """Return what a program printed; it is killed when nobody waits for it any more.

    Raises:
        CalledProcessError: it failed; ``output`` is what it said, on stderr if that is a pipe.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=stderr, cwd=cwd
    )
    try:
        told = [(part or b"").decode(errors="replace") for part in await process.communicate()]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise CalledProcessError(process.returncode or 1, command, told[stderr == PIPE])
    return told[0]


async def _healthy(url: str, process: Process, log: Path) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession() as http:
            while process.returncode is None:
                with suppress(aiohttp.ClientError, OSError):
                    async with http.get(url) as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise ServerFailed(f"not healthy after {START_TIMEOUT_S:.0f} s{_tail(log)}") from None
    raise ServerFailed(f"the server ended with code {process.returncode}{_tail(log)}")


async def _stop(process: Process) -> None:
    """Ask the server to end; what is left of its process group after that is killed."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n" + "\n".join(text) if text else " without a word in its log"
