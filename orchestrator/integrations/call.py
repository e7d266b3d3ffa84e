"""One call's side of a LiveMind server: partial transcripts and conversation out, answers in.

All access of the integrations to LiveMind is here. The request decides: every question carries the
whole conversation, so that a session which is lost, full or busy costs the head start and nothing
else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import aiohttp

from .answer import Answer, Called, CallFailed, Piece

logger = logging.getLogger(__name__)

SESSION_HEADER = "X-LiveMind-Session"
SESSION_STATUS_HEADER = "X-LiveMind-Session-Status"
CONNECT_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 5.0
REOPEN_AFTER_S = 2.0
LONGEST_WAIT_S = 0.1
FINAL_WAIT_S = 0.03
KEEP_S = 0.5
# What a voice framework sends. Both call transcripts equal that differ in writing alone.
HEARD = {"kind": "transcript", "transcripts_equal": "formatted"}
# Stands for the user's words where a framework asks without any; the server needs some.
NOTHING_SAID = "(nothing said)"
# What a session may refuse a question with that the request alone answers.
_WITHOUT_SESSION = frozenset({"session_not_found"})
_WORD = re.compile(r"[^\W_]+")

Json = dict[str, Any]
Messages = Sequence[Mapping[str, Any]]


class Call:
    """One call, one session, one event loop. Nothing is opened before the first use.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000``.
        api_key: the server's, if it wants one.
        session: options of the session in the names of ``session.update``: ``model``,
            ``speculation``, ``retrieval``, ``sampling``, …; ``input`` is a recogniser's unless
            it is given.
        keep_s: how long an answer that nobody reads goes on, seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        session: Mapping[str, Any] | None = None,
        keep_s: float = KEEP_S,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._options = {**(session or {})}
        self._options["input"] = {**HEARD, **(self._options.get("input") or {})}
        self._keep_s = keep_s
        self._http: aiohttp.ClientSession | None = None
        self._sender: asyncio.Task[None] | None = None
        self._work = asyncio.Event()
        self._sending = asyncio.Lock()
        self._session_id: str | None = None
        self._retry_at_s = 0.0
        self._text: str | None = None
        self._final = False
        self._messages: list[Json] | None = None
        self._instructions: str | None = None
        self._takes_messages = True
        self._answer: Answer | None = None
        self._question: tuple[str, str] | None = None
        self._unanswered = False
        self._closed = False

    @property
    def session_id(self) -> str | None:
        """The session's id on the server, None while there is none."""
        return self._session_id

    def hear(self, text: str, *, final: bool = False) -> None:
        """Tell the transcript of the turn so far; returns at once, and only the newest is sent.

        After a ``final`` one a question may follow at once, and is not to wait for its sending.
        What was asked already is no news. Other words end an answer that nobody reads.
        """
        if self._closed:
            return
        if self._unanswered and self._question is not None and _folded(text) == self._question[0]:
            return
        if self._answer is not None and not self._answer.is_read:
            self._answer.cancel()
        self._text, self._final = text, final
        self._wake()

    def tell(self, messages: Messages) -> None:
        """Tell how the conversation stands between two turns; returns at once.

        The answers in it end where they were heard to. What is said next is prepared behind it.
        """
        if self._closed:
            return
        self._unanswered = False
        self._messages = [dict(message) for message in messages]
        self._wake()

    def ask(self, messages: Messages, **fields: Any) -> Answer:
        """Ask for the answer to a conversation; the same question again is the same answer.

        Args:
            messages: as ``/v1/chat/completions`` has them. One that does not end with the user's
                words or a tool's result (a greeting) is asked outside of the session.
            fields: further fields of the request.

        Raises:
            CallFailed: the call is closed.
        """
        if self._closed:
            raise CallFailed("the call is over", code="closed")
        asked = [dict(message) for message in messages]
        heard = str(asked[-1].get("content", "")) if asked and _is_users(asked[-1]) else None
        question = (_folded(heard or ""), json.dumps([asked[:-1], fields], sort_keys=True))
        same = heard is not None and question == self._question
        if not same or self._answer is None or self._answer.broken:
            before = self._answer
            if before is not None:
                before.cancel()
            self._text = self._messages = None
            adopt = heard is not None or (bool(asked) and asked[-1].get("role") == "tool")
            source = self._stream(asked, fields, before, adopt=adopt)
            self._answer, self._question = Answer(source, self._keep_s), question
            self._answer.on_end(self._work.set)
        self._unanswered = heard is not None
        return self._answer

    async def ask_aside(self, messages: Messages, **fields: Any) -> str:
        """Return the whole answer to a conversation that is not this call's.

        Raises:
            CallFailed: the server refused it, or broke off.
        """
        asked = [dict(message) for message in messages]
        async with aclosing(self._stream(asked, fields, None, adopt=False)) as pieces:
            return "".join([piece.text async for piece in pieces])

    async def aclose(self) -> None:
        """Cancel what runs, close the session and the connections. Idempotent."""
        self._closed = True
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        if self._answer is not None:
            self._answer.cancel()
            await self._answer.ended()
        if self._http is not None:
            if self._session_id is not None:
                with suppress(CallFailed, TimeoutError):
                    await self._request("DELETE", f"/v1/live/sessions/{self._session_id}")
            await self._http.close()

    # ---- ahead of a question

    def _wake(self) -> None:
        self._work.set()
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_newest(), name="livemind-call")

    async def _send_newest(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._final:
                await asyncio.sleep(FINAL_WAIT_S)
            try:
                async with self._sending:
                    await self._send()
            except (CallFailed, TimeoutError) as exc:
                if isinstance(exc, CallFailed) and exc.code == "session_not_found":
                    self._session_id = None
                    self._work.set()
                    continue
                logger.warning("LiveMind does not prepare this turn: %s", exc)
                self._retry_at_s = asyncio.get_running_loop().time() + REOPEN_AFTER_S

    async def _send(self) -> None:
        """Send what is newest: first the conversation, then the words behind it."""
        if asyncio.get_running_loop().time() < self._retry_at_s:
            return
        messages, text = self._messages, self._text
        if self._answer is not None and self._answer.running:
            messages = None  # a conversation is told when it stands; the answer's end wakes us
        if messages is not None:
            self._instructions = _instructions(messages)
        if self._session_id is None:
            body = dict(self._options)
            if self._instructions is not None:
                body.setdefault("instructions", self._instructions)
            self._session_id = str((await self._request("POST", "/v1/live/sessions", body))["id"])
        path = f"/v1/live/sessions/{self._session_id}"
        if messages is not None:
            await self._send_messages(path, messages)
            if self._messages is messages:
                self._messages = None
        if text is not None:
            await self._request("PUT", f"{path}/input", {"text": text})
        if self._text is text:
            self._text = None

    async def _send_messages(self, path: str, messages: list[Json]) -> None:
        if not self._takes_messages:
            return
        try:
            await self._request("PATCH", path, {"messages": messages})
        except CallFailed as exc:
            if exc.status != 405:
                raise
            self._takes_messages = False

    # ---- a question

    async def _stream(
        self, messages: list[Json], fields: Json, before: Answer | None, *, adopt: bool
    ) -> AsyncGenerator[Piece, None]:
        if before is not None:
            await before.ended()
        await self._nothing_on_its_way()
        session_id = self._session_id if adopt else None
        body = {
            **fields,
            "messages": messages if adopt else _ending_with_user(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        while True:
            begun = False
            try:
                async for piece in self._pieces(body, session_id):
                    begun = True
                    yield piece
                return
            except CallFailed as exc:
                if begun or session_id is None or exc.code not in _WITHOUT_SESSION:
                    raise
                if exc.code == "session_not_found":
                    self._session_id = None
                session_id = None

    async def _nothing_on_its_way(self) -> None:
        """Wait for a partial that was sent: it would be taken for the next question."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT_S), self._sending:
                pass

    async def _pieces(self, body: Json, session_id: str | None) -> AsyncGenerator[Piece, None]:
        headers = {SESSION_HEADER: session_id} if session_id else {}
        try:
            async with self._connected().post(
                f"{self._url}/v1/chat/completions", json=body, headers=headers
            ) as response:
                await _refuse(response)
                if response.headers.get(SESSION_STATUS_HEADER) == "lost":
                    self._session_id = None
                calls: dict[int, Called] = {}
                response_id = ""
                async for line in response.content:
                    if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                        event = json.loads(line[6:])
                        piece = _piece(event)
                        _note_calls(event, calls)
                        response_id = response_id or str(event.get("id", ""))
                        if piece is not None:
                            yield piece
                if calls:
                    yield Piece(response_id, calls=tuple(calls[n] for n in sorted(calls)))
        except (aiohttp.ClientError, OSError) as exc:
            raise CallFailed(f"LiveMind does not answer: {exc}") from exc

    # ---- HTTP

    def _connected(self) -> aiohttp.ClientSession:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
            connector = aiohttp.TCPConnector(keepalive_timeout=60, limit=0)
            self._http = aiohttp.ClientSession(
                headers=self._headers, timeout=timeout, connector=connector
            )
        return self._http

    async def _request(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            async with (
                asyncio.timeout(SEND_TIMEOUT_S),
                self._connected().request(method, self._url + path, json=body) as response,
            ):
                await _refuse(response)
                result: Json = await response.json()
                return result
        except (aiohttp.ClientError, OSError) as exc:
            raise CallFailed(f"LiveMind does not answer: {exc}") from exc


async def _refuse(response: aiohttp.ClientResponse) -> None:
    """Raise CallFailed for an answer that is an error."""
    if response.status < 400:
        return
    try:
        error = (await response.json())["error"]
        message, code = str(error["message"]), error.get("code")
    except (aiohttp.ContentTypeError, ValueError, KeyError, TypeError):
        message, code = f"HTTP {response.status}", None
    raise CallFailed(message, status=response.status, code=code)


def _piece(event: Json) -> Piece | None:
    if "error" in event:
        error = event["error"]
        raise CallFailed(str(error["message"]), status=500, code=error.get("code"))
    response_id, usage = str(event.get("id", "")), event.get("usage")
    choices = event.get("choices") or [{}]
    text = (choices[0].get("delta") or {}).get("content") or ""
    return Piece(response_id, text, usage) if text or usage else None


def _note_calls(event: Json, calls: dict[int, Called]) -> None:
    """Add what a chunk says of calls to those before it, by their places."""
    for choice in event.get("choices") or ():
        for piece in (choice.get("delta") or {}).get("tool_calls") or ():
            known = calls.get(piece["index"], Called("", "", ""))
            function = piece.get("function") or {}
            calls[piece["index"]] = Called(
                known.call_id or piece.get("id") or "",
                known.name or function.get("name") or "",
                known.arguments + (function.get("arguments") or ""),
            )


def _is_users(message: Json) -> bool:
    return message.get("role") == "user"


def _instructions(messages: list[Json]) -> str | None:
    """Return the system messages that open a conversation, as the server joins them."""
    texts = []
    for message in messages:
        if message.get("role") not in ("system", "developer"):
            break
        texts.append(str(message.get("content", "")))
    return "\n\n".join(texts) or None


def _ending_with_user(messages: list[Json]) -> list[Json]:
    """Return the conversation with what the agent was told last as the user's words."""
    if not messages or _is_users(messages[-1]):
        return messages
    if messages[-1].get("role") in ("system", "developer"):
        return [*messages[:-1], {"role": "user", "content": messages[-1]["content"]}]
    return [*messages, {"role": "user", "content": NOTHING_SAID}]


def _folded(text: str) -> str:
    """Return the words of a transcript: case, marks and blanks do not count."""
    return " ".join(_WORD.findall(text.casefold())) or text
