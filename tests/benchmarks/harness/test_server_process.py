from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from livemind.benchmarks.harness import server_process
from livemind.benchmarks.harness.server_process import ServerFailed, running

SERVER = """
import json, pathlib, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
config = json.loads(pathlib.Path(sys.argv[3]).read_text())
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Door(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"argv": sys.argv[1:3], "child": child.pid, **config}).encode())
HTTPServer((config["server"]["host"], config["server"]["port"]), Door).serve_forever()
"""


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_running_serves_the_config_and_leaves_no_process(tmp_path: Path) -> None:
    config = {"experts": [], "server": {"max_sessions": 3}}
    command = (sys.executable, "-c", SERVER)
    async with running(config, tmp_path, command=command) as url, aiohttp.ClientSession() as http:
        async with http.get(f"{url}/health") as response:
            seen = json.loads(await response.text())
        assert _is_running(seen["child"])
    assert seen["argv"] == ["serve", "--config"]
    assert seen["server"]["max_sessions"] == 3
    deadline = time.monotonic() + 10
    while _is_running(seen["child"]):  # a killed process takes a moment to go
        assert time.monotonic() < deadline


async def test_running_server_that_ends_raises_with_its_last_words(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('experts[0]: no such model')")
    with pytest.raises(ServerFailed, match=r"code 1\nexperts\[0\]: no such model"):
        async with running({}, tmp_path, command=command):
            pass


async def test_running_server_that_never_answers_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "START_TIMEOUT_S", 0.5)
    note = f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    code = f"import os, pathlib, time; {note}; time.sleep(600)"
    with pytest.raises(ServerFailed, match="not healthy"):
        async with running({}, tmp_path, command=(sys.executable, "-c", code)):
            pass
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
