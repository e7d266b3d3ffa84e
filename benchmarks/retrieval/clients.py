"""Clients of a bridge in a process of their own, so that their work is not in what they measure.

Plain HTTP/1.1 over one connection each: a client library's work for fifty answers that come in the
same instant would be counted as lateness of the last.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer as a client saw it; ``inside_ms`` is what the bridge said of itself."""

    took_ms: float
    status: int
    degraded: bool
    inside_ms: float | None


def ask(url: str, clients: int, rounds: int, deadline_ms: float) -> list[Answered]:
    """Ask with all clients at once, round after round; blocks."""
    return asyncio.run(_ask(url, clients, rounds, deadline_ms))


async def _ask(url: str, clients: int, rounds: int, deadline_ms: float) -> list[Answered]:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    opened = [await asyncio.open_connection(host, port) for _ in range(clients)]
    found: list[Answered] = []

    async def client(
        number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        for turn in range(rounds):
            body = {
                "query": f"client {number} asks how to read a file in round {turn}",
                "session_id": f"client-{number}",
                "revision": turn,
                "deadline_ms": deadline_ms,
            }
            found.append(await _post(reader, writer, json.dumps(body).encode()))
            await asyncio.sleep(PAUSE_S)
        writer.close()

    await asyncio.gather(*(client(n, *both) for n, both in enumerate(opened)))
    return found


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> Answered:
    head = f"POST /v1/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.perf_counter()
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    length = next(line for line in lines if line.startswith("content-length:"))
    content = await reader.readexactly(int(length.partition(":")[2]))
    took_ms = (time.perf_counter() - began) * 1000.0
    answer = json.loads(content)
    inside_ms = answer["timings_ms"]["total"] if "timings_ms" in answer else None
    return Answered(took_ms, int(lines[0].split()[1]), bool(answer.get("degraded")), inside_ms)
