"""What an operator learns: one line and one counter for each failed turn."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from livemind.backends.errors import ExpertError, ExpertUnavailable, PromptRejected
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.errors import ErrorInfo
from livemind.orchestrator.events import ResponseDone, to_wire

KEY = {"Authorization": "Bearer right"}


def sample(doors: Any, name: str, **labels: str) -> float | None:
    found: float | None = doors.state.metrics.registry.get_sample_value(name, labels)
    return found


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        (
            ExpertUnavailable("fake", "host-7: cannot be reached", shown="gone"),
            "expert_unavailable",
            "host-7: cannot be reached",
        ),
        (PromptRejected("fake", "private words", code="odd", shown="no"), "odd", "no"),
    ],
)
async def test_failed_turn_is_one_line_and_one_count(
    serve: Any,
    body: Any,
    both_ways: str,
    caplog: pytest.LogCaptureFixture,
    failure: ExpertError,
    code: str,
    told: str,
) -> None:
    fake = FakeExpert("fake")
    async with serve(fake, api_keys=["right"]) as doors:
        fake.refuse = failure
        caplog.set_level(logging.WARNING)
        _, answer = await doors.post("/v1/chat/completions", body(), headers=KEY)
        assert "host-7" not in str(answer)
        lines = [line for line in caplog.messages if " failed: " in line]
        assert len(lines) == 1, lines
        assert "key=key-1" in lines[0]
        assert f"expert=fake code={code}" in lines[0]
        assert lines[0].endswith(f"cause={told}")
        assert "private words" not in caplog.text
        assert sample(doors, "livemind_turn_failures_total", expert="fake", code=code) == 1
        assert sample(doors, "livemind_key_turns_total", key="key-1", status="failed") == 1


async def test_refused_request_is_counted_by_its_code(serve: Any) -> None:
    async with serve(api_keys=["right"]) as doors:
        await doors.ask("GET", "/v1/models")
        refused = {"key": "none", "code": "missing_api_key"}
        assert sample(doors, "livemind_refusals_total", **refused) == 1


def test_cause_of_an_error_does_not_leave_with_the_event() -> None:
    error = ErrorInfo(503, "gone", "server_error", None, "expert_unavailable", 1.0, "host-7")
    wire = to_wire(ResponseDone("r", 1, "failed", error=error))
    assert "host-7" not in str(wire)
