"""Two real gateways behind a real balancer on loopback, with fake replicas of a remote expert."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

import livemind

from ..orchestrator.server.replica import Replica

DEPLOY = Path(livemind.__file__).parent / "deploy"
CONFIGURATIONS = {
    "haproxy": DEPLOY / "haproxy" / "haproxy.cfg",
    "nginx": DEPLOY / "nginx" / "nginx.conf",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str | None:
    """Return a balancer's program, None where it is not installed (apt install haproxy nginx)."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def adapted(name: str, port: int, gateways: Sequence[int]) -> str:
    """Return a configuration of the repository for these ports."""
    text = CONFIGURATIONS[name].read_text(encoding="utf-8")
    for given, taken in zip((8001, 8002), gateways, strict=True):
        text = text.replace(f"127.0.0.1:{given}", f"127.0.0.1:{taken}")
    return re.sub(r"(bind :|listen )8080", rf"\g<1>{port}", text)


@dataclass
class Gateway:
    """A ``livemind serve`` process that can be ended and started again on its port."""

    port: int
    config: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        with (self.config.parent / f"gateway-{self.port}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "livemind.orchestrator.cli"),
                *("serve", "--config", str(self.config)),
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(100), aiohttp.ClientSession() as http:
            while True:
                with suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/ready") as answer:
                        if answer.status == 200:
                            return
                assert self.process.returncode is None
                await asyncio.sleep(0.1)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; return the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)


@dataclass
class Fleet:
    """What runs: ``url`` is the balancer's."""

    url: str
    gateways: list[Gateway]
    replicas: list[Replica]


@asynccontextmanager
async def fleet(balancer: str, folder: Path, lame_duck_s: float = 3.0) -> AsyncIterator[Fleet]:
    """Run two gateways with two replicas behind a balancer."""
    async with AsyncExitStack() as stack:
        replicas = [Replica(f"r{n}") for n in range(2)]
        for replica in replicas:
            await stack.enter_async_context(replica.serving())
        gateways = []
        for n in range(2):
            port, config = free_port(), folder / f"gateway-{n}.json"
            expert = {
                "expert_id": "far",
                "kind": "remote",
                "model": "m",
                "base_urls": [replica.url for replica in replicas],
            }
            server = {
                "port": port,
                "lame_duck_s": lame_duck_s,
                "session_cookie": "livemind_session",
            }
            told = {"server": server, "experts": [expert], "rag": {"enabled": False}}
            config.write_text(json.dumps(told))
            gateways.append(Gateway(port, config))
        try:
            await asyncio.gather(*(gateway.start() for gateway in gateways))
            port = free_port()
            file = folder / f"{balancer}.conf"
            file.write_text(adapted(balancer, port, [one.port for one in gateways]))
            await stack.enter_async_context(_running(balancer, file, port))
            yield Fleet(f"http://127.0.0.1:{port}", gateways, replicas)
        finally:
            for gateway in gateways:
                if gateway.process is not None:
                    await gateway.end(signal.SIGKILL)


@asynccontextmanager
async def _running(balancer: str, file: Path, port: int) -> AsyncIterator[None]:
    found = program(balancer)
    assert found is not None
    own = f"daemon off; pid {file.parent}/nginx.pid; error_log {file.parent}/nginx.log;"
    command: tuple[str, ...] = (found, "-db", "-f", str(file))
    if balancer == "nginx":
        command = (found, "-p", str(file.parent), "-c", str(file), "-g", own)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as http:
            while True:
                with suppress(aiohttp.ClientError):
                    async with http.get(f"http://127.0.0.1:{port}/ready") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.1)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
