"""Answers with tools and forms on a real engine: whole, streamed, typed live, after a draft."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema
import pytest

from .asking import heard, in_every_way, livemind, with_drafts
from .conversations import body, form, wrong
from .tool_styles import write_style

pytest.importorskip("vllm", reason="needs the extra `cpu` or `gpu`")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHARE = 5


async def test_answers_with_tools_are_the_same_streamed_typed_and_drafted(tmp_path: Path) -> None:
    write_style(tmp_path / "model", "hermes")
    called = adopted = 0
    async with livemind(tmp_path / "model", json_whitespace=1) as ours:
        for number in range(SHARE):
            asked = body("hermes", number)
            wanted = heard(await ours.whole(asked))
            found, tokens = await in_every_way(ours, asked)
            assert found == dict.fromkeys(found, wanted), asked
            called += bool(wanted["calls"])
            adopted += tokens
        for number in range(SHARE):
            asked, schema = form(number)
            wanted = heard(await ours.whole(asked))
            jsonschema.validate(json.loads(wanted["text"]), schema)
            drafts = [wanted["text"], wrong(wanted["text"], random.Random(number))]
            found = await with_drafts(ours, asked, drafts)
            assert found == dict.fromkeys(found, wanted), asked
    assert called > 0
    assert adopted > 0
