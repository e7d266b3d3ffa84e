"""``livemind top`` against real gateways: one, two, and one that is not there."""

from __future__ import annotations

import asyncio
import json

import pytest

from livemind.orchestrator.cli.entry import main

from ...server.conftest import serving


async def top(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["top", *arguments])


async def test_top_adds_two_gateways_up(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as one, serving() as two:
        for doors, turns in ((one, 1), (two, 2)):
            for _ in range(turns):
                await doors.chat()
        urls = [f"--url={doors.url}" for doors in (one, two)]
        assert await top("--once", "--json", *urls) == 0
        told = json.loads(capsys.readouterr().out)
        assert [line["turns"] for line in told["gateways"]] == [1, 2]
        assert told["fleet"]["turns"] == 3
        assert told["fleet"]["ttft_p95_ms"] > 0
        assert await top("--once", *urls) == 0
        shown = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in shown[1:]] == [
            "gateway", *[doors.url.removeprefix("http://") for doors in (one, two)], "all",
        ]  # fmt: skip


async def test_top_says_which_gateway_does_not_answer_and_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving() as doors:
        assert await top("--once", f"--url={doors.url}", "--url=http://127.0.0.1:9") == 1
        assert "nothing answers at http://127.0.0.1:9" in capsys.readouterr().out


async def test_top_without_the_right_key_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(api_keys=["sk-0123456789abcdef"]) as doors:
        assert await top("--once", f"--url={doors.url}", "--key=sk-wrong") == 1
        assert "unknown API key" in capsys.readouterr().out
        assert await top("--once", f"--url={doors.url}", "--key=sk-0123456789abcdef") == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--url", "gw-1:8000"], "got 'gw-1:8000', need http://HOST:PORT"),
        (["--interval", "0"], "got 0, need 0.1 to 3600 seconds"),
        (["--interval", "often"], "got 'often', need a number of seconds"),
    ],
)
def test_top_refuses_wrong_options(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["top", "--once", *arguments])
    except SystemExit as exc:
        code = int(exc.code or 0)
    assert code in (1, 2)
    assert told in capsys.readouterr().err
