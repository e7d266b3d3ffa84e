"""``livemind chat``: type to a running server; a status line shows what it prepares meanwhile."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ..errors import CommandError
from .client import Disconnected, LiveClient, connect
from .view import ChatView, InputMirror, summary

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
    async with connect(url, key) as client:
        await client.configure(model=model)
        while line := await asyncio.to_thread(pipes.lines.readline):
            if not line.strip():
                continue
            client.commit(line.rstrip("\n"))
            try:
                await _show(client, pipes.answers)
            except Disconnected:
                raise
            except CommandError as exc:
                failed = True
                print(f"livemind chat: {exc}", file=pipes.notes)
                continue
            print(_figures(client), file=pipes.notes)
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
        url: of the live WebSocket.
        model: expert id or ``auto``.
        key: API key.
        terminal: where keys come from and the prompt goes to; None = the real one.
        out: where answers go; None = stdout.
    """
    out = sys.stdout if out is None else out
    async with connect(url, key) as client:
        await client.configure(model=model)
        typist = Typist(client, terminal)
        print(f"{DIM}Type; Enter asks, Ctrl-D leaves.{PLAIN}", file=out)
        while (text := await typist.line()) is not None:
            if not text.strip():
                continue
            try:
                await _show(client, out)
            except Disconnected:
                raise
            except CommandError as exc:
                print(f"\n{exc}", file=out)
                continue
            print(f"{DIM}{_figures(client)}{PLAIN}\n", file=out)
    return 0


class Typist:
    """The prompt: every change of the line goes to the server, Enter commits at once."""

    def __init__(self, client: LiveClient, terminal: tuple[Input, Output] | None) -> None:
        self._client = client
        self._view = ChatView()
        self._mirror = InputMirror()
        self._prompt = self._make_prompt(terminal)
        self._prompt.default_buffer.on_text_changed += lambda buffer: self._changed(buffer.text)
        client.on_event = self._on_event
        client.on_closed = self._on_closed

    async def line(self) -> str | None:
        """Return the next committed line, None when the user leaves.

        Raises:
            Disconnected: the server went away.
        """
        from prompt_toolkit.formatted_text import FormattedText

        self._view.begin()
        self._mirror = InputMirror()
        try:
            return await self._prompt.prompt_async(
                "> ", bottom_toolbar=lambda: FormattedText(self._view.toolbar())
            )
        except (EOFError, KeyboardInterrupt):
            return None

    def _make_prompt(self, terminal: tuple[Input, Output] | None) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.styles import Style

        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.text.strip():
                self._client.commit(buffer.text)
            buffer.validate_and_handle()

        source, target = terminal or (None, None)
        return PromptSession(
            key_bindings=keys, style=Style.from_dict(STYLE), input=source, output=target
        )

    def _changed(self, text: str) -> None:
        if self._prompt.app.is_running and (frame := self._mirror.change(text)) is not None:
            self._client.send(frame)

    def _on_event(self, event: dict[str, object]) -> None:
        self._view.apply(event)
        self._prompt.app.invalidate()

    def _on_closed(self, exc: Disconnected) -> None:
        if self._prompt.app.is_running:
            self._prompt.app.exit(exception=exc)


async def _show(client: LiveClient, out: TextIO) -> None:
    async with aclosing(client.answer()) as pieces:
        async for piece in pieces:
            out.write(piece)
            out.flush()
    print(file=out)


def _figures(client: LiveClient) -> str:
    return summary(client.done, client.ttft_ms) if client.done is not None else ""
