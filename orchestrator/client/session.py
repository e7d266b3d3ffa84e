"""A live session over a WebSocket: the input as it stands goes out, typed events come in.

Owns the connection and what the server has of the input. A connection that breaks, or whose server
leaves (``session.moving``), is replaced: conversation and input so far are sent again, and a
commit of whose answer nothing came yet. An answer that had begun ends with an error: nothing shown
is taken back. A conversation with calls of tools cannot be told again, so that a break is its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Self, Unpack

import aiohttp

from ..errors import InvalidRequest, LiveMindError, Unavailable
from ..events import ResponseDone
from ..server.live.answers import ErrorFrame, SessionMoving, SessionUpdated
from .answer import LiveAnswer
from .conversation import SaidSoFar
from .endpoint import LOST, encode
from .events import LiveEvent, decode_event, exception_of
from .options import LiveOptions
from .retry import may_be_repeated, repeated

COMMIT, CANCEL, UPDATE = "input_text.commit", "response.cancel", "session.update"
Observe = Callable[[LiveEvent, float], None]


class RemoteSession:
    """A live session on a server; made by ``LiveClient.session``, used as async context manager.

    Input methods are synchronous and never wait: what the server does not have yet is sent as soon
    as the socket takes it, several changes as one if they come faster. For one event loop.

        async with client.session(model="auto") as session:
            session.append("What is the port ")
            session.append("of Kestrel?")
            async for event in session.commit():
                if isinstance(event, ResponseTextDelta):
                    print(event.delta, end="")
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[aiohttp.ClientWebSocketResponse]],
        options: LiveOptions,
        observe: Observe | None,
        timeout_s: float,
        attempts: int,
    ) -> None:
        self._connect = connect
        self._options: dict[str, object] = {**options}
        self._observe = observe
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._text = ""
        self._sent: str | None = ""  # what the server has, None = not known
        self._revision = 0
        self._controls: deque[tuple[str, str, LiveAnswer | None]] = deque()
        self._wake = asyncio.Event()
        self._answers: deque[LiveAnswer] = deque()  # of commits that have not ended, oldest first
        self._said = SaidSoFar(self._options)
        self._moves: asyncio.TimerHandle | None = None
        self._is_leaving = False
        self._committed_revision = -1
        self._updating = asyncio.Lock()
        self._updated: asyncio.Future[None] | None = None
        self._failure: LiveMindError | None = None
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect and put the options in force.

        Raises:
            InvalidRequest, NotFound: an option is refused.
            Unauthorized: the API key is missing or unknown.
            Overloaded, Unavailable: also the last attempt failed.
        """
        ws = await repeated(self._open, self._attempts)
        self._task = asyncio.create_task(self._run(ws), name="live-session")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the connection, which ends the session on the server."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def is_open(self) -> bool:
        """Whether it can be used: entered, and not ended for good."""
        return self._task is not None and self._failure is None

    # ---- input

    @property
    def text(self) -> str:
        """The input of the turn that is being typed."""
        return self._text

    @property
    def revision(self) -> int:
        """The number of the newest change; events name the one they belong to."""
        return self._revision

    def append(self, text: str) -> None:
        """Add typed or spoken text at the end of the input.

        A refusal by the server comes as ``ErrorFrame``; a commit sends the whole text anyway.

        Raises:
            InvalidRequest: not valid Unicode.
            LiveMindError: why the session ended.
        """
        self.replace(self._text + text)

    def replace(self, text: str) -> None:
        """Set the whole input so far; raises as ``append``. What is equal to it sends nothing."""
        self._check()
        encode({"text": text})
        if text != self._text:
            self._text = text
            self._revision += 1
            self._wake.set()

    def clear(self) -> None:
        """Forget the input; raises as ``append``."""
        self.replace("")

    def commit(
        self, text: str | None = None, *, tool_results: Mapping[str, str] | None = None
    ) -> LiveAnswer:
        """Declare the input final and return its answer; it is asked for at once.

        A newer commit ends an answer that is running; its last event says so.

        Args:
            text: the final text, None = the input as it is.
            tool_results: call id → what the function returned, of calls that the last answer made
                (``ResponseDone.tool_calls``); with them the text may be empty.

        Raises:
            InvalidRequest: the text or a result is not valid Unicode.
            LiveMindError: why the session ended.
        """
        self._check()
        final = self._text if text is None else text
        revision = self._revision + 1
        event_id = f"commit-{revision}"
        frame: dict[str, object] = {
            "type": COMMIT, "text": final, "revision": revision, "event_id": event_id
        }  # fmt: skip
        if tool_results:
            frame["tool_results"] = [
                {"call_id": call_id, "output": output} for call_id, output in tool_results.items()
            ]
        answer = LiveAnswer(
            event_id,
            final,
            self._cancel,
            self._timeout_s,
            encode(frame),
            has_results=bool(tool_results),
        )
        self._send(frame, answer)
        self._answers.append(answer)
        self._revision = self._committed_revision = revision
        self._text, self._sent = "", ""
        return answer

    def cancel(self) -> None:
        """End the running answer, whose last event says so. Idempotent."""
        if self._answers and self._failure is None:
            self._send({"type": CANCEL, "event_id": CANCEL})

    def _cancel(self, answer: LiveAnswer) -> None:
        """End this answer; what a newer commit follows is being ended already."""
        if self._answers and self._answers[-1] is answer:
            self.cancel()

    async def update(self, **options: Unpack[LiveOptions]) -> None:
        """Change options; those not given stay.

        Raises:
            InvalidRequest: one is refused, or a response is in progress; nothing has changed.
            NotFound: no such model.
            Unavailable: no answer within the client's ``timeout_s``.
            LiveMindError: why the session ended.
        """
        async with self._updating:
            self._check()
            before = self._options
            self._updated = asyncio.get_running_loop().create_future()
            self._send({"type": UPDATE, **options, "event_id": UPDATE})
            self._options = {**before, **options}
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._updated
                self._said.updated(options)
            except BaseException as exc:
                self._options = before
                if isinstance(exc, TimeoutError):
                    message = f"session.update: no answer for {self._timeout_s:g} s (timeout_s)"
                    raise Unavailable(message, code="timeout") from None
                raise
            finally:
                self._updated = None

    async def wait_closed(self) -> LiveMindError:
        """Wait until the session has ended for good; return why."""
        await self._closed.wait()
        assert self._failure is not None
        return self._failure

    # ---- the connection

    async def _run(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                lost = await self._exchange(ws)
                self._break_off(lost)
                if not self._said.is_known or not may_be_repeated(lost):
                    raise lost
                ws = await repeated(self._open, self._attempts, failure=lost)
                self._sent = ""
                again = [(COMMIT, answer.frame, answer) for answer in self._answers]
                self._controls = deque(again)
                self._settle_update(None)
                self._wake.set()
        except LiveMindError as exc:
            self._end(exc)
        except Exception as exc:
            error = LiveMindError(f"observe: {type(exc).__name__}: {exc}")
            error.__cause__ = exc
            self._end(error)
        finally:
            self._end(InvalidRequest("the session is closed", code="session_closed"))
            await ws.close()

    async def _open(self) -> aiohttp.ClientWebSocketResponse:
        """Return a connection on which the options are in force."""
        ws = await self._connect()
        try:
            await ws.send_str(encode({"type": UPDATE, **self._said.told(self._options)}))
            async with asyncio.timeout(self._timeout_s):
                while not isinstance(event := await self._receive(ws), SessionUpdated):
                    if isinstance(event, ErrorFrame):
                        raise exception_of(event)
        except BaseException as exc:
            await ws.close()
            if isinstance(exc, ConnectionError | TimeoutError):
                raise Unavailable("the connection broke while it was opened", code=LOST) from exc
            raise
        return ws

    def _break_off(self, lost: LiveMindError) -> None:
        """End the answers that have begun: the rest of them is lost."""
        if self._moves is not None:
            self._moves.cancel()
        self._moves, self._is_leaving = None, False
        for answer in [one for one in self._answers if one.said or one.has_results]:
            self._answers.remove(answer)
            self._said.ended(answer, None)
            answer.end(lost)

    def _move(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        """Leave this server, as soon as nothing is answered there."""
        self._is_leaving = True
        if not self._answers:
            self._moving = asyncio.create_task(ws.close(), name="live-session-move")

    async def _exchange(self, ws: aiohttp.ClientWebSocketResponse) -> LiveMindError:
        """Send and receive until the connection ends; return why it did."""
        writer = asyncio.create_task(self._write(ws), name="live-session-write")
        reason: LiveMindError | None = None
        try:
            while True:
                event = await self._receive(ws)
                if isinstance(event, SessionMoving):
                    later = asyncio.get_running_loop().call_later
                    self._moves = later(event.retry_after_s, self._move, ws)
                reason = self._take(event) or reason
                if self._is_leaving and not self._answers:
                    self._move(ws)
        except _Lost as lost:
            return reason or Unavailable(str(lost), code=LOST)
        finally:
            writer.cancel()
            await asyncio.wait([writer])

    async def _write(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        with suppress(ConnectionError):  # the reader says so
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (frame := self._next_frame()) is not None:
                    await ws.send_str(frame)

    def _next_frame(self) -> str | None:
        if self._controls:
            _, frame, answer = self._controls.popleft()
            if answer is not None:
                answer.committed_s = perf_counter()
            return frame
        before, self._sent = self._sent, self._text
        if before == self._text or self._revision == self._committed_revision:
            return None
        kind, text = "input_text.replace", self._text
        if before and text.startswith(before):
            kind, text = "input_text.append", text[len(before) :]
        revision = self._revision
        frame_id = f"input-{revision}"
        return encode({"type": kind, "text": text, "revision": revision, "event_id": frame_id})

    async def _receive(self, ws: aiohttp.ClientWebSocketResponse) -> LiveEvent:
        message = await ws.receive()
        received_s = perf_counter()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise _Lost(f"the server closed the connection (code {ws.close_code})")
        event = decode_event(message.data)
        if self._observe is not None:
            self._observe(event, received_s)
        return event

    # ---- what comes in

    def _take(self, event: LiveEvent) -> LiveMindError | None:
        """Hand an event to whom it concerns; return why the server is about to close, if it is."""
        if isinstance(event, SessionUpdated):
            self._settle_update(None)
        elif isinstance(event, ErrorFrame):
            return self._refused(event)
        elif self._answers:
            self._answers[0].put(event)
            if isinstance(event, ResponseDone):
                self._said.ended(self._answers.popleft(), event)
        return None

    def _refused(self, event: ErrorFrame) -> LiveMindError | None:
        exc, event_id = exception_of(event), event.error.event_id
        if event_id is None:
            return exc
        if event_id == UPDATE:
            self._settle_update(exc)
        elif event_id != CANCEL:  # which finds nothing to cancel when the answer has just ended
            self._sent = None
            refused = next((one for one in self._answers if one.event_id == event_id), None)
            if refused is not None:
                newest = self._answers[-1] is refused
                self._answers.remove(refused)
                refused.end(exc)
                if newest:
                    self._committed_revision = -1
                    self._text = self._text or refused.text
                    self._wake.set()
        return None

    def _settle_update(self, exc: LiveMindError | None) -> None:
        if self._updated is None or self._updated.done():
            return
        if exc is None:
            self._updated.set_result(None)
        else:
            self._updated.set_exception(exc)

    def _end(self, exc: LiveMindError) -> None:
        if self._failure is not None:
            return
        self._failure = exc
        for answer in self._answers:
            answer.end(exc)
        self._settle_update(exc)
        self._closed.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._task is None:
            raise InvalidRequest("the session is not open: use it in async with", code="not_open")

    def _send(self, frame: Mapping[str, object], answer: LiveAnswer | None = None) -> None:
        self._controls.append((str(frame["type"]), encode(frame), answer))
        self._wake.set()


class _Lost(ConnectionError):
    """The connection ended."""
