"""The schemas of the live protocol: current, and true of what a server takes and sends."""

from __future__ import annotations

import asyncio
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import livemind
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.server.live.json_schema import schemas, text_of
from livemind.orchestrator.server.validation import CODES
from livemind.rag.base import Passage, RetrievalResult

FOLDER = Path(livemind.__file__).parent / "docs" / "schemas"
COMMAND = "python -m livemind.orchestrator.server.live.json_schema docs/schemas"
QUESTION = "What is the port that you know of Kestrel, please?"
Json = dict[str, Any]


class OnePassage:
    """Finds the same passage for every query."""

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        return RetrievalResult(revision, (Passage("p1", "ports.md", "Kestrel: 785.", 0.9),))

    async def aclose(self) -> None:
        pass


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((FOLDER / f"{name}.json").read_bytes()))


def accepts(name: str, value: object) -> bool:
    return bool(validator(name).is_valid(value))


def test_schema_files_are_what_the_types_say() -> None:
    found = schemas()
    assert {path.stem for path in FOLDER.glob("*.json")} == set(found), COMMAND
    for name, schema in found.items():
        Draft202012Validator.check_schema(schema)
        assert (FOLDER / f"{name}.json").read_bytes() == text_of(schema), COMMAND


async def test_schema_frames_of_a_whole_turn_and_its_errors_are_valid(serve: Any) -> None:
    fakes = (FakeExpert("small", ttft_s=0.01), FakeExpert("big", ttft_s=0.01, drafts=True))
    sent: list[Json] = []

    async with serve(*fakes, fast="small", retriever=OnePassage()) as doors:
        async with doors.live(configure=False) as socket:

            async def send(**frame: Any) -> None:
                sent.append(frame)
                await socket.send(**frame)

            instructions = "You answer every question with one short sentence and no more."
            await send(type="session.update", instructions=instructions, sampling={"stop": "END"})
            await send(type="input_text.append", text="What is the port that you know ", revision=1)
            await asyncio.sleep(0.05)
            await send(type="input_text.replace", text=QUESTION, revision=2)
            await socket.until("draft.created")
            await send(type="input_text.commit", revision=3)
            assert (await socket.until("response.done"))["status"] == "completed"
            await send(type="input_text.append", text="older", revision=1, event_id="e1")
            assert (await socket.error())["code"] == "revision_conflict"
            for fake in fakes:
                fake.crash()
            await socket.until("expert.updated")
            await send(type="input_text.clear")
            await send(type="response.cancel")
            await socket.error()
        seen = socket.seen
    for event in seen:
        validator("server-event").validate(event)
    for frame in sent:
        validator("client-frame").validate(frame)
    kinds = {event["type"] for event in seen}
    assert kinds >= {
        "session.created",
        "session.updated",
        "route.updated",
        "retrieval.updated",
        "prefill.updated",
        "draft.created",
        "draft.adopted",
        "expert.updated",
        "response.created",
        "response.output_text.delta",
        "response.output_text.done",
        "response.done",
        "error",
    }


async def test_schema_answers_of_http_sessions_are_valid(serve: Any, eventually: Any) -> None:
    request = {"model": "auto", "sampling": {"temperature": 0, "logit_bias": {"7": 1}}}
    text = {"text": "What is the port of Kestrel?", "revision": 1}
    assert accepts("session-create", request)
    assert accepts("session-input", text)
    async with serve(FakeExpert("small"), FakeExpert("big"), retriever=OnePassage()) as doors:
        status, session = await doors.post("/v1/live/sessions", request)
        assert status == 201
        validator("session").validate(session)
        path = f"/v1/live/sessions/{session['id']}"
        _, answer = await doors.ask("PUT", f"{path}/input", json=text)
        validator("session-status").validate(answer)

        async def drafted() -> bool:
            _, shown = await doors.ask("GET", path)
            validator("session").validate(shown)
            return shown["draft"] is not None

        for _ in range(200):
            if await drafted():
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("no draft")
        _, conflict = await doors.ask("PUT", f"{path}/input", json=text)
        validator("error").validate(conflict)
        _, deleted = await doors.ask("DELETE", path)
        validator("session-deleted").validate(deleted)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client-frame", {"type": "input_text.append", "text": "a", "txt": "b"}),
        ("client-frame", {"type": "input_text.append"}),
        ("client-frame", {"type": "input_text.prepend", "text": "a"}),
        ("client-frame", {"type": "input_text.append", "text": "a", "revision": -1}),
        ("client-frame", {"type": "session.update", "sampling": {"temperature": 3}}),
        ("session-input", {"text": "a", "final": True}),
        ("session-create", {"modle": "auto"}),
        ("server-event", {"type": "draft.created", "draft_id": "d", "expert": "e"}),
        (
            "server-event",
            {"type": "response.output_text.done", "response_id": "r", "text": "a", "more": 1},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schema_frame_that_no_side_sends_is_refused(name: str, value: Json) -> None:
    assert not accepts(name, value)


async def test_schema_and_server_refuse_the_same_frames(serve: Any) -> None:
    frames: list[Json] = [
        {"type": "input_text.append", "text": "a", "unknown": 1},
        {"type": "input_text.append", "text": 1},
        {"type": "input_text.replace", "text": "a", "revision": "1"},
        {"type": "input_text.commit", "event_id": "e" * 129},
        {"type": "session.update", "consensus": "majority"},
        {"type": "session.update", "sampling": {"stop": ["a"] * 65}},
        {"type": "session.update", "sampling": {"logit_bias": {"word": 1}}},
        {"type": "nothing"},
    ]
    async with serve() as doors, doors.live() as socket:
        for frame in frames:
            assert not accepts("client-frame", frame), frame
            await socket.send(**frame)
            assert (await socket.error())["type"] == "invalid_request_error", frame


def keys(schema: Json) -> set[str]:
    """Return the keys of all objects in a schema but consensus' own and what repeats others."""
    apart = {
        "ConsensusInForce",
        "ConsensusRequest",
        "Span",
        "Vote",
        "Abstention",
        "TokenLogprob",
        "SamplingInForce",
        "StructuredOutput",
    }
    parts = [schema, *(part for name, part in schema.get("$defs", {}).items() if name not in apart)]
    return {key for part in parts for key in part.get("properties", ())}


def test_protocol_page_names_every_frame_field_and_code() -> None:
    text = (FOLDER.parent / "protocol.md").read_text(encoding="utf-8")
    page = re.sub("```.*?```", "", text, flags=re.DOTALL)
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`", page))))
    fields = {key for schema in schemas().values() for key in keys(schema)}
    assert sorted(fields - named) == []
    frames = {
        part["properties"]["type"].get("const") or part["properties"]["type"]["enum"][0]
        for name in ("client-frame", "server-event")
        for part in schemas()[name]["$defs"].values()
        if set(part["properties"].get("type", ())) & {"const", "enum"}
    }
    frames -= {"message", "input_text", "function", "allowed_tools"}  # parts of others
    assert len(frames) == 35
    assert [frame for frame in sorted(frames) if f"`{frame}`" not in page] == []
    owners = ("errors.py", "session.py", "live_mind.py", "server/middleware.py", "server/live/*.py")
    source = "".join(
        path.read_text(encoding="utf-8")
        for owner in owners
        for path in (FOLDER.parents[1] / "orchestrator").glob(owner)
    )
    codes = set(re.findall(r'\bcode ?= ?"([a-z_]+)"', source)) | set(CODES.values())
    assert {"revision_conflict", "slow_client"} <= codes
    codes -= {"invalid_config", "not_found", "conflict"}  # defaults that no answer has
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []
