"""``livemind chat``: type to a running server; a status line shows what it prepares meanwhile."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ...client.answer import LiveAnswer
from ...client.client import LiveClient
from ...client.events import LiveEvent
from ...client.retry import UNREACHABLE
from ...client.session import Observe, RemoteSession
from ...errors import InvalidRequest, LiveMindError, Unauthorized, Unavailable
from ...events import ResponseDone, ResponseTextDelta
from ..errors import CommandError
from .view import ChatView, summary

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.input import Input
    from prompt_toolkit.key_binding import KeyPressEvent
    from prompt_toolkit.output import Output

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
STYLE = {
    "bottom-toolbar": "noreverse bg:#262626 #bcbcbc",
    "value": "bold #ffffff",
    "good": "bold #5fd75f",
    "warn": "#ffaf5f",
    "error": "bold #ff8787",
    "dim": "#767676",
    "rule": "#585858",
}


class Pipes(NamedTuple):
    """Where questions come from, answers go, and figures and errors go."""

    lines: TextIO
    answers: TextIO
    notes: TextIO


def chat(options: argparse.Namespace) -> int:
    """Talk until the input ends; return the exit code."""
    key = options.key or os.environ.get("LIVEMIND_API_KEY") or None
    if sys.stdin.isatty() and sys.stdout.isatty():
        return asyncio.run(interactive(options.url, options.model, key))
    pipes = Pipes(sys.stdin, sys.stdout, sys.stderr)
    return asyncio.run(piped(options.url, options.model, key, pipes))


async def piped(url: str, model: str, key: str | None, pipes: Pipes) -> int:
    """Ask each line that comes in; return 1 if one of them was not answered."""
    failed = False
    async with _session(url, model, key) as session:
        while line := await asyncio.to_thread(pipes.lines.readline):
            if not line.strip():
                continue
            try:
                figures = await _show(session.commit(line.rstrip("\n")), pipes.answers)
            except (CommandError, LiveMindError) as exc:
                if not session.is_open:
                    raise
                failed = True
                print(f"livemind chat: {exc}", file=pipes.notes)
                continue
            print(figures, file=pipes.notes)
    return 1 if failed else 0


async def interactive(
    url: str,
    model: str,
    key: str | None,
    *,
    terminal: tuple[Input, Output] | None = None,
    out: TextIO | None = None,
) -> int:
    """Talk on a terminal until Ctrl-D or Ctrl-C.

    Args:
        url: of the server, or of its live WebSocket.
        model: expert id or ``auto``.
        key: API key.
        terminal: where keys come from and the prompt goes to; None = the real one.
        out: where answers go; None = stdout.
    """
    out = sys.stdout if out is None else out
    typist = Typist(terminal)
    async with _session(url, model, key, typist.observe) as session:
        print(f"{DIM}Type; Enter asks, Ctrl-D leaves.{PLAIN}", file=out)
        while (answer := await typist.ask(session)) is not None:
            try:
                figures = await _show(answer, out)
            except (CommandError, LiveMindError) as exc:
                if not session.is_open:
                    raise
                print(f"\n{exc}", file=out)
                continue
            print(f"{DIM}{figures}{PLAIN}\n", file=out)
    return 0


class Typist:
    """The prompt: every change of the line goes to the server, Enter commits at once."""

    def __init__(self, terminal: tuple[Input, Output] | None) -> None:
        self._session: RemoteSession | None = None
        self._answer: LiveAnswer | None = None
        self._view = ChatView()
        self._prompt = self._make_prompt(terminal)
        self._prompt.default_buffer.on_text_changed += lambda buffer: self._changed(buffer.text)

    async def ask(self, session: RemoteSession) -> LiveAnswer | None:
        """Return the answer to the next line that is not empty, None when the user leaves.

        Raises:
            LiveMindError: why the session ended.
        """
        from prompt_toolkit.formatted_text import FormattedText

        self._session, self._answer = session, None
        self._view.begin()
        watch = asyncio.create_task(self._leave_with(session))
        try:
            while self._answer is None:
                await self._prompt.prompt_async(
                    "> ", bottom_toolbar=lambda: FormattedText(self._view.toolbar())
                )
        except (EOFError, KeyboardInterrupt):
            return None
        finally:
            watch.cancel()
        return self._answer

    def observe(self, event: LiveEvent, received_s: float) -> None:
        """Show what an event says."""
        self._view.apply(event)
        self._prompt.app.invalidate()

    def _make_prompt(self, terminal: tuple[Input, Output] | None) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.styles import Style

        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.text.strip() and self._session is not None:
                with suppress(LiveMindError):  # the session has ended, which ends the prompt
                    self._answer = self._session.commit(buffer.text)
            buffer.validate_and_handle()

        source, target = terminal or (None, None)
        return PromptSession(
            key_bindings=keys, style=Style.from_dict(STYLE), input=source, output=target
        )

    def _changed(self, text: str) -> None:
        if self._prompt.app.is_running and self._answer is None and self._session is not None:
            with suppress(LiveMindError):
                self._session.replace(text)

    async def _leave_with(self, session: RemoteSession) -> None:
        exc = await session.wait_closed()
        if self._prompt.app.is_running:
            self._prompt.app.exit(exception=exc)


@asynccontextmanager
async def _session(
    url: str, model: str, key: str | None, observe: Observe | None = None
) -> AsyncGenerator[RemoteSession, None]:
    """Open a session; an error says what the user can do."""
    try:
        async with (
            LiveClient(url, api_key=key) as client,
            client.session(model=model, observe=observe) as session,
        ):
            yield session
    except Unauthorized:
        message = "the server needs an API key: give --key or set LIVEMIND_API_KEY"
        raise CommandError(f"{url}: {message}") from None
    except InvalidRequest as exc:
        raise CommandError(f"--{exc.message}" if exc.param == "url" else exc.message, 2) from None
    except Unavailable as exc:
        hint = "; is `livemind serve` running?" if exc.code == UNREACHABLE else ""
        raise CommandError(f"{exc.message}{hint}") from None


async def _show(answer: LiveAnswer, out: TextIO) -> str:
    """Write an answer as it comes; return a line about it."""
    ttft_ms: float | None = None
    async with aclosing(answer):
        async for event in answer:
            if isinstance(event, ResponseTextDelta):
                if ttft_ms is None and answer.committed_s is not None:
                    ttft_ms = (perf_counter() - answer.committed_s) * 1000
                out.write(event.delta)
                out.flush()
            elif isinstance(event, ResponseDone):
                if event.status != "completed":
                    raise CommandError(event.error.message if event.error else event.status)
                print(file=out)
                return summary(event, ttft_ms)
    raise AssertionError("an answer ends with response.done or an error")
