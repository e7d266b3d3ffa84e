"""``livemind check --run`` asks remote servers what they have, and says what lacking it costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from livemind.backends.remote.probe import abilities
from livemind.backends.spec import ExpertSpec
from livemind.backends.vllm.drafts import DRAFT
from livemind.orchestrator.cli import entry
from livemind.orchestrator.cli.check_run import remote_findings
from livemind.orchestrator.config.settings import Settings

TOKENS = list(range(11, 19))
ALL = {"details", "priorities", "drafts", "continuation", "ids"}


@asynccontextmanager
async def server(has: set[str]) -> AsyncIterator[str]:
    """A server of the model ``m`` with these abilities, as vLLM's has them."""
    seen: set[str] = set()

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "max_model_len": 4096}]})

    def refused(message: str) -> web.Response:
        return web.json_response({"error": {"message": message}}, status=400)

    async def chat(request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        if "continue_final_message" in body and "continuation" not in has:
            return refused("continue_final_message: unknown")
        if "priority" in body and "priorities" not in has:
            return refused("priority scheduling is not enabled")
        if not isinstance(body.get("priority", 0), int) and "ignores" not in has:
            return refused("priority: need an integer")
        text = body["messages"][-1]["content"]
        count = len(text.split()) + (0 if "continue_final_message" in body else 4)
        usage: dict[str, Any] = {"prompt_tokens": count, "completion_tokens": 1}
        if "details" in has and text in seen and count > 64:  # vLLM leaves out a zero
            usage["prompt_tokens_details"] = {"cached_tokens": count // 16 * 16}
        seen.add(text)
        if not body.get("stream"):
            choice = {"index": 0, "message": {"content": "x"}, "finish_reason": "length"}
            return web.json_response({"choices": [choice], "usage": usage})
        drafted = body.get("vllm_xargs", {}).get(DRAFT)
        step = 4 if drafted == TOKENS and "drafts" in has else 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for place in range(0, len(TOKENS), step):
            choice = {"index": 0, "delta": {"content": "w" * step}}
            if "ids" in has:
                choice["token_ids"] = TOKENS[place : place + step]
            await response.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("lacks", ["details", "priorities", "drafts", "continuation", "ids", ""])
async def test_abilities_are_those_that_the_server_shows(lacks: str) -> None:
    has = ALL - {lacks}
    async with server(has) as url:
        found = await abilities(ExpertSpec("e", kind="remote", model="m", base_urls=(url,)))
    assert found.tells_cached == ("details" in has)
    assert found.takes_priorities == ("priorities" in has)
    assert found.verifies_drafts == (None if lacks == "ids" else "drafts" in has)
    assert found.continues == ("continuation" in has)


async def test_server_that_ignores_what_it_does_not_know_has_no_priorities() -> None:
    """Some take any field without a word."""
    async with server(ALL | {"ignores"}) as url:
        found = await abilities(ExpertSpec("e", kind="remote", model="m", base_urls=(url,)))
    assert found.takes_priorities is False


def settings_of(url: str, **given: Any) -> dict[str, Any]:
    expert = {"expert_id": "far", "kind": "remote", "model": "m", "base_urls": [url], **given}
    return {"experts": [expert], "rag": {"enabled": False}}


async def test_findings_say_what_each_missing_ability_costs() -> None:
    async with server({"ids"}) as url:
        settings = Settings.model_validate(settings_of(url, verify_drafts=True))
        found = await asyncio.to_thread(remote_findings, settings)
    assert [(f.severity, f.code) for f in found] == [
        ("warning", "remote_continues"),
        ("info", "remote_tells_cached"),
        ("info", "remote_takes_priorities"),
        ("warning", "remote_verifies_drafts"),
    ]
    assert "--enable-prompt-tokens-details" in found[1].change
    assert all(f.where == "experts[0]" and f.value == "far" for f in found)


def test_check_run_of_a_server_that_is_not_there_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(settings_of("http://127.0.0.1:9")))
    assert entry.main(["check", str(file), "--json", "--run"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    failed = next(f for f in findings if f["code"] == "remote_failed")
    assert "127.0.0.1:9" in failed["why"]


def test_check_asks_no_server_unless_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(settings_of("http://127.0.0.1:9")))
    assert entry.main(["check", str(file), "--json"]) == 0
    codes = {f["code"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert not any(code.startswith("remote_") for code in codes)
