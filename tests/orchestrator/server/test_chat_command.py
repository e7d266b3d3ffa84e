"""``livemind chat`` against the real server: over a pipe, and with keys typed into a terminal."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.cli.chat.command import Pipes, interactive, piped
from livemind.orchestrator.cli.errors import CommandError
from livemind.orchestrator.errors import NotFound

CTRL_D, ENTER, BACKSPACE = "\x04", "\r", "\x7f"


def live_url(doors: Any) -> str:
    return str(doors.url).replace("http", "ws", 1) + "/v1/live"


async def ask(doors: Any, lines: str, **given: Any) -> tuple[int, str, str]:
    out, notes = io.StringIO(), io.StringIO()
    model, key = given.get("model", "auto"), given.get("key")
    code = await piped(live_url(doors), model, key, Pipes(io.StringIO(lines), out, notes))
    return code, out.getvalue(), notes.getvalue()


async def test_chat_over_a_pipe_answers_each_line(serve: Any) -> None:
    async with serve() as doors:
        code, out, notes = await ask(doors, "hello there\n\nsecond question\n")
        assert code == 0
        assert out == "HELLO THERE\nSECOND QUESTION\n"
        assert notes.count("first word after") == 2
        await doors.quiet()


async def test_chat_over_a_pipe_goes_on_after_a_failed_turn(serve: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert, max_text_chars=200) as doors:
        code, out, notes = await ask(doors, "x" * 300 + "\nfine\n")
        assert code == 1
        assert out == "FINE\n"
        assert "the limit is 200" in notes


async def test_chat_failed_answer_is_told(serve: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        expert.refuse = ExpertUnavailable("fake", "the engine is not running")
        code, _, notes = await ask(doors, "hi\n")
        assert code == 1
        assert "livemind chat: the engine is not running" in notes


async def test_chat_unknown_model_is_one_line(serve: Any) -> None:
    async with serve() as doors:
        with pytest.raises(NotFound, match="no such model"):
            await ask(doors, "hi\n", model="nope")


async def test_chat_without_key_says_how_to_give_one(serve: Any) -> None:
    async with serve(api_keys=["right"]) as doors:
        with pytest.raises(CommandError, match="--key"):
            await ask(doors, "hi\n")
        assert (await ask(doors, "hi\n", key="right"))[1] == "HI\n"


@pytest.mark.parametrize(
    ("url", "told", "code"),
    [
        ("ws://127.0.0.1:9/v1/live", "nothing answers at .*; is `livemind serve` running", 1),
        ("localhost", "--url: got 'localhost'", 2),
    ],
)
async def test_chat_server_that_is_not_there_is_one_line(
    url: str, told: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livemind.orchestrator.client.retry._wait_s", lambda state: 0.0)
    pipes = Pipes(io.StringIO("hi\n"), io.StringIO(), io.StringIO())
    with pytest.raises(CommandError, match=told) as failed:
        await piped(url, "auto", None, pipes)
    assert failed.value.exit_code == code


async def test_chat_server_that_goes_away_ends_the_chat_with_its_reason(
    serve: Any, eventually: Any
) -> None:
    async with serve(session_idle_timeout_s=1.0) as doors:
        out = io.StringIO()
        with create_pipe_input() as keys:
            chat = asyncio.create_task(
                interactive(live_url(doors), "auto", None, terminal=(keys, DummyOutput()), out=out)
            )
            await eventually(lambda: "Ctrl-D" in out.getvalue())
            with pytest.raises(NotFound, match="idle"):
                await chat


async def test_chat_typed_keys_reach_the_server_before_enter(serve: Any, eventually: Any) -> None:
    expert = FakeExpert("fake")
    async with serve(expert) as doors:
        out = io.StringIO()
        with create_pipe_input() as keys:
            terminal = (keys, DummyOutput())
            chat = asyncio.create_task(
                interactive(live_url(doors), "auto", None, terminal=terminal, out=out)
            )
            await eventually(lambda: "Ctrl-D" in out.getvalue())
            keys.send_text("what is teh")
            keys.send_text(BACKSPACE * 3 + "the port of kestrel and all? ")
            await eventually(lambda: expert.generated_tokens)  # a draft, before Enter
            assert "KESTREL" not in out.getvalue()
            keys.send_text(ENTER)
            await eventually(lambda: "tokens ahead" in out.getvalue())
            keys.send_text("second" + ENTER)
            await eventually(lambda: out.getvalue().count("tokens ahead") == 2)
            keys.send_text(CTRL_D)
            assert await chat == 0
        assert "WHAT IS THE PORT OF KESTREL AND ALL?" in out.getvalue()
        assert "SECOND" in out.getvalue()
        assert doors.state.metrics.stats()["draft_tokens_adopted"] > 0
        await doors.quiet()


async def test_chat_empty_line_asks_nothing(serve: Any, eventually: Any) -> None:
    async with serve() as doors:
        out = io.StringIO()
        with create_pipe_input() as keys:
            chat = asyncio.create_task(
                interactive(live_url(doors), "auto", None, terminal=(keys, DummyOutput()), out=out)
            )
            await eventually(lambda: "Ctrl-D" in out.getvalue())
            keys.send_text("  " + ENTER + CTRL_D)
            assert await chat == 0
        assert "tokens" not in out.getvalue()
