"""The recording proxy between a client and a running server: nothing changes, turns are written."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from livemind.benchmarks.workload.recordings import read_recording
from livemind.orchestrator.cli import main
from livemind.orchestrator.cli.record.proxy import RecordingProxy
from livemind.orchestrator.client.client import LiveClient
from livemind.orchestrator.events import ResponseDone, ResponseTextDelta

from ...server.conftest import eventually, serving

Json = dict[str, Any]
HOST = "127.0.0.1"


async def type_and_ask(url: str, text: str, key: str | None = None) -> str:
    said = ""
    async with LiveClient(url, api_key=key) as client, client.session() as session:
        for place in range(1, len(text) + 1):
            session.replace(text[:place])
            await asyncio.sleep(0.01)
        async for event in session.commit():
            if isinstance(event, ResponseTextDelta):
                said += event.delta
            elif isinstance(event, ResponseDone):
                assert event.status == "completed"
    return said


async def test_turn_through_the_proxy_is_answered_and_written_without_its_text() -> None:
    written: list[list[Json]] = []
    async with serving() as doors:
        proxy = RecordingProxy(doors.url, written.append, texts=False, host=HOST)
        async with proxy.running(HOST, 0) as url:
            assert await type_and_ask(url, "what is it") == "WHAT IS IT"
    [lines] = written
    assert len(lines[-1]["text"]) == len("what is it")
    assert "what" not in json.dumps(lines)
    assert lines[-1]["turn"]["expert"] == "fake"
    assert lines[-1]["turn"]["ttft_ms"] > 0


async def test_turn_over_http_and_one_of_the_realtime_api_are_written(tmp_path: Path) -> None:
    written: list[list[Json]] = []
    async with serving() as doors, aiohttp.ClientSession() as http:
        proxy = RecordingProxy(doors.url, written.append, texts=True, host=HOST)
        async with proxy.running(HOST, 0) as url:
            for text in ("what", "what is"):
                state = {"text": text}
                path = f"{url}/v1/live/sessions/of-mine/input"
                assert (await http.put(path, json=state)).status in (200, 201)
            for stream in (True, False):
                body = {"messages": [{"role": "user", "content": "what is it"}], "stream": stream}
                named = {"X-LiveMind-Session": "of-mine"}
                path = f"{url}/v1/chat/completions"
                async with http.post(path, json=body, headers=named) as answer:
                    assert "WHAT" in await answer.text()
            async with http.ws_connect(f"{url}/v1/realtime") as socket:
                content = [{"type": "input_text", "text": "and now"}]
                said = {"type": "message", "role": "user", "content": content}
                await socket.send_json({"type": "conversation.item.create", "item": said})
                await socket.send_json({"type": "response.create"})
                async with asyncio.timeout(10):
                    while (await socket.receive_json())["type"] != "response.done":
                        pass
    told = [[line["text"] for line in lines] for lines in written]
    assert told == [["what", "what is", "what is it"], ["what is it"], ["and now", "and now"]]
    for lines in written:
        figures = lines[-1]["turn"]
        assert figures["expert"] == "fake"
        assert figures["ttft_ms"] > 0
    file = tmp_path / "turns.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for lines in written for line in lines))
    assert len(read_recording(str(file)).utterances) == 3


async def test_picture_of_a_live_session_is_asked_over_http_with_what_was_typed() -> None:
    written: list[list[Json]] = []
    async with serving() as doors, aiohttp.ClientSession() as http:
        proxy = RecordingProxy(doors.url, written.append, texts=True, host=HOST)
        async with proxy.running(HOST, 0) as url, http.ws_connect(f"{url}/v1/live") as socket:
            session = (await socket.receive_json())["session"]["id"]
            await socket.send_json({"type": "session.update"})
            await socket.send_json({"type": "input_text.append", "text": "what colour"})
            live = doors.state.registry.find(session, None)
            await eventually(lambda: live.session.text)
            body = {"messages": [{"role": "user", "content": "what colour is it"}]}
            named = {"X-LiveMind-Session": session}
            answer = await http.post(f"{url}/v1/chat/completions", json=body, headers=named)
            assert answer.status == 200
    assert [line["text"] for [*lines] in written for line in lines] == [
        "what colour",
        "what colour is it",
    ]


async def test_everything_else_goes_through_as_it_is() -> None:
    async with serving(api_keys=["right"]) as doors, aiohttp.ClientSession() as http:
        proxy = RecordingProxy(doors.url, lambda lines: None, texts=True, host=HOST)
        async with proxy.running(HOST, 0) as url:
            async with http.get(url) as page:
                assert page.status == 200
                assert "LiveMind" in await page.text()
            async with http.get(f"{url}/v1/models") as refused:
                assert refused.status == 401
                assert (await refused.json())["error"]["code"] == "missing_api_key"
            with pytest.raises(aiohttp.WSServerHandshakeError) as kept_out:
                await http.ws_connect(f"{url}/v1/live")
            assert kept_out.value.status == 401
            assert await type_and_ask(url, "with a key", "right") == "WITH A KEY"
            body = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
            bearer = {"Authorization": "Bearer right"}
            post = http.post(f"{url}/v1/chat/completions", json=body, headers=bearer)
            async with post as answer:
                assert (await answer.text()).rstrip().endswith("data: [DONE]")
            evil = {"Origin": "https://page.example", **bearer}
            async with http.post(f"{url}/v1/chat/completions", json=body, headers=evil) as other:
                assert other.status == 403
            async with http.get(url, headers={"Host": "rebound.example"}) as rebound:
                assert rebound.status == 421


async def test_server_that_is_gone_is_said() -> None:
    proxy = RecordingProxy("http://127.0.0.1:9", lambda lines: None, texts=True, host=HOST)
    async with proxy.running(HOST, 0) as url, aiohttp.ClientSession() as http:
        answer = await http.get(f"{url}/health")
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "unreachable")


async def test_command_writes_a_recording_for_this_user_alone_that_replays(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "turns.jsonl"
    async with serving() as doors:
        words = ("-m", "livemind.orchestrator.cli", "record", str(file), "--url", doors.url)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, "--port", "0", stdout=PIPE
        )
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(60):
            while "Ctrl-C" not in said:
                said += (await process.stdout.readline()).decode()
        url = said.partition("use ")[2].split()[0]
        assert await type_and_ask(url, "first question") == "FIRST QUESTION"
        assert await type_and_ask(url, "second") == "SECOND"
        process.send_signal(signal.SIGINT)
        rest = (await process.communicate())[0].decode()
        assert process.returncode == 0
        assert "turn 2: typed for" in rest
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        recording = await asyncio.to_thread(read_recording, str(file))
        assert [len(one.text) for one in recording.utterances] == [14, 6]
        report = tmp_path / "replay.json"
        words_ = ["replay", str(file), "--url", doors.url, "--json", str(report)]
        assert await asyncio.to_thread(main, words_) == 0
    told = json.loads(await asyncio.to_thread(report.read_text))
    assert told["summary"]["replay.turns"] == 2
    assert told["summary"]["replay.failed"] == 0
    assert told["summary"]["replay.same_answers"] == 2
    assert all(row["live_ttft_ms"] > 0 and row["at_once_ttft_ms"] > 0 for row in told["turns"])
    assert "text" not in told["turns"][0]
    assert "2 turns replayed" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["there.jsonl"], "is there already"),
        (["turns.json"], "ends in .jsonl"),
        (["new.jsonl", "--url", "ftp://host"], "--url"),
        (["new.jsonl", "--url", "http://host/v1"], "--url"),
    ],
)
def test_command_refuses_what_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    (tmp_path / "there.jsonl").write_text("kept")
    assert main(["record", str(tmp_path / words[0]), *words[1:]]) == 2
    assert told in capsys.readouterr().err
    assert (tmp_path / "there.jsonl").read_text() == "kept"


def test_replay_names_file_line_and_field_that_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "turns.jsonl"
    file.write_text('{"id": "a", "t_ms": -1, "text": "x", "final": true}\n')
    assert main(["replay", str(file)]) == 2
    error = capsys.readouterr().err
    assert "turns.jsonl" in error
    assert "t_ms" in error
