"""What every test of a session begins with: a strong expert, pinned, and a question."""

from __future__ import annotations

from typing import Any

from livemind.backends.fake import FakeExpert
from livemind.orchestrator.session import SessionOptions

PINNED = SessionOptions(pinned="strong")
QUESTION = "what is the port of kestrel?"


def strong(**given: Any) -> FakeExpert:
    return FakeExpert("strong", **{"prefill_token_s": 0.01, "token_s": 0.02, **given})
